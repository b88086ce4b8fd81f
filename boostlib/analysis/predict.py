"""The theory's prediction of a run, from what its rounds 0 and 1 measure.

Predictors of the accuracy of one sample on the training prompts, E[p_t]:

- transfer: skills that teach each other (`theory.transfer`), from the accuracy by level at round 1. Memory, transfer and
  interference are fitted to round 1 of two arms (`FIT_ON`), all seeds together; all arms share them.
- elsewhere: the same, fitted to all other seeds; in a study where a seed is a pretrained model, to other models.
- transfer_0: as transfer, from round 0: nothing that the arm's own training did is known.
- tabular: the exact chain, memory inf and nothing else, from round 0; nothing is fitted.
- round_1, round_0: nothing changes any more. What a prediction must beat.

Not covered: measuring the inputs (measure, experiment.levels), the models (theory).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq, least_squares

from boostlib.analysis.intervals import mean_interval, paired
from boostlib.theory import BetaLaw, Dynamics, distributions
from boostlib.theory.transfer import Transfer, by_skill, novelty

PREDICTORS = {
    "transfer": "transfer, fitted on two arms",
    "elsewhere": "transfer, fitted on other seeds",
    "transfer_0": "transfer, from round 0",
    "tabular": "tabular, nothing fitted",
    "round_1": "round 1 stays",
    "round_0": "round 0 stays",
}
FIT_ON = ("filter_only", "boosting")
KNOWN = dict(init_from=["previous"], accumulate=[False], dedup=[False], max_per_prompt=[None], temperature=[1])
KNOWN |= {"policy": ["hard", "uniform"], "labels_per_prompt": [None]}


def why_not(settings: Mapping[str, Any]) -> str:
    """What the theory does not hold of an arm's settings (`Settings.identity`); "" where it holds all."""
    unlike = [f"{name} = {settings[name]!r}" for name, known in KNOWN.items() if settings[name] not in known]
    return f"the theory does not know {', '.join(unlike)}" if unlike else ""


Curve = Callable[
    [Transfer, int], np.ndarray
]  # accuracy by skill, (rounds + 1, skills), of a learner from some round on


def skills_of(
    levels: pd.DataFrame, settings: Mapping[str, Any], loss: float, rate: float = 1.0, new: float | None = None
) -> tuple[Curve, np.ndarray, float]:
    """What `theory.transfer` says of an arm from one round on, the share of prompts in each skill, and ``new``, by default as
    measured on this round. ``levels``: its
    rows of `experiment.levels`; ``loss``: the first of the training on that round; ``rate``: steps x learning rate, in units of
    those that the learner was fitted at. Raises ValueError for settings that the theory does not hold."""
    if why := why_not(settings):
        raise ValueError(why)
    n, asked, right = (levels[name].to_numpy(float) for name in ("n_prompts", "labels", "labels_right"))
    beta = (right + (right.sum() + 0.5) / (asked.sum() + 1)) / (asked + 1)  # a level that was not asked: as all are
    own = {name: settings[name] for name in ("k", "gamma_fp", "gamma_fn", "alpha", "policy", "weak_data")}
    d = Dynamics(beta="self" if settings["labeler"] == "self" else beta, m=int(asked.any()), **own)
    p0 = [law_of(*seen, d, 0.5 / d.k) for seen in zip(levels["sampled"], levels["failed"], n, strict=True)]
    share, loss = n / n.sum(), None if pd.isna(loss) else float(loss)
    asked = asked.sum() / n.sum() if asked.any() else None
    more = {"labels": asked, "loss": loss, "new": min(1, novelty(d, p0, share, asked, loss)) if new is None else new}
    return lambda learner, rounds: by_skill(d, learner.times(rate), p0, share, rounds, **more), share, more["new"]


def law_of(p: float, failed: float, n: float, d: Dynamics, least: float) -> BetaLaw:
    """The Beta law of mean p (``least`` / n off 0 and 1 at least) by which ``failed`` of n prompts have no accepted sample; where
    all are accepted that says nothing, and a + b is 1."""
    p = float(np.clip(p, least / n, 1 - least / n))

    def law(size: float) -> BetaLaw:
        return BetaLaw(p * np.exp(size), (1 - p) * np.exp(size))

    def off(size: float) -> float:
        x, w = distributions.support(law(size), 60)
        return w @ (1 - x * (1 - d.gamma_fn) - (1 - x) * d.gamma_fp) ** d.k - failed / n

    ends = (-3.0, 5.0)  # the wider the law, the more fail
    if d.gamma_fp == 1:
        return law(0.0)
    return law(brentq(off, *ends, xtol=1e-3) if off(ends[0]) > 0 > off(ends[1]) else ends[int(off(ends[1]) >= 0)])


