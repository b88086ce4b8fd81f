"""`boostlib rehearse PROFILE`: what a profile's runs will do and cost, found out in two minutes instead of in hours.

Each boosting notebook (02, 03) is tried with its own options, tasks and arms on a small random model of its architecture: are
sampled and trained tokens the tokenizer's, does every prompt fit, does a killed run go on with other `micro_tokens`, does the
real model fit the card, and how long will it take. Not covered: how good it will be; what vLLM samples inside its process.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from boostlib import runs

CARD = 80e9  # bytes of the card where the real model is too large for this machine
SAMPLED, REACHED = (
    10_000,
    0.3e15,
)  # tokens/s of one H100 at 2.6 billion weights, FLOP/s in training: docs/scale.md assumes them
INSTEAD = {"gsm8k": "gsm_symbolic", "mbpp": "mbpp_mini"}  # where a task's files are out of reach
GEMMA = dict(
    hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8, num_key_value_heads=4
)
KNOWN = {"google/gemma-2-2b": dict(model_type="gemma2", vocab_size=256000, head_dim=256, sliding_window=4096, **GEMMA)}


@dataclass(frozen=True)
class Lengths:
    """Tokens of a task: the shared prefix; a prompt, and a response as long as a reference (means); the longest prompt."""

    shared: int
    prompt: float
    response: float
    longest: int


@click.command()
@click.argument("profile")
def rehearse(profile: str) -> None:
    """What PROFILE's runs will do and cost: tokens, lengths, resuming, memory, hours. Exit code 1 where one would fail.

    Nothing is left behind. Rates are those of the GPU at hand, or of this machine.
    """
    from boostlib.runner.parameters import choose, resolve

    try:
        socket.create_connection(("huggingface.co", 443), 3).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when its package is imported; else it asks again and again
    jobs = [resolve(path, profile, {}) for path in choose(("02", "03"), runs.project_root())]
    jobs = [job for job in jobs if job.parameters.get("model", "tiny") != "tiny"]
    if not jobs:
        raise click.UsageError(f"profile {profile} names no model in 02 and 03: there is nothing to rehearse")
    logging.getLogger("transformers").setLevel("ERROR")
    fine = True
    for job in jobs:
        click.echo(f"{job.notebook.stem}, profile {profile}")
        for ok, line in rehearsed(job.parameters, resume=job is jobs[0]):
            fine &= ok is not False
            click.echo(f"  {({None: '', True: 'ok    ', False: 'FAILS '})[ok]}{line}")
    raise SystemExit(not fine)


def rehearsed(p: Mapping[str, Any], resume: bool = True) -> Iterator[tuple[bool | None, str]]:
    """(fine or not, what was found) of one notebook's parameters; None: a fact. ``resume``: with the killed run."""
    from benchmarks.shapes import shaped, size
    from boostlib.learners.load import load_learner

    tasks, told = zip(*(task_of(p, split) for split in ("train", "test")), strict=True)
    config, tokenizer, replaced = model_of(
        p["model"], [q.prompt + q.reference for task in tasks for q in task.problems]
    )
    yield from ((None, line) for line in dict.fromkeys((*told, replaced)) if line)
    options = {x: value for x, value in (p.get("learner_options") or {}).items() if x != "ray"}
    if p.get("workers", 1) > 1:
        options.setdefault("threads", 1)  # as its processes have
    groups = config.num_attention_heads // kv_heads(config)
    heads = dict(num_attention_heads=2 * groups, num_key_value_heads=2, head_dim=16)
    tiny = dict(hidden_size=32 * groups, intermediate_size=128, num_hidden_layers=2, vocab_size=len(tokenizer), **heads)
    with tempfile.TemporaryDirectory() as place:
        folder = saved(shaped(config, **tiny), tokenizer, Path(place) / Path(p["model"]).name)
        learner = load_learner(folder, **options)
        yield from check_tokens(learner, tasks[0], p)
        checked = [check_lengths(learner, task, p, config.max_position_embeddings) for task in tasks]
        yield from ((ok, line) for ok, line, _ in checked)
        if resume:
            yield check_resuming(folder, options, p, Path(place) / "runs")
        at = checked[0][2]
        yield check_memory(config, options, p, at)
        source = "" if replaced else source_of(p["model"])
        measured = rates(config, tokenizer, source, options, p, tasks[0], Path(place) / "rates")
    yield from ((None, line) for line in bill(size(config), p, at, *measured))


# --- what is rehearsed ------------------------------------------------------------------------------------------------


