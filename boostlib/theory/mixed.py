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
    p: np.ndarray,
    weights: np.ndarray,
    classes: np.ndarray,
    rounds: int,
    alpha: float | None,
    pooled: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields, for t = 0..rounds, values of p_t (v,) and their mass (classes, v).

    ``p`` (n,) with ``weights`` (n,) and ``classes`` (n,) describe p_0; `Round.m` labels go to every prompt.
    """
    a, b = _outcomes(rnd.k, 2, False)[0][:, :2].T[:, :, None]
    u, v = _outcomes(rnd.m, 2, not rnd.filter_labels)[0][:, :2].T[:, None, :]
    keep = rnd.keep if rnd.filter_labels else np.ones(2)
    n_classes = int(classes[-1]) + 1
    mass = np.zeros((n_classes, p.size))
    mass[classes, np.arange(p.size)] = weights
    values = p.astype(float)
    for t in range(rounds + 1):
        yield values, mass
        if t == rounds:
            return
        laws = np.stack([values, 1 - values], 1)
        sampled = outcome_law(laws, rnd.keep, rnd.k)  # (outcomes of samples, values)
        if rnd.labeler is None:
            label_of = laws[None]  # the prompt's own law
            label_weight = mass
        else:
            label_of, label_weight = rnd.labeler[:, None], mass.sum(1, keepdims=True)
        labeled = [outcome_law(laws, keep, rnd.m, not rnd.filter_labels) for laws in label_of]
        if len(labeled) == 1:
            labeled *= n_classes
        # weights of one example, up to the factor they share within a prompt
        if pooled:
            s_total = rnd.k * (mass.sum(0) @ (laws @ rnd.keep))
            d_total = rnd.m * (label_weight[:, :, None] * label_of * keep).sum()
        else:
            s_total, d_total = a + b, u + v
        with np.errstate(divide="ignore", invalid="ignore"):
            w_s = np.where(np.equal(s_total, 0), 0, (1 - alpha) / s_total) if alpha is not None else 1.0
            w_d = np.where(np.equal(d_total, 0), 0, alpha / d_total) if alpha is not None else 1.0
            total = w_s * (a + b) + w_d * (u + v)
            right = (w_s * a + w_d * u) / total
        has_data = total > 0
        joint = np.empty((n_classes, a.size, u.size))
        waiting = np.empty_like(mass)
        idle = ~has_data
        for c in range(n_classes):
            if rnd.labeler is None:
                joint[c] = (sampled * mass[c]) @ labeled[c].T
                waiting[c] = mass[c] * np.einsum("sv,sl,lv->v", sampled, idle.astype(float), labeled[c])
            else:
                joint[c] = (sampled @ mass[c])[:, None] * labeled[c][:, 0]
                waiting[c] = mass[c] * (sampled.T @ idle @ labeled[c][:, 0])
        new_values = np.concatenate([right[has_data], values]) * (1 - rnd.eta)
        new_mass = np.concatenate([joint[:, has_data], waiting], 1)
        values, where = np.unique(new_values, return_inverse=True)
        mass = np.zeros((n_classes, values.size))
        for c in range(n_classes):
            mass[c] = np.bincount(where, new_mass[c], values.size)
        used = mass.any(0)
        values, mass = values[used], mass[:, used]
