"""Small tables of what a run says about the theory: its inputs, and what a round does to prompts with and without data.

They are read from the run's folders and are small enough to be recorded, so that the theory can be held against a run
whose folders are gone.

Not covered: rates and laws from the counts (calibrate), predictions (predict).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boostlib import runs
from boostlib.analysis.measure import read_round, tally
from boostlib.boosting.artefacts import matrices

if TYPE_CHECKING:
    import pandas as pd

DATA = ("own samples", "labels", "both", "none")  # what a prompt had to learn from in a round


def table_of(folders: Iterable[str | Path]) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The rows of finished rounds, as ``boost`` gives them, and the settings by arm, from run folders: those of arms
    (they hold manifest.json) or of single seeds. Raises ValueError where a folder is neither, or of another task or model.
    """
    import pandas as pd

    rows, settings, common = [], {}, None
    for given in map(Path, folders):
        arm = given if (given / "manifest.json").exists() else given.parent
        if not (arm / "manifest.json").exists():
            raise ValueError(f"{given} is no run: give folders like runs/<task>-<model>/<arm>-<hash>, or seeds in them")
        identity = runs.read_json(arm / "manifest.json")["identity"]
        name, own = identity.pop("arm", None), identity.pop("settings", None)
        if name is None or settings.setdefault(name, own) != own or (common or identity) != identity:
            raise ValueError(f"{given} belongs to another run than those before it: give arms of one task and model")
        common = identity
        for seed in sorted(arm.glob("seed-*")) if given == arm else [given]:
            rows += [row | {"arm": name, "folder": str(seed)} for row in _rows(seed)]
    if not rows:
        raise ValueError("no finished round in these folders")
    return pd.DataFrame(rows).drop_duplicates(["arm", "seed", "round"]), settings


def _rows(seed: Path) -> list[dict]:
    rounds = sorted(seed.glob("round-*"), key=lambda path: int(path.name.removeprefix("round-")))
    files = [next((at / n for n in ("round.json", "final.json") if (at / n).exists()), None) for at in rounds]
    return [runs.read_json(path) for path in files if path]


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """`calibrate.tally` of round 0, seeds pooled, arm by arm: column arm before its own. Round 0 alone, so that whatever
    comes after it is predicted. ``table`` has arm, seed, round and folder."""
    import pandas as pd

    first = table[table["round"] == 0]
    parts = []
    for arm, rows in first.groupby("arm", sort=False):
        rounds = [read_round(folder, 0) for folder in rows["folder"]]
        parts.append(tally(rounds, len(rounds)).assign(arm=arm))
    every = pd.concat(parts, ignore_index=True)
    return every[["arm", *every.columns.drop("arm")]]


def moves(table: pd.DataFrame) -> pd.DataFrame:
    """What one round of training does to prompts by the data that they had in it. Columns arm, seed, round (t), data (of
    `DATA`), prompts, share (right share of their data, mean over prompts), before and after (right share of the
    samples of f_t and f_{t+1})."""
    import pandas as pd

    rows = []
    for (arm, seed), group in table.groupby(["arm", "seed"], sort=False):
        folder = Path(group["folder"].iloc[0])
        for t in range(int(group["round"].max())):
            now, later, has, share = _round(folder, t)
            for kind, data in enumerate(DATA):
                own, labels = data in ("own samples", "both"), data in ("labels", "both")
                of = (has[0] == own) & (has[1] == labels)
                if of.any():
                    facts = (np.nanmean(share[of]) if kind < 3 else np.nan, now[of].mean(), later[of].mean())
                    rows.append((arm, seed, t, data, int(of.sum()), *facts))
    return pd.DataFrame(rows, columns=["arm", "seed", "round", "data", "prompts", "share", "before", "after"])


def _round(folder: Path, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Right shares (n,) of the samples at t and t + 1, which kinds of data a prompt had (2, n), their right share (n,)."""
    at = folder / f"round-{t}"
    verdicts = runs.read_rows(at / "verdicts.jsonl")
    place = {row["id"]: i for i, row in enumerate(verdicts)}
    right, accepted, known = matrices(verdicts)
    later, _, later_known = matrices(runs.read_rows(folder / f"round-{t + 1}" / "verdicts.jsonl"))
    has = np.zeros((2, len(verdicts)), dtype=bool)
    for row in runs.read_rows(at / "examples.jsonl"):
        if row["weight"] > 0:
            has[int(row["source"] == "D"), place[row["id"]]] = True
    good, kept = np.array([(accepted & right).sum(1), accepted.sum(1)], dtype=float) * has[0]
    for row in runs.read_rows(at / "labels.jsonl") if (at / "labels.jsonl").exists() else []:
        i = place[row["id"]]
        if has[1, i]:
            kept[i] += sum(row["accepted"])
            good[i] += sum(a and s == "pass" for s, a in zip(row["status"], row["accepted"], strict=True))
    with np.errstate(invalid="ignore"):
        return _share(right, known), _share(later, later_known), has, good / kept


def _share(right: np.ndarray, known: np.ndarray) -> np.ndarray:
    return right.sum(1) / np.maximum(known.sum(1), 1)


def pooled(moved: pd.DataFrame, by: Sequence[str] = ("arm", "data")) -> pd.DataFrame:
    """`moves` over rounds, one row for each of ``by`` and seed: means weighted by prompts."""
    columns = ["share", "before", "after"]
    weighted = moved.assign(**{c: moved[c] * moved["prompts"] for c in columns})
    sums = weighted.groupby([*by, "seed"], sort=False)[[*columns, "prompts"]].sum(min_count=1)
    return sums.assign(**{c: sums[c] / sums["prompts"] for c in columns}).reset_index()