def task_of(p: Mapping[str, Any], split: str) -> tuple[Any, str]:
    """The task of the profile, and "" or what stands in for it."""
    from boostlib.tasks import load_task

    n = p[f"n_{split}"]
    try:
        return load_task(p["task"], split, n=n, seed=0, **p.get("task_options", {})), ""
    except (OSError, ValueError) as error:
        if not (other := INSTEAD.get(p["task"])):
            raise
        why = str(error).splitlines()[0][:100]
        return load_task(other, split, n=min(n, 64), seed=0), f"{p['task']} is out of reach ({why}): {other} instead"


def source_of(name: str) -> str:
    """Folder or hub id of the real model."""
    from boostlib.learners.load import convert_smollm2

    return str(convert_smollm2(runs.project_root() / "runs" / "models")) if name == "smollm2-135m" else name


def model_of(name: str, texts: list[str]) -> tuple[Any, Any, str]:
    """Config and tokenizer of the real model, and ""; where it is out of reach its published shape, a tokenizer of its kind
    (BPE over bytes, ▁ for spaces, digits one by one, a start token) trained on the tasks, and words that say so."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

    folder = source_of(name)
    try:
        return AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), ""
    except (OSError, ValueError):
        if name not in KNOWN:
            raise ValueError(f"{name} can't be read, and its shape is known of {', '.join(KNOWN)} alone") from None
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Digits(individual_digits=True)]
    )
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=special[:4], initial_alphabet=[], show_progress=False)
    made.train_from_iterator((line for text in texts for line in text.split("\n")), trainer)
    made.add_tokens(special[4:])
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    named = {f"{x}_token": f"<{x}>" for x in ("pad", "eos", "bos", "unk")}
    config = AutoConfig.for_model(**KNOWN[name], pad_token_id=0, eos_token_id=1, bos_token_id=2)
    told = f"{name} is out of reach: its published shape, and a tokenizer of its kind trained on the tasks, instead"
    return config, PreTrainedTokenizerFast(tokenizer_object=made, **named), told


def saved(config: Any, tokenizer: Any, folder: Path) -> str:
    """A folder with a random model of this shape and the tokenizer."""
    from benchmarks.shapes import random

    random(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def kv_heads(config: Any) -> int:
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def room() -> tuple[float, str]:
    """Bytes that models have here, and whose they are."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory), "the card's"
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), "this machine's"


# --- checks -----------------------------------------------------------------------------------------------------------


def check_tokens(learner: Any, task: Any, p: Mapping[str, Any]) -> Iterator[tuple[bool | None, str]]:
    """Whether the model is given, in sampling and in training, exactly what its tokenizer makes of the whole text."""
    from boostlib.learners import Example, Sampling

    if type(learner).__name__ != "LMLearner":
        return (yield None, "another process samples: what tokens it is given was not checked")
    tokenizer, tokens, prefix = learner.tokenizer, learner.tokens, task.prefix(p["shots"])
    settings, seen = Sampling(max_new_tokens=8, prefix=prefix, stop=task.stop), []

    def ids(prompt: str, response: str = "") -> list[int]:
        if tokens.chat:
            said = [{"role": "user", "content": prompt}]
            prompt = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        return tokenizer(prompt + response, add_special_tokens=not tokens.chat)["input_ids"]

    right: dict[str, list[bool]] = {"sampled": [], "trained": []}
    learner.engine  # noqa: B018 (it is tried on a few tokens when first asked for)
    for n, problem in enumerate(task.problems[:4]):
        learner.load(None)  # forgets the prefix, so that it is read again
        note = lambda _, given: seen.append(given[0].flatten().tolist())  # noqa: E731
        learner.model.get_input_embeddings().register_forward_pre_hook(note)
        seen.clear()
        (response,) = learner.sample([problem.prompt], 1, keys=[(0, n)], sampling=settings)[0]
        whole = ids(prefix + problem.prompt)
        right["sampled"].append([i for part in seen for i in part][: len(whole)] == whole)
        for text, drawn in ((problem.reference, None), (response.text, response.ids)):
            seen.clear()
            learner.fine_tune([Example(problem.prompt, text, ids=drawn)], steps=1, batch_size=1, lr=1e-6, seed=0)
            whole = [*ids(problem.prompt), *drawn] if drawn else ids(problem.prompt, text)
            right["trained"].append(seen[-1] == [*whole, tokens.end])
    start = f"start token {tokenizer.bos_token!r}" if tokens.start else "no start token, as the tokenizer has it"
    for what, found in right.items():
        yield all(found), f"{what}: the tokenizer's own tokens in {sum(found)} of {len(found)} texts, {start}"


