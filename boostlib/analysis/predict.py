"""The theory's prediction for a run, from what was measured on it at round 0, and what a fit to round 1 adds.

Predictors of the accuracy of one sample on the training prompts, E[p_t]:

- tabular: the exact chain with the measured beta, gammas and law of p_0; nothing is fitted.
- eta_pooling: its Monte Carlo with the loop's label budget; the learner error eta and the pooling over one skill that
  all prompts share are fitted to round 1, one pair for all arms (they are of the learner, and one arm's single number
  could not tell them apart).
- eta_speed: as before without pooling, but a round goes only part of the way to what the tabular learner would have
  learnt: eta from `do_nothing` (whose expected accuracy nothing else changes), one speed for each other arm.
- round_1, round_0: nothing changes any more. What a prediction must beat.

Not covered: measuring the inputs (measure), the model (theory).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import lsq_linear

from boostlib.allocation import POLICIES
from boostlib.analysis.intervals import mean_interval, paired
from boostlib.analysis.measure import Calibration
from boostlib.theory import Dynamics, Histogram
from boostlib.theory.maps import spread

PREDICTORS = {
    "tabular": "theory, nothing fitted",
    "eta_pooling": "theory, eta and pooling fitted",
    "eta_speed": "theory slowed, eta and speed fitted",
    "round_1": "round 1 stays",
    "round_0": "round 0 stays",
}
PROMPTS, RUNS = 4000, 4  # of a Monte Carlo curve: its standard error is then below 0.003
UNKNOWN_TO_THEORY = {"init_from": "previous", "accumulate": False, "dedup": False, "max_per_prompt": None}


@dataclass(frozen=True)
class Inputs:
    """One arm as the theory takes it. ``dynamics.m``: labels of a labelled prompt in round 0, as a whole number, for the
    chain; ``labels``: labels a prompt and round, which the policy shares out (None: ``dynamics.m`` for each)."""

    dynamics: Dynamics
    p0: Histogram
    labels: float | None = None

    def exact(self, rounds: int) -> np.ndarray:
        """E[p_t], t = 0..rounds, by the chain; by Monte Carlo under a policy that shares a budget."""
        if self.dynamics.policy in ("hard", "uniform"):
            return self.dynamics.exact(self.p0, rounds)
        return self.simulated(rounds)

    def simulated(self, rounds: int, eta: float = 0.0, pooling: float = 0.0, speed: float = 1.0) -> np.ndarray:
        """E[p_t] by Monte Carlo with the budget shared anew in each round: fewer failed prompts get more labels each."""
        start = spread(self.p0, PROMPTS)
        budget = None if self.labels is None else round(self.labels * PROMPTS)
        skill = np.zeros(PROMPTS, int) if pooling else None
        more = dict(budget=budget, skill=skill, pooling=float(pooling), speed=float(speed))
        return replace(self.dynamics, eta=float(eta)).simulate(start, rounds, RUNS, 0, **more).mean(0)


def inputs_of(settings: Mapping[str, Any], measured: Calibration, prompts: int) -> Inputs:
    """An arm's settings (`Settings.identity`) and what was measured of it, as the theory takes them; where there was nothing
    to measure any number will do, it plays no role. Raises ValueError for settings that the theory does not hold."""
    for name, value in UNKNOWN_TO_THEORY.items():
        if settings[name] != value:
            raise ValueError(f"the theory knows {name} = {value!r} alone, this arm has {settings[name]!r}")
    if settings["temperature"] != 1 or settings["policy"] not in POLICIES:
        raise ValueError("the theory knows samples at temperature 1 and the policies of the package alone")
    p0, k = Histogram(*measured.law.initial()), settings["k"]
    gamma_fp, gamma_fn = (0.0 if np.isnan(e.value) else e.value for e in (measured.gamma_fp, measured.gamma_fn))
    beta = 0.5 if np.isnan(measured.beta.value) else max(measured.beta.value, 1e-9)
    beta = {"self": "self", "base": "p0"}.get(settings["labeler"], beta)  # the model's own chance, f_0's, or measured

    labels, m = None, settings["labels_per_prompt"]
    if m is None:  # a budget a round, which the policy shares out
        labels = k if settings["budget"] is None else settings["budget"] / prompts
        p, weights = np.array(p0.values), np.array(p0.weights)
        rejected = p * gamma_fn + (1 - p) * (1 - gamma_fp)
        asked = weights @ rejected**k if settings["policy"] == "hard" else 1.0  # share of the prompts in round 0
        m = max(1, round(labels / asked)) if labels and asked > 0 else 0
    own = {name: settings[name] for name in ("alpha", "policy", "weak_data")}
    return Inputs(Dynamics(k=k, beta=beta, gamma_fp=gamma_fp, gamma_fn=gamma_fn, m=int(m), **own), p0, labels or None)


def predict(table: pd.DataFrame, arms: Mapping[str, Inputs]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions for the rows of a round table (arm, seed, round, train_accuracy): arm, seed, round, predictor, predicted,
    measured; and the numbers that were fitted, seed by seed, on its round 1 alone: predictor, seed, arm ("" for all),
    name, value. Raises ValueError where there is no round 1."""
    last = int(table["round"].max())
    if last < 1:
        raise ValueError("the run has no round 1, which eta, pooling and speed are fitted to")
    measured = table.pivot(index=["seed", "arm"], columns="round", values="train_accuracy")
    plain = {arm: x.exact(last) for arm, x in arms.items()}
    start, own = np.array([x.simulated(1) for x in arms.values()]).T  # rounds 0 and 1 of each arm, nothing pooled
    pool = np.array([x.simulated(1, pooling=1.0)[1] for x in arms.values()])
    nothing = list(arms).index("do_nothing") if "do_nothing" in arms else None
    curves, fitted = [], []
    for seed, seen in measured.groupby("seed"):
        seen = seen.droplevel("seed").reindex(list(arms))
        first = seen[1].to_numpy()
        eta, pooling = fit_pooling(first, own, pool)
        eta_0, speeds = fit_speed(first, start, own, nothing)
        fitted += [("eta_pooling", seed, "", "eta", eta), ("eta_pooling", seed, "", "pooling", pooling)]
        fitted += [("eta_speed", seed, "", "eta", eta_0)]
        fitted += [("eta_speed", seed, arm, "speed", speed) for arm, speed in zip(arms, speeds, strict=True)]
        for (arm, x), speed in zip(arms.items(), speeds, strict=True):
            truth = seen.loc[arm].to_numpy()
            by = {
                "tabular": plain[arm],
                "eta_pooling": x.simulated(last, eta, pooling),
                "eta_speed": x.simulated(last, eta_0, speed=1.0 if np.isnan(speed) else speed),
                "round_1": np.r_[np.nan, np.full(last, truth[1])],
                "round_0": np.full(last + 1, truth[0]),
            }
            for name, curve in by.items():
                rows = {"arm": arm, "seed": seed, "round": np.arange(last + 1), "predictor": name}
                curves.append(pd.DataFrame(rows | {"predicted": curve, "measured": truth}))
    fitted = pd.DataFrame(fitted, columns=["predictor", "seed", "arm", "name", "value"])
    return pd.concat(curves, ignore_index=True), fitted


