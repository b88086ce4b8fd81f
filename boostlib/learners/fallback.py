"""Sampling through `generate`, for the architectures that the fast engine can't drive.

Not covered: speed (every prefix and prompt is computed k times, ended samples wait for the others).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from boostlib.learners.engine import Sample, draw, uniforms


@torch.inference_mode()
def generate_sampler(
    model, slots, prompts, k, keys, temperature, max_new_tokens, prefix, ended, ends, progress=None
) -> list[list[Sample]]:
    """What `Engine.sample` does, through `generate`, for architectures that the engine can't drive: the same
    randomness, but every prefix and prompt computed k times."""
    jobs = [Sample(i, j) for i in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])) for j in range(k)]
    results: list[list[Sample]] = [[] for _ in prompts]
    for start in range(0, len(jobs), slots):
        batch = jobs[start : start + slots]
        texts = [[*prefix, *prompts[s.i]] for s in batch]
        L = max(map(len, texts))
        ids = torch.tensor([[*[0] * (L - len(t)), *t] for t in texts], device=model.device)
        mask = torch.tensor([[*[0] * (L - len(t)), *[1] * len(t)] for t in texts], device=model.device)
        u = torch.from_numpy(np.stack([uniforms(keys[s.i], s.j, max_new_tokens) for s in batch])).to(model.device)
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0,
            eos_token_id=sorted(ends), logits_processor=[_keyed(u, L, temperature)],
        )  # fmt: skip
        for sample, row in zip(batch, out[:, L:].tolist(), strict=True):
            n = next((n for n in range(1, len(row) + 1) if ended(row[:n])), None)
            sample.tokens, sample.finished = row[:n], n is not None
            results[sample.i].append(sample)
        if progress is not None:
            progress(len(batch), sum(len(s.tokens) for s in batch))
    return results


def _keyed(u: Tensor, start: int, temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A logits processor that leaves only the token our own generator draws: greedy search then picks that."""

    def process(input_ids: Tensor, scores: Tensor) -> Tensor:
        token = draw(scores.float(), u[:, input_ids.shape[1] - start], temperature)
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)

    return process
