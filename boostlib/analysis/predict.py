"""The theory's prediction of a run, from what its rounds 0 and 1 measure.

Predictors of the accuracy of one sample on the training prompts, E[p_t]:

- transfer: skills that teach each other (`theory.transfer`), from the accuracy by level at round 1. Memory, transfer and
  interference are fitted to round 1 of two arms (`FIT_ON`) of the seed; all arms share them.
- elsewhere: the same with the numbers of the first seed, which may be another pretrained model.
- transfer_0: as transfer, from round 0: nothing that the arm's own training did is known.
- tabular: the exact chain with the measured beta, gammas and law of p_0; nothing is fitted.
- round_1, round_0: nothing changes any more. What a prediction must beat.

Not covered: measuring the inputs (measure, experiment.levels), the models (theory).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq, least_squares

from boostlib.analysis.intervals import mean_interval, paired
from boostlib.analysis.measure import Calibration
from boostlib.theory import BetaLaw, Dynamics, Histogram, distributions
from boostlib.theory.transfer import Transfer, by_skill

PREDICTORS = {
    "transfer": "transfer, fitted on two arms",
    "elsewhere": "transfer, fitted on another seed",
    "transfer_0": "transfer, from round 0",
    "tabular": "tabular, nothing fitted",
    "round_1": "round 1 stays",
    "round_0": "round 0 stays",
}
FIT_ON = ("filter_only", "boosting")
UNKNOWN_TO_THEORY = dict(init_from="previous", accumulate=False, dedup=False, max_per_prompt=None, temperature=1)


def inputs_of(settings: Mapping[str, Any], measured: Calibration, prompts: int) -> tuple[Dynamics, Histogram]:
    """An arm's settings (`Settings.identity`) and what was measured of it, as the chain takes them; where there was nothing to
    measure any number will do. Its m: labels of a labelled prompt in round 0, as a whole number. Raises ValueError for
    settings that the theory does not hold."""
    check(settings)
    p0, k = Histogram(*measured.law.initial()), settings["k"]
    gamma_fp, gamma_fn = (0.0 if np.isnan(e.value) else e.value for e in (measured.gamma_fp, measured.gamma_fn))
    beta = 0.5 if np.isnan(measured.beta.value) else max(measured.beta.value, 1e-9)
    beta = {"self": "self", "base": "p0"}.get(settings["labeler"], beta)  # the model's own chance, f_0's, or measured
    m = settings["labels_per_prompt"]
    if m is None:  # a budget a round, which the policy shares out
        labels = k if settings["budget"] is None else settings["budget"] / prompts
        p, weights = np.array(p0.values), np.array(p0.weights)
        rejected = p * gamma_fn + (1 - p) * (1 - gamma_fp)
        asked = weights @ rejected**k if settings["policy"] == "hard" else 1.0  # share of the prompts in round 0
        m = max(1, round(labels / asked)) if labels and asked > 0 else 0
    own = {name: settings[name] for name in ("alpha", "policy", "weak_data")}
    return Dynamics(k=k, beta=beta, gamma_fp=gamma_fp, gamma_fn=gamma_fn, m=int(m), **own), p0


def check(settings: Mapping[str, Any]) -> None:
    """ValueError for an arm that the theory does not hold."""
    for name, value in UNKNOWN_TO_THEORY.items():
        if settings[name] != value:
            raise ValueError(f"the theory knows {name} = {value!r} alone, this arm has {settings[name]!r}")
    if settings["policy"] not in ("hard", "uniform"):
        raise ValueError(
            f"the theory knows the policies 'hard' and 'uniform' alone, this arm has {settings['policy']!r}"
        )


@dataclass(frozen=True)
class Skills:
    """An arm in one round as `theory.transfer` takes it. ``rate``: steps x learning rate, in units of those of `FIT_ON`."""

    dynamics: Dynamics
    p0: tuple[BetaLaw, ...]
    share: np.ndarray
    labels: float | None
    loss: float
    rate: float = 1.0

    def curve(self, learner: Transfer, rounds: int) -> np.ndarray:
        """Accuracy by skill, (rounds + 1, skills), from this round on."""
        more = dict(labels=self.labels, loss=self.loss)
        return by_skill(self.dynamics, learner.times(self.rate), self.p0, self.share, rounds, **more)


def skills_of(levels: pd.DataFrame, settings: Mapping[str, Any], loss: float, rate: float = 1.0) -> Skills:
    """From the rows of `experiment.levels` of one arm, seed and round; ``loss``: the first loss of the training on it.
    Raises ValueError for settings that the theory does not hold."""
    check(settings)
    n, asked = levels["n_prompts"].to_numpy(float), levels["labels"].to_numpy(float)
    right = levels["labels_right"].to_numpy(float)
    beta = (right + (right.sum() + 0.5) / (asked.sum() + 1)) / (asked + 1)  # a level that was not asked: as all are
    own = {name: settings[name] for name in ("k", "gamma_fp", "gamma_fn", "alpha", "policy", "weak_data")}
    d = Dynamics(beta="self" if settings["labeler"] == "self" else beta, m=int(asked.any()), **own)
    seen = zip(levels["sampled"], levels["failed"] / n, n, strict=True)
    laws = tuple(law_of(p, failed, d, 0.5 / (d.k * size)) for p, failed, size in seen)
    return Skills(d, laws, n / n.sum(), asked.sum() / n.sum() if asked.any() else None, float(loss or 0), rate)


def law_of(p: float, failed: float, d: Dynamics, least: float) -> BetaLaw:
    """The Beta law of mean p (at least ``least`` off 0 and 1) whose share of prompts without accepted samples is ``failed``;
    where all are accepted that says nothing, and a + b is 1."""
    p = float(np.clip(p, least, 1 - least))

    def law(size: float) -> BetaLaw:
        return BetaLaw(p * np.exp(size), (1 - p) * np.exp(size))

    def off(size: float) -> float:
        x, w = distributions.support(law(size), 60)
        return w @ (1 - x * (1 - d.gamma_fn) - (1 - x) * d.gamma_fp) ** d.k - failed

    ends = (-3.0, 5.0)  # the wider the law, the more fail
    if d.gamma_fp == 1:
        return law(0.0)
    return law(brentq(off, *ends, xtol=1e-3) if off(ends[0]) > 0 > off(ends[1]) else ends[int(off(ends[1]) >= 0)])


def fit_transfer(arms: Iterable[tuple[Skills, np.ndarray]]) -> Transfer:
    """Least squares of memory, transfer and interference, from pairs of an arm and its accuracy by skill a round later."""
    arms = list(arms)

    def off(x: np.ndarray) -> np.ndarray:
        learner = Transfer(*np.exp(x).tolist())
        return np.concatenate([np.sqrt(a.share) * (a.curve(learner, 1)[1] - after) for a, after in arms])

    starts = ([0.0, -0.5, 0.5], [0.7, 0.0, 0.0])
    found = [least_squares(off, x, bounds=(-6, 3), diff_step=1e-3, x_scale=1.0) for x in starts]
    return Transfer(*np.exp(min(found, key=lambda r: r.cost).x).tolist())


def predict(
    table: pd.DataFrame, levels: pd.DataFrame, settings: Mapping[str, Mapping[str, Any]],
    chains: Mapping[str, tuple[Dynamics, Histogram]], fit_on: Sequence[str] = FIT_ON,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Predictions for the rows of a round table with rounds 0 and 1 at least: arm, seed, round, predictor, predicted, measured;
    those of `transfer` by level; and what was fitted: seed, memory, transfer, interference. ``levels``: `experiment.levels`;
    ``chains``: `inputs_of` by arm, the arms to predict. Raises ValueError where an arm to fit on, or round 1, is missing."""
    rows = {key: part.sort_values("level") for key, part in levels.groupby(["arm", "seed", "round"])}
    losses = table.set_index(["arm", "seed", "round"])["loss_first"]
    rate = {arm: s["steps"] * s["lr"] for arm, s in settings.items()}
    seeds = sorted({seed for arm, seed, t in rows if arm == fit_on[0] and t == 1})
    if not seeds or any((arm, seed, 1) not in rows for arm in fit_on for seed in seeds):
        raise ValueError(
            f"transfer is fitted to round 1 of {' and '.join(fit_on)}: run these arms for a round at least"
        )

    def at(arm: str, seed: int, t: int) -> Skills:
        return skills_of(rows[arm, seed, t], settings[arm], losses[arm, seed, t], rate[arm] / rate[fit_on[0]])

    learners = {s: fit_transfer((at(a, s, 0), rows[a, s, 1]["sampled"].to_numpy()) for a in fit_on) for s in seeds}
    totals, by_level = [], []
    for (arm, seed), part in table.groupby(["arm", "seed"], sort=False):
        if arm not in chains or seed not in learners or (arm, seed, 1) not in rows:
            continue
        truth = part.sort_values("round")["train_accuracy"].to_numpy()
        last, zero, one = len(truth) - 1, at(arm, seed, 0), at(arm, seed, 1)
        levelled, nothing = one.curve(learners[seed], last - 1), np.r_[np.nan]
        curves = {
            "transfer": np.r_[nothing, levelled @ one.share],
            "transfer_0": zero.curve(learners[seed], last) @ zero.share,
            "tabular": chains[arm][0].exact(chains[arm][1], last),
            "round_1": np.r_[nothing, np.full(last, truth[1])],
            "round_0": np.full(last + 1, truth[0]),
        }
        if seed != seeds[0]:
            curves["elsewhere"] = np.r_[nothing, one.curve(learners[seeds[0]], last - 1) @ one.share]
        of = {"arm": arm, "seed": seed}
        totals += [
            pd.DataFrame(of | {"round": range(last + 1), "predictor": name, "predicted": y, "measured": truth})
            for name, y in curves.items()
        ]
        for t, y in enumerate(levelled, 1):
            seen = rows[arm, seed, t]
            by_level.append(seen[["level"]].assign(**of, round=t, predicted=y, measured=seen["sampled"]))
    fitted = pd.DataFrame([{"seed": seed} | vars(learner) for seed, learner in learners.items()])
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
