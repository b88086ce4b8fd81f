"""One round where every prompt gets m labels (`uniform`), so that a prompt can hold S+ and D at once.

Algorithm 2 weighs an S+ example by (1 - alpha) / |S+| and a D example by alpha / |D|. The totals tie all prompts
together; with many prompts they settle at their expectations, and the chain below is exact in that limit (``pooled``).
With a per-prompt alpha (not ``pooled``) it is exact for any number of prompts.

Not covered: policies that look at the samples, budgets that are not m a prompt (monte_carlo).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from boostlib.theory.chain import Round, _outcomes, outcome_law


def forward_mixed(
    rnd: Round,
    laws: np.ndarray,
    weights: np.ndarray,
    classes: np.ndarray,
    rounds: int,
    alpha: float | None,
    pooled: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields, for t = 0..rounds, laws over kinds of responses (v, kinds) and their mass (classes, v).

    ``laws`` (n, kinds) with ``weights`` (n,) and ``classes`` (n,) describe p_0; `Round.m` labels go to every prompt.
    """
    kinds = rnd.kinds
    sampled_counts = _outcomes(rnd.k, kinds, False)[0][:, None, :kinds]
    label_counts = _outcomes(rnd.m, kinds, not rnd.filter_labels)[0][None, :, :kinds]
    s_count, d_count = sampled_counts.sum(-1), label_counts.sum(-1)
    keep = rnd.keep if rnd.filter_labels else np.ones(kinds)
    n_classes = int(classes[-1]) + 1
    mass = np.zeros((n_classes, len(laws)))
    mass[classes, np.arange(len(laws))] = weights
    for t in range(rounds + 1):
        yield laws, mass
        if t == rounds:
            return
        labelers = [laws] * n_classes if rnd.labeler is None else list(rnd.labeler[:, None])
        sampled = outcome_law(laws, rnd.keep, rnd.k)  # (outcomes of samples, laws)
        labeled = [outcome_law(law, keep, rnd.m, not rnd.filter_labels) for law in labelers]

        if alpha is None:
            w_s, w_d = np.float64(1), np.float64(1)
        else:  # the weight of one example; within a prompt without pooling, over all prompts with it
            s_total = rnd.k * (mass.sum(0) @ (laws @ rnd.keep)) if pooled else s_count
            kept = sum((mass[c] * (labelers[c] @ keep)).sum() for c in range(n_classes))
            d_total = rnd.m * kept if pooled else d_count
            with np.errstate(divide="ignore", invalid="ignore"):
                w_s = np.where(np.equal(s_total, 0), 0, (1 - alpha) / s_total)
                w_d = np.where(np.equal(d_total, 0), 0, alpha / d_total)
        total = w_s * s_count + w_d * d_count
        idle = (total <= 0).astype(float)
        learnt = w_s[..., None] * sampled_counts + w_d[..., None] * label_counts
        learnt = learnt[total > 0] / total[total > 0][:, None]

        reached, waiting = [], []
        for c in range(n_classes):
            joint = (sampled * mass[c]) @ np.broadcast_to(labeled[c], (labeled[c].shape[0], len(laws))).T
            reached.append(joint[total > 0])
            waiting.append(mass[c] * ((idle @ labeled[c]) * sampled).sum(0))
        laws = rnd.age(np.concatenate([learnt, laws]), 1)
        mass = np.concatenate([np.array(reached), np.array(waiting)], 1)
        laws, mass = _merged(laws, mass)


def _merged(laws: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal laws made one, those without mass dropped."""
    used = mass.any(0)
    laws, mass = laws[used], mass[:, used]
    if laws.shape[1] == 2:
        _, first, where = np.unique(laws[:, 0], return_index=True, return_inverse=True)
    else:
        _, first, where = np.unique(laws, axis=0, return_index=True, return_inverse=True)
    return laws[first], np.array([np.bincount(where.ravel(), row, first.size) for row in mass])
