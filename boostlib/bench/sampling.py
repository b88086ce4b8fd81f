"""Sampling: our engine against `generate` on the same prompts, 3-shot and zero-shot, and the tiny model's own.

Not covered: quality (the tests compare distributions), GPU servers.
"""

from __future__ import annotations

import resource
import time

import torch

from boostlib.bench import interleave, last_line, report
from boostlib.learners.lm import LMLearner, load_learner
from boostlib.tasks import load_task


def matmul_peak(n: int = 2048, repeats: int = 5) -> float:
    """Floating point operations a second of a large float32 matrix product: the machine's practical ceiling."""
    a, b, best = torch.randn(n, n), torch.randn(n, n), 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def generate(learner: LMLearner, prompts: list[str], k: int, prefix: str, max_new_tokens: int, batch: int) -> int:
    """transformers' own sampling, ``batch`` prompts at a time; returns the tokens up to each end token."""
    tokenizer, ends = learner.tokenizer, torch.tensor(sorted(learner._ends))
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
        pilot[batch] = generate(learner, prompts[:batch], k, prefix, max(8, max_new_tokens // 4), batch)
        pilot[batch] /= time.perf_counter() - start
    best, seeds = max(pilot, key=pilot.get), iter(range(10**6))
    sampled = []

    def ours() -> int:
        learner._changed()  # a new round: the joined weights and the prefix are made anew, and paid for
        seed = next(seeds)
        keys = [(seed, n) for n in range(len(prompts))]
        out = learner.sample(prompts, k, keys=keys, max_new_tokens=max_new_tokens, prefix=prefix)
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
        share_of_matmul_peak=share, tokens=sampled, prefix_tokens=len(learner._ids([prefix])[0]) if prefix else 0,
        pilot={b * k: rate for b, rate in pilot.items()},
    )  # fmt: skip
    print("  share of the matmul peak (linear layers): " + ", ".join(f"{n} {s:.0%}" for n, s in share.items()))
    return row


def run(
    *, model: str = "smollm2-135m", task: str = "gsm8k", prompts: int = 8, k: int = 8, max_new_tokens: int = 160,
    repeats: int = 3, shots: tuple[int, ...] = (3, 0), tiny: bool = True, cache: str = "runs/models",
) -> dict:  # fmt: skip
    """Tokens a second of both on ``prompts`` prompts, medians of ``repeats``."""
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
    last_line(**results, rows=rows, matmul_peak=peak, threads=torch.get_num_threads(), peak_gib=memory)
    return results | {"rows": rows}
