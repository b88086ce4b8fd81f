"""Any causal language model of transformers as a learner.

Not covered: where models come from (load), what tokens are (tokens), how drawn (engine) or trained (training)."""

import copy
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from boostlib import runs
from boostlib.learners import Response, Sampling, training
from boostlib.learners.drawing import by_generate
from boostlib.learners.engine import Engine, drives
from boostlib.learners.tokens import Tokens

CHAT = r"instruct|chat|\bit\b"  # in the last part of a model's name
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
logging.disable_progress_bar()  # of reading and writing weights: seconds, and a line in every notebook


class LMLearner:
    """A causal LM that samples and learns (see `boostlib.learners.Learner` for the contract).

    Weights are kept in float32; ``dtype="bfloat16"`` computes in bfloat16 (sampling on a rounded copy, training under
    autocast). ``lora_rank > 0`` trains a LoRA adapter on all linear layers in each `fine_tune` and merges it then.
    ``chat``: prompts go through the chat template, and a response ends with its turn; None: where there is a template
    and the model's name says instruct, chat or it, which is told. ``slots``: samples run side by side.
    ``micro_tokens``: padded tokens in one backward pass, the rest is accumulated."""

    def __init__(
        self, name: str, model: nn.Module, tokenizer, *, source: Path | str | None = None, revision: str | None = None,
        dtype: str = "float32", lora_rank: int = 0, chat: bool | None = None, gradient_checkpointing: bool = False,
        slots: int = 64, micro_tokens: int = 1024, device: str | None = None,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise ValueError(f"unknown dtype {dtype!r}: one of {', '.join(DTYPES)}")
        if slots < 1 or micro_tokens < 1 or lora_rank < 0:
            given = f"slots ({slots}) and micro_tokens ({micro_tokens}) are at least 1, lora_rank ({lora_rank}) 0"
            raise ValueError(given)
        self.name, self.tokenizer, self.dtype = name, tokenizer, DTYPES[dtype]
        self.lora_rank, self.gradient_checkpointing = lora_rank, gradient_checkpointing
        self.slots, self.micro_tokens, self._source, self._revision = slots, micro_tokens, source, revision
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if chat is None:
            chat = bool(tokenizer.chat_template and re.search(CHAT, Path(source or name).name, re.IGNORECASE))
            if chat:
                print(f"{name}: prompts go through its chat template (chat=False leaves them as they are)")
        ends = model.generation_config.eos_token_id
        self.tokens = Tokens(tokenizer, ends if isinstance(ends, list) else [] if ends is None else [ends], chat)
        self._set(model)
        # A model made in code has no folder to go back to: keep its first weights.
        self._first = None if source else {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _set(self, model: nn.Module) -> None:
        # Several processes train it in shards: it may be too large for one card.
        self.model = (model if training.processes(self.device)[1] > 1 else model.to(self.device)).eval()
        self._sampler: Callable[..., list[list]] | None = None
        self._fingerprint: str | None = None

    def sample(self, prompts, k, *, keys, sampling=Sampling(), progress=None) -> list[list[Response]]:
        """See `Learner.sample`. Raises ValueError for an empty prompt, k below 1, as many keys as prompts missing, and
        text that does not fit the model's positions."""
        if k < 1 or len(keys) != len(prompts):
            raise ValueError(f"k ({k}) is at least 1, and {len(prompts)} prompts need as many keys ({len(keys)})")
        if not prompts:
            return []
        shared, ids = self.tokens.prompts(sampling.prefix, prompts)
        self._fits("prompt", [len(shared) + len(i) + sampling.max_new_tokens for i in ids])
        return self._draw(ids, k, keys, shared, sampling, progress)

    def _draw(self, ids, k, keys, shared, sampling, progress) -> list[list[Response]]:
        if self._sampler is None:
            model = self.model.to(self.device)
            if self.dtype != torch.float32:  # a rounded copy; buffers (the rotations' frequencies) stay exact
                model = copy.deepcopy(model)
                for p in model.parameters():
                    p.data = p.data.to(self.dtype)
            if self.engine == "boostlib":
                self._sampler = Engine(model, self.slots).sample
            else:
                self._sampler = functools.partial(by_generate, model, self.slots, self.tokens.ends)
        drawn = self._sampler(ids, k, keys, sampling, shared, self.tokens.ended(sampling.stop), progress)
        return [[self.tokens.response(sample, sampling.stop) for sample in group] for group in drawn]

    @functools.cached_property
    def engine(self) -> str:
        """What samples: "boostlib" or, for architectures that our engine can't drive, "generate" (which is told)."""
        if drives(self.model):
            return "boostlib"
        kind = self.model.config.model_type
        print(f"{self.name}: sampled by `generate`, several times slower: the engine can't drive {kind}")
        return "generate"

    def _fits(self, what: str, lengths: Sequence[int]) -> None:
        limit, longest = getattr(self.model.config, "max_position_embeddings", None), max(lengths)
        if limit and longest > limit:
            n = lengths.index(longest)
            raise ValueError(f"{what} {n} and its response may take {longest} tokens, the model has {limit} positions")

    def fine_tune(self, examples, *, steps, batch_size, lr, seed, schedule="linear", progress=None) -> dict[str, float]:
        """See `Learner.fine_tune`. ``steps * batch_size`` draws are spread over the examples in proportion to weight
        (`training.draws`). ``schedule``: "linear" (5% of the steps rising, then down to 0), "cosine" or "constant".
        Returns what `training.train` does. Raises ValueError for empty examples, RuntimeError where the loss or a
        weight is no number any more. Whatever ends it early, an interrupt too, the learner is then as before."""
        if steps < 1 or batch_size < 1:
            raise ValueError(f"steps ({steps}) and batch_size ({batch_size}) are at least 1")
        rows = self.tokens.rows(examples)
        self._fits("example", [len(p) + len(r) for p, r in rows])
        self._sampler = None  # its memory is needed
        model = copy.deepcopy(self.model.to("cpu"))  # what to go back to takes no room on a card
        if self.lora_rank:
            import peft

            torch.manual_seed(0)
            r, which = self.lora_rank, {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
            model = peft.get_peft_model(model, peft.LoraConfig(r=r, lora_alpha=2 * r, **which))
        if self.gradient_checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        weights, place = [e.weight for e in examples], (self.device, self.micro_tokens, self.dtype != torch.float32)
        result = training.train(model, rows, weights, steps, batch_size, lr, seed, schedule, *place, progress)
        if self.gradient_checkpointing:
            model.activation_checkpointing_disable()
        if self.lora_rank:
            model = model.merge_and_unload().requires_grad_(True)
        if broken := _not_finite(model):
            raise RuntimeError(f"after {steps} steps at lr {lr} {broken}: the learner is as before; try a lower lr")
        self._set(model)
        return result

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
        """See `Learner.load`. ValueError, and the learner stays as it is, where weights are missing or broken."""
        if folder is None and self._first is not None:
            self.model.load_state_dict(self._first)
            self._set(self.model)
        else:
            self._set(read_model(folder or self._source, None if folder else self._revision))

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, weight in sorted(self.model.named_parameters()):
                digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
                digest.update(weight.detach().cpu().contiguous().numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def _not_finite(model: nn.Module) -> str:
    """Which weights are no numbers, in words; "" where all are."""
    names = [name for name, p in model.named_parameters() if not p.detach().isfinite().all()]
    return f"{len(names)} weights are not finite ({', '.join(names[:3])})" if names else ""


def read_model(source: Path | str, revision: str | None = None) -> nn.Module:
    """A causal LM in float32 from a folder or the hub. Raises ValueError where it can't be read whole."""
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ValueError(f"{source} is not a model folder: it has no config.json")
    how = {"revision": revision or "main", "dtype": torch.float32, "output_loading_info": True}
    try:
        model, facts = AutoModelForCausalLM.from_pretrained(source, **how)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"can't read a model from {source}: {first}") from error
    missing, others = (sorted(facts[f"{kind}_keys"]) for kind in ("missing", "unexpected"))
    if missing:
        instead = f"; it has {', '.join(others[:3])} ... instead" if others else ""
        raise ValueError(f"{source} lacks {len(missing)} weights of the model ({', '.join(missing[:3])} ...){instead}")
    if broken := _not_finite(model):
        raise ValueError(f"can't use the model of {source}: {broken}")
    return model
