"""Sampling: our engine against `generate` on the same prompts, 3-shot and zero-shot, and the tiny model's own.

Not covered: quality (the tests compare distributions), GPU servers.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time

import torch

from benchmarks import interleave, last_line, report
from boostlib.learners import Example, Sampling
from boostlib.learners.lm import LMLearner
from boostlib.learners.load import load_learner
from boostlib.tasks import load_task


def matmul_peak(n: int = 2048, repeats: int = 5) -> float:
    """Floating point operations a second of a large float32 matrix product: the machine's practical ceiling."""
    a, b, best = torch.randn(n, n), torch.randn(n, n), 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def real_task() -> str:
    return "gsm8k" if os.environ.get("BOOSTLIB_DATA") else "gsm_symbolic"


def generate(learner: LMLearner, prompts: list[str], k: int, prefix: str, max_new_tokens: int, batch: int) -> int:
    """transformers' own sampling, ``batch`` prompts at a time; returns the tokens up to each end token."""
    tokenizer, ends = learner.tokenizer, torch.tensor(sorted(learner.tokens.ends))
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokens = 0
    for start in range(0, len(prompts), batch):
        inputs = tokenizer([prefix + p for p in prompts[start : start + batch]], return_tensors="pt", padding=True)
        out = learner.model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, num_return_sequences=k, do_sample=True,
            top_k=0, top_p=1.0, temperature=1.0, max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id,
        )[:, inputs.input_ids.shape[1] :]  # fmt: skip
        ended = torch.isin(out, ends).int()
        tokens += int((ended.cumsum(1) - ended == 0).sum())
    return tokens


def compare(
    learner: LMLearner, title: str, prompts: list[str], k: int, prefix: str, max_new_tokens: int, repeats: int,
    batches: tuple[int, ...], peak: float,
) -> dict:  # fmt: skip
    """Both contenders on the same prompts; `generate` at the best of ``batches`` (prompts side by side)."""
    pilot = {}
    for batch in [b for b in batches if b <= len(prompts)]:
        start = time.perf_counter()
        pilot[batch] = generate(learner, prompts[:batch], k, prefix, max(8, max_new_tokens // 8), batch)
        pilot[batch] /= time.perf_counter() - start
    best, seeds = max(pilot, key=pilot.get), iter(range(10**6))
    sampled = []

    def ours() -> int:
        learner._sampler = None  # a new round: the joined weights and the prefix are made anew, and paid for
        seed = next(seeds)
        keys = [(seed, n) for n in range(len(prompts))]
        out = learner.sample(prompts, k, keys=keys, sampling=Sampling(max_new_tokens=max_new_tokens, prefix=prefix))
        sampled.append(sum(r.tokens for group in out for r in group))
        return sampled[-1]

    def theirs() -> int:
        torch.manual_seed(next(seeds))
        return generate(learner, prompts, k, prefix, max_new_tokens, best)

    rates = interleave({"boostlib": ours, f"generate, batch {best * k}": theirs}, repeats)
    flops = 2 * sum(p.numel() for p in learner.model.parameters())
    share = {name: sorted(r)[len(r) // 2] * flops / peak for name, r in rates.items()}
    row = report(
        f"Sampling, {title}, k = {k}", "tokens", rates, f"generate, batch {best * k}",
        share_of_matmul_peak=share, tokens=sampled, prefix_tokens=len(learner.tokens.ids([prefix])[0]) if prefix else 0,
        pilot={b * k: rate for b, rate in pilot.items()},
    )  # fmt: skip
    print("  share of the matmul peak (linear layers): " + ", ".join(f"{n} {s:.0%}" for n, s in share.items()))
    return row


def side_by_side(repeats: int = 3) -> dict:
    """Two seeds of the tiny model in two processes at one thread each, against one alone: seconds, and their ratio."""
    command, alone, together = [sys.executable, "-m", __name__], [], []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    for _ in range(repeats):
        alone.append(float(start().communicate()[0]))
        together.append(max(float(child.communicate()[0]) for child in [start(), start()]))
    seconds = {"alone": statistics.median(alone), "two at once": statistics.median(together)}
    ratio = seconds["two at once"] / seconds["alone"]
    print(f"\nTiny model, a seed a process, one thread each: {seconds['alone']:.1f} s alone, "
          f"{seconds['two at once']:.1f} s two at once ({ratio:.2f}x)")  # fmt: skip
    return {"seconds": seconds, "ratio": ratio}


def one_seed() -> float:
    """Seconds of a small round of the tiny model (sampling, then fine-tuning) on one thread."""
    learner, task = load_learner("tiny", threads=1), load_task("arithmetic", "train", n=300)
    examples = [Example(p.prompt, p.reference) for p in task.problems]
    start = time.perf_counter()
    keys = [(n,) for n in range(len(examples))]
    learner.sample([e.prompt for e in examples], 8, keys=keys, sampling=Sampling(max_new_tokens=task.max_new_tokens))
    learner.fine_tune(examples, steps=60, batch_size=32, lr=1e-3, seed=0)
    return time.perf_counter() - start


def run(
    *, model: str = "smollm2-135m", task: str | None = None, prompts: int = 4, k: int = 8, max_new_tokens: int = 160,
    repeats: int = 3, shots: tuple[int, ...] = (3, 0), tiny: bool = True, cache: str = "runs/models",
) -> dict:  # fmt: skip
    """Tokens a second of both on ``prompts`` prompts, medians of ``repeats``; about 8 minutes on 2 cores, most of
    them `generate`'s. Fewer prompts would be quicker and leave rows empty: ours needs 32 to show what it does.
    ``task`` None: gsm8k where its files are (BOOSTLIB_DATA), else gsm_symbolic."""
    task = task or real_task()
    peak = matmul_peak()
    print(f"{torch.get_num_threads()} threads, matmul peak {peak / 1e9:.0f} GFLOP/s")
    rows = {}
    if shots:
        learner, problems = load_learner(model, cache=cache), load_task(task, "train", n=prompts)
        texts = [p.prompt for p in problems.problems]
        for s in shots:
            name = f"{s}-shot" if s else "zero-shot"
            rows[name] = compare(learner, f"{model}, {name} {task}", texts, k, problems.prefix(s), max_new_tokens,
                                 repeats, (1, 2, 4, 8), peak)  # fmt: skip
    if tiny:
        problems = load_task("arithmetic", "train", n=256)
        texts = [p.prompt for p in problems.problems]
        rows["tiny"] = compare(load_learner("tiny"), "tiny, arithmetic", texts, k, "", problems.max_new_tokens,
                               repeats, (8, 32, 128, 256), peak)  # fmt: skip
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process {memory:.1f} GiB")
    results = {"ratios": {name: row["ratio"]["boostlib"] for name, row in rows.items()}}
    pair = side_by_side(repeats) if tiny else None
    last_line(
        **results, rows=rows, side_by_side=pair, matmul_peak=peak, threads=torch.get_num_threads(), peak_gib=memory
    )
    return results | {"rows": rows}


if __name__ == "__main__":
    print(one_seed())
