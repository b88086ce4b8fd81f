"""Differences between the arms of a run, by two measures: greedy answers to the test problems, and samples on the training
prompts. Across seeds by the paired t; where there is one seed, by a bootstrap over problems, given that seed.

Not covered: the intervals themselves (stats), all pairs at once (ranking), what labels buy (spending).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from boostlib.analysis import intervals as stats

if TYPE_CHECKING:
    import pandas as pd

#: words -> the column of `boost`'s table, and the artefact with the answers behind it
MEASURES = {
    "greedy, test": ("test_accuracy", "test"),
    "sampled, training prompts": ("train_accuracy", "verdicts"),
}
COLUMNS = ["difference", "low", "high", "p", "verdict", "n"]


def outcomes(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Share of right answers of one seed by problem (row), arm and round (columns)."""
    from boostlib.boosting import many as fleet

    if table["seed"].nunique() != 1:
        raise ValueError(f"the table has {table['seed'].nunique()} seeds: answers are compared within one")
    answers = fleet.read(table, MEASURES[measure][1])
    right = [np.mean([s == "pass" for s in np.atleast_1d(status)]) for status in answers["status"]]
    return answers.assign(right=right).pivot(index="id", columns=["arm", "round"], values="right").sort_index(axis=1)


def difference(table: pd.DataFrame, a: str, b: str, measure: str) -> dict:
    """Arm a less arm b in the last round, over the seeds they share: difference, low, high, p, verdict, n."""
    last = table[table["round"] == table["round"].max()]
    scores = last.pivot(index="seed", columns="arm", values=MEASURES[measure][0])[[a, b]].dropna()
    c = stats.paired(scores[a], scores[b])
    if c.n == 1:
        right = outcomes(last[last["arm"].isin([a, b]) & last["seed"].isin(scores.index)], measure).droplevel(
            "round", axis=1
        )
        c = stats.paired_prompts(right[a], right[b], np.random.default_rng(0))
    return {name: getattr(c, name) for name in COLUMNS}


def differences(table: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """One row a name and measure for each name -> (a, b) whose arms the table has, a less b, by `with_holm` within a measure."""
    import pandas as pd

    there = {name: pair for name, pair in pairs.items() if {*pair} <= set(table["arm"])}
    rows = [
        {"name": name, "series": measure, **difference(table, a, b, measure)}
        for name, (a, b) in there.items() for measure in MEASURES
    ]  # fmt: skip
    return with_holm(pd.DataFrame(rows, columns=["name", "series", *COLUMNS]), "series")


def to_reference(scores: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every column of ``scores`` (a row a seed, a column a name) less the reference's: name, difference, ..., p_holm."""
    import pandas as pd

    found = {name: stats.paired(scores[name], scores[reference]) for name in scores if name != reference}
    rows = [{"name": name, **{x: getattr(c, x) for x in COLUMNS}} for name, c in found.items()]
    return with_holm(pd.DataFrame(rows, columns=["name", *COLUMNS]))


def within_seed(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Every arm less the reference on the same problems, for a table of one seed: final accuracy and area (`spending`)."""
    import pandas as pd

    from boostlib.analysis.spending import area_weights, with_spent

    table, rows = with_spent(table).sort_values("round"), []
    for measure in MEASURES:
        right = outcomes(table, measure)
        area = {arm: right[arm] @ area_weights(part["spent"]) for arm, part in table.groupby("arm")}
        final = {arm: right[arm].iloc[:, -1] for arm in area}
        for what, scores in {"final": final, "area": area}.items():
            for arm in [arm for arm in dict.fromkeys(table["arm"]) if arm != reference]:
                c = stats.paired_prompts(scores[arm], scores[reference], np.random.default_rng(0))
                rows.append({"series": measure, "measure": what, "arm": arm, **{x: getattr(c, x) for x in COLUMNS}})
    return pd.DataFrame(rows, columns=["series", "measure", "arm", *COLUMNS])


def with_holm(rows: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """The rows with a column p_holm, corrected within each value of ``by``; the verdict follows it."""
    p = rows["p"].astype(float)
    p_holm = p.groupby(rows[by]).transform(stats.holm) if by else p.where(p.isna(), stats.holm(p))
    return rows.assign(p_holm=p_holm, verdict=rows["verdict"].mask(p_holm >= 0.05, stats.UNRESOLVED))


def phrase(rows: pd.DataFrame, name: str = "name") -> str:
    """The rows in a line: names with their differences and intervals, or "none"."""
    said = [
        f"{row[name]} {row['difference']:+.3f}" + (f" [{row['low']:+.3f}, {row['high']:+.3f}]" if row["low"] == row["low"] else "")
        for _, row in rows.iterrows()
    ]  # fmt: skip
    return "; ".join(said) or "none"


def verdicts(rows: pd.DataFrame, name: str = "name") -> list[str]:
    """Three list items of Markdown: what is above, below, and not told apart."""
    words = {"higher": "above", "lower": "below", stats.UNRESOLVED: "not resolved"}
    return [f"- {said}: {phrase(rows[rows['verdict'] == verdict], name)}" for verdict, said in words.items()]