def fit_pooling(first: np.ndarray, own: np.ndarray, pool: np.ndarray) -> tuple[float, float]:
    """Least squares of eta and pooling in first = (1 - eta) ((1 - pooling) own + pooling pool), each (arms,), both in
    [0, 1]: the model's first round is linear in both factors, so the fit is exact. Arms that are missing are left out."""
    there = ~np.isnan(first)  # first = u own + v pool with u, v >= 0 and 1 - eta = u + v <= 1
    free = lsq_linear(np.stack([own, pool], 1)[there], first[there], bounds=(0, 1)).x
    if (kept := free.sum()) > 1:  # on the boundary eta = 0: one number is left
        gap = (pool - own)[there]
        return 0.0, float(np.clip(gap @ (first - own)[there] / max(gap @ gap, 1e-12), 0, 1))
    return float(min(1 - kept, 1 - 1e-9)), float(free[1] / kept) if kept > 0 else 0.0


def fit_speed(first: np.ndarray, start: np.ndarray, own: np.ndarray, nothing: int | None) -> tuple[float, np.ndarray]:
    """eta from the arm at place ``nothing`` (None: 0), and for each other arm the speed in [0, 1] that gives its round 1:
    first = (1 - eta) (start + speed (own - start)). NaN where the round is missing or the theory expects no change."""
    eta = 0.0 if nothing is None else float(np.clip(1 - first[nothing] / own[nothing], 0, 1 - 1e-9))
    gap = own - start
    with np.errstate(divide="ignore", invalid="ignore"):
        speeds = np.clip((first / (1 - eta) - start) / np.where(np.abs(gap) < 1e-3, np.nan, gap), 0, 1)
    if nothing is not None:
        speeds[nothing] = np.nan
    return eta, speeds


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
        one, c = mean_interval(mine), paired(mine, by_seed.loc[(*of, against)])
        verdict = "reference" if predictor == against else c.verdict
        rows.append((*of, predictor, one.value, one.low, one.high, one.n, c.difference, c.low, c.high, verdict))
    columns = "predictor mae low high seeds difference difference_low difference_high verdict".split()
    return pd.DataFrame(rows, columns=[*by, *columns])