def fit_transfer(told: Iterable[tuple[Curve, np.ndarray, np.ndarray]]) -> Transfer:
    """Least squares of memory, transfer and interference; told: arms' `skills_of`, and accuracy by skill a round later."""
    told = list(told)

    def off(x: np.ndarray) -> np.ndarray:
        learner = Transfer(*np.exp(x).tolist())
        return np.concatenate([np.sqrt(share) * (curve(learner, 1)[1] - after) for curve, share, after in told])

    found = least_squares(off, [0.0, -0.5, 0.5], bounds=(-6, [7, 3, 3]), diff_step=1e-3, ftol=1e-5, xtol=1e-4)
    return Transfer(*np.exp(found.x).tolist())


def predict(
    table: pd.DataFrame, levels: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]], fit_on: Sequence[str] = FIT_ON
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predictions for the rows of a round table with rounds 0 and 1 at least: arm, seed, round, predictor, predicted, measured;
    those of `transfer` by level; what was fitted: without (the seed left out), memory, transfer, interference. Arms that the
    theory does not hold are left out. Raises ValueError where an arm to fit on, or its round 1, is missing."""
    rows = {key: part.sort_values("level") for key, part in levels.groupby(["arm", "seed", "round"])}
    losses = table.set_index(["arm", "seed", "round"])["loss_first"]
    rate = {arm: s["steps"] * s["lr"] for arm, s in settings.items()}
    seeds = sorted({seed for arm, seed, t in rows if arm == fit_on[0] and t == 1})
    if not seeds or any((arm, seed, 1) not in rows for arm in fit_on for seed in seeds):
        raise ValueError(f"transfer is fitted to round 1 of {' and '.join(fit_on)}: run these arms, a round at least")

    def at(arm: str, seed: int, t: int, new: float | None = None) -> tuple[Curve, np.ndarray, float]:
        return skills_of(rows[arm, seed, t], settings[arm], losses[arm, seed, t], rate[arm] / rate[fit_on[0]], new)

    told = {s: [(*at(a, s, 0)[:2], rows[a, s, 1]["sampled"].to_numpy()) for a in fit_on] for s in seeds}
    learner = fit_transfer(chain.from_iterable(told.values()))
    others = {s: fit_transfer(chain.from_iterable(told[o] for o in seeds if o != s)) for s in seeds if len(seeds) > 1}
    totals, by_level = [], []
    for (arm, seed), part in table.groupby(["arm", "seed"], sort=False):
        if why_not(settings[arm]) or seed not in told or (arm, seed, 1) not in rows:
            continue
        truth = part.sort_values("round")["train_accuracy"].to_numpy()
        last, (zero, share, new) = len(truth) - 1, at(arm, seed, 0)
        one = at(arm, seed, 1, new)[0]
        curves = {
            "transfer": (by_skill_1 := one(learner, last - 1)) @ share,
            "elsewhere": one(others[seed], last - 1) @ share if others else None,
            "transfer_0": zero(learner, last) @ share,
            "tabular": zero(Transfer(), last) @ share,
            "round_1": np.full(last, truth[1]),
            "round_0": np.full(last + 1, truth[0]),
        }
        of = {"arm": arm, "seed": seed}
        for name, y in curves.items():
            if y is not None:
                padded = np.r_[np.full(last + 1 - len(y), np.nan), y]  # from round 1 on: nothing is said of round 0
                rest = {"round": range(last + 1), "predictor": name, "predicted": padded, "measured": truth}
                totals.append(pd.DataFrame(of | rest))
        for t, y in enumerate(by_skill_1, 1):
            seen = rows[arm, seed, t]
            by_level.append(seen[["level"]].assign(**of, round=t, predicted=y, measured=seen["sampled"]))
    fitted = pd.DataFrame([{"without": seed} | vars(one) for seed, one in {None: learner, **others}.items()])
    return pd.concat(totals, ignore_index=True), pd.concat(by_level, ignore_index=True), fitted


def errors(curves: pd.DataFrame, against: str = "round_1", after: int = 1, by: Sequence[str] = ()) -> pd.DataFrame:
    """Mean absolute error over arms and rounds > ``after`` of each predictor: columns ``by``, predictor, mae, low, high
    (t over seeds), seeds, and the paired difference to the predictor ``against``: difference, difference_low,
    difference_high, verdict ("lower": errs less)."""
    later = curves[curves["round"] > after].dropna(subset=["predicted", "measured"])
    off = (later["predicted"] - later["measured"]).abs()
    by_seed = later.assign(off=off).groupby([*by, "predictor", "seed"], sort=False)["off"].mean()
    order, by_seed, rows = by_seed.index.droplevel("seed").unique(), by_seed.sort_index(), []
    for key in order:
        *of, predictor = key if by else (key,)
        mine = by_seed.loc[(*of, predictor)]
        one, c = mean_interval(mine), paired(mine, by_seed.loc[(*of, against)].loc[mine.index])
        verdict = "reference" if predictor == against else c.verdict
        rows.append((*of, predictor, one.value, one.low, one.high, one.n, c.difference, c.low, c.high, verdict))
    columns = "predictor mae low high seeds difference difference_low difference_high verdict".split()
    return pd.DataFrame(rows, columns=[*by, *columns])