def check_lengths(learner: Any, task: Any, p: Mapping[str, Any], limit: int) -> tuple[bool, str, Lengths]:
    """Every prompt, with its prefix and the longest response, against the model's positions; and the task's lengths."""
    shared, ids = learner.tokens.prompts(task.prefix(p["shots"]), [q.prompt for q in task.problems])
    answers = [len(i) + 1 for i in learner.tokens.ids([q.reference for q in task.problems])]
    most = len(shared) + (p.get("max_new_tokens") or task.max_new_tokens)
    i = max(range(len(ids)), key=lambda i: len(ids[i]))
    found = Lengths(len(shared), sum(map(len, ids)) / len(ids), sum(answers) / len(ids), len(ids[i]))
    line = f"{task.name}: {len(ids)} prompts; {task.problems[i].id} may take {most + len(ids[i])} of {limit} positions"
    return most + len(ids[i]) <= limit, line, found


def small_run(folder: str, options: Mapping[str, Any], p: Mapping[str, Any], where: str) -> None:
    """The profile's arms on the small model, with four prompts and two rounds."""
    import boostlib as bl

    (train, _), (test, _) = (task_of({**p, "n_train": 4, "n_test": 4}, split) for split in ("train", "test"))
    common = {x: p[x] for x in ("k", "labeler", "shots") if x in p} | dict(steps=2, batch_size=4, max_new_tokens=8)
    bl.boost(train, test, folder, p["arms"], [0], 2, folder=where, learner_options=dict(options), show=False, **common)


def check_resuming(folder: str, options: Mapping[str, Any], p: Mapping[str, Any], where: Path) -> tuple[bool, str]:
    """A run that is killed after its first round goes on with half the `micro_tokens`, and nothing is computed twice."""
    half = max(1, options.get("micro_tokens", 1024) // 2)
    run = "import json, sys; from benchmarks.rehearse import small_run; small_run(*json.loads(sys.argv[1]))"
    child = subprocess.Popen([sys.executable, "-c", run, json.dumps([folder, options, p, str(where)])])
    while child.poll() is None and not [*where.rglob("round.json")]:
        time.sleep(0.02)
    child.kill()
    child.wait()
    kept = [path for name in ("round.json", "*.jsonl") for path in where.rglob(name) if path.name != "times.jsonl"]
    before = {path: path.stat().st_mtime_ns for path in kept}
    small_run(folder, {**options, "micro_tokens": half}, p, str(where))
    anew = sum(path.stat().st_mtime_ns != when for path, when in before.items())
    anew += len([*where.glob("*/*/manifest.json")]) - len(p["arms"]) - 1
    line = f"killed in its second round, a small run goes on with micro_tokens {half}: {anew} of {len(kept)} parts made anew"
    return not anew and any(path.name == "round.json" for path in kept), line


def check_memory(config: Any, options: Mapping[str, Any], p: Mapping[str, Any], at: Lengths) -> tuple[bool, str]:
    """Bytes of the real model at work: weights and stores by arithmetic, activations on fake tensors of the true sizes."""
    from benchmarks.shapes import activations, size

    n, layers, lora = size(config), config.num_hidden_layers, options.get("lora_rank", 0)
    micro, slots, half = options.get("micro_tokens", 1024), options.get("slots", 64), options.get("dtype") == "bfloat16"
    active = activations(config, round(at.prompt), round(at.response), micro, options)
    learned = 4 * lora * layers * (config.hidden_size + config.intermediate_size) if lora else n  # roughly, with LoRA
    tokens = slots * (p.get("max_new_tokens") or 256) + 2 * -(-slots // p["k"]) * at.longest + at.shared
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    store = 2 * tokens * layers * kv_heads(config) * width * (2 if half else 4)
    sampling = n * (6 if half else 4) + store + 12 * slots * config.vocab_size
    (limit, whose), workers = room(), p.get("workers", 1)
    limit, whose = (CARD, "an assumed card's") if 16 * n > limit else (limit, whose)
    before = 0 if "card" in whose else 4 * n  # to go back to: a card does not hold them
    training = 4 * n + before + 12 * learned + active  # weights; gradients, Adam's moments
    fits = max(training, sampling) * workers < limit
    line = (
        f"memory: training {training / 1e9:.1f} GB at micro_tokens {micro} (activations {active / 1e9:.1f}), sampling "
        f"{sampling / 1e9:.1f} GB at {slots} slots, {workers} at a time, of {whose} {limit / 1e9:.0f} GB"
    )
    return fits, line if fits else f"{line}: lower micro_tokens or slots, or set gradient_checkpointing"


# --- what the real run takes ------------------------------------------------------------------------------------------


def rates(config, tokenizer, source, options, p, task, place: Path) -> tuple[float, float, float, float, float | None]:
    """Tokens a second sampled, of prompts read, and trained, by the profile's own learner on the real model where it lies here,
    else on a random one of the real size, or, where memory is short, of a fraction of its weights, scaled by them; that
    fraction; tokens of the real model's responses (None: not here)."""
    from benchmarks.shapes import shaped, size
    from boostlib.learners import Example, Sampling
    from boostlib.learners.load import load_learner

    (limit, whose), there, here = room(), size(config), config
    on_card = whose == "the card's"
    if 24 * there > limit / (1 if on_card else 3):
        part = {x: getattr(config, x) // 4 for x in ("hidden_size", "intermediate_size", "num_hidden_layers")}
        here = shaped(config, **part, vocab_size=len(tokenizer), head_dim=config.head_dim // 4)
    share = size(here) / there
    real = share == 1 and Path(source).is_dir() and Path(source, "config.json").is_file()
    learner = load_learner(source if real else saved(here, tokenizer, place), **options)
    problems = task.problems[: max(1, learner.slots // p["k"])]

    def sampled(problems, k: int, tokens: int) -> tuple[int, float]:
        """Tokens and seconds."""
        settings = Sampling(max_new_tokens=tokens, prefix=task.prefix(p["shots"]), stop=task.stop)
        keys, start = [(0, n) for n in range(len(problems))], time.perf_counter()
        drawn = learner.sample([q.prompt for q in problems], k, keys=keys, sampling=settings)
        return sum(r.tokens for some in drawn for r in some), time.perf_counter() - start

    sampled(problems[:1], 1, 1)  # reads the prefix
    (first, short), (most, long) = (sampled(problems, p["k"], n) for n in (1, 129 if on_card else 9))
    read = sum(map(len, learner.tokens.ids([q.prompt for q in problems])))
    some = problems[: 16 if on_card else 8]
    answer = sampled(some, 2, p.get("max_new_tokens") or task.max_new_tokens)[0] / (2 * len(some)) if real else None
    n = p["batch_size"] if on_card else min(8, p["batch_size"])  # few would make too much of the optimiser's work
    examples = [Example(q.prompt, q.reference) for q in task.problems[:n]]
    for _ in range(1 + on_card):  # a card's first steps choose its kernels
        made = learner.fine_tune(examples, steps=1, batch_size=n, lr=1e-6, seed=0)
    trained = made["tokens"] / made["seconds"]
    return (most - first) / max(1e-9, long - short) * share, read / short * share, trained * share, share, answer


def bill(
    n: int, p: Mapping[str, Any], at: Lengths, fast: float, reading: float, training: float, share: float, answer: float | None,
) -> Iterator[str]:  # fmt: skip
    """The arithmetic of the real run of a model of ``n`` weights: responses, tokens, hours, bytes."""
    from boostlib.boosting.settings import arms_of, settings_of

    seeds, k, rounds = len(p["seeds"]), p["k"], p["rounds"]
    loops, labels = len(p["arms"]) * seeds, 0
    common = {x: p[x] for x in ("k", "budget", "labeler") if p.get(x) is not None}
    for arm, overrides in arms_of(p["arms"]).items():
        s = settings_of(arm, overrides, common)
        labels += seeds * rounds * s.round_budget(p["n_train"], p["n_train"]) * (s.labeler in ("base", "self"))
    later, greedy = loops * rounds * p["n_train"] * k, (1 + loops * rounds) * p["n_test"]
    responses = seeds * p["n_train"] * k + later + labels + greedy
    sampled, read = responses * (answer or at.response), (greedy + (responses - greedy) / k) * at.prompt
    trained = loops * rounds * p["steps"] * p["batch_size"] * (at.prompt + at.response)
    hours = (sampled / fast + read / reading) / 3600, trained / training / 3600
    side = min(p.get("workers", 1), loops)
    yield f"{responses:,} responses: {seeds * p['n_train'] * k:,} of f_0, {later:,} of later models, {labels:,} labels, {greedy:,} greedy"
    long = f"as long as a reference ({at.response:.0f})" if answer is None else f"always as long as now ({answer:.0f})"
    yield (
        f"{sampled / 1e6:,.1f} million tokens sampled, if a response is {long}; "
        f"{trained / 1e6:,.1f} million trained ({at.prompt + at.response:.0f} an example)"
    )
    of = "" if share == 1 else f" (from a model of {share:.1%} of the weights: no more than a hint)"
    yield f"tokens a second here{of}: {fast:,.1f} sampled, {reading:,.1f} of prompts read, {training:,.1f} trained"
    if share < 1:  # this machine is not meant for it
        hours, side = (sampled / (SAMPLED * 2.6e9 / n) / 3600, trained / (REACHED / 8 / n) / 3600), 1
    where = "here" if share == 1 else "on one H100 as docs/scale.md assumes it, not measured"
    yield (
        f"{sum(hours):,.1f} hours {where}: {hours[0]:,.1f} sampling, {hours[1]:,.1f} training; "
        f"{sum(hours) / side:,.1f} with {side} at a time, checks and loading beside"
    )
    files = loops + 2 * side
    yield f"{(responses * 400 + 4 * n * files) / 1e9:,.1f} GB of disk: {files} checkpoints of {4 * n / 1e9:.1f} GB, and the responses"
