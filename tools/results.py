"""Fill the tables of README.md and docs/results.md from the recorded ones, so that no number there is typed.

    python tools/results.py           write them
    python tools/results.py --check   say which are not as recorded

A table stands between `<!-- table: KIND RECORD -->` and `<!-- end -->`. In percent; differences in points. Not covered: sentences.
"""

import json
import math
import re
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
MARKED = re.compile(r"(<!-- table: (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.S)
NAMES = {"reported": "the paper, as reported", "arithmetic": "arithmetic", "mbpp_mini": "small MBPP of our own"}
NAMES |= {
    "mbpp": "MBPP",
    "gsm8k": "GSM8K",
    "gsm_symbolic": "GSM-Symbolic",
    "corrupted": "reference, right {:.0%} of the time",
}
NAMES |= {"tiny": "tiny Llama", "smollm2-135m": "SmolLM2-135M", "base": "pretrained model", "self": "itself"}
STUDY = "study/07_when_weak_data_pays"
STUDIES = ("mini_all_arms/02_gsm8k_boosting", "mini/03_mbpp_boosting", "laptop/02_gsm8k_boosting")
STUDIES += ("laptop/03_mbpp_boosting", "laptop_gsm_symbolic/02_gsm8k_boosting")


def read(record: str, name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "papermill_runs" / record / f"{name}.csv")


def about(record: str) -> dict:
    return json.loads((ROOT / "papermill_runs" / record / "manifest.json").read_text())["identity"]


def number(value: float, low: float = math.nan, high: float = math.nan, sign: str = "") -> str:
    """In percent (or points): "54.2 [53.0, 55.4]"; the value alone without an interval, "" without a value."""
    if value != value:
        return ""
    return f"{100 * value:{sign}.1f}" + ("" if low != low else f" [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]")


def markdown(rows: list[dict]) -> str:
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[h]) for h in heads] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def words(row, name: str = "verdict") -> str:
    """A verdict on a difference, after Holm's correction."""
    note = str(getattr(row, "note", ""))
    if note.startswith(("alone", "resolved alone")):
        return (
            note
            if note.startswith("alone")
            else f"alone: {'higher' if row.difference > 0 else 'lower'}; after Holm: open"
        )
    return {"baseline": "", "no difference resolved": "open"}.get(getattr(row, name), getattr(row, name))


def arms(record: str) -> str:
    """Greedy test accuracy by arm, against the baseline, beside one sample on the training prompts."""
    sampled = read(record, "sampled").set_index("arm")
    start = read(record, "rounds").query("round == 0")
    rows = [{"arm": "start", "greedy, test": number(start["test_accuracy"].mean()), "against filter only": "", "verdict": "",
             "sampled, training prompts": number(start["train_accuracy"].mean())}]  # fmt: skip
    for row in read(record, "final").itertuples():
        gap = number(row.difference, row.difference_low, row.difference_high, "+")
        one = sampled.loc[row.arm]
        greedy, other = number(row.mean, row.low, row.high), number(one["mean"], one["low"], one["high"])
        shown = {
            "arm": row.arm.replace("_", " "),
            "greedy, test": greedy,
            "against filter only": gap,
            "verdict": words(row),
        }
        rows.append(shown | {"sampled, training prompts": other})
    return markdown(rows)


def levels(record: str) -> str:
    """Greedy test accuracy by level, means over seeds, at first and at the end."""
    table = read(record, "levels").dropna(subset=["accuracy"])
    mean = table.groupby(["arm", "round", "level"])["accuracy"].mean().unstack("level")
    last, rows = table["round"].max(), []
    for arm in dict.fromkeys(table["arm"]):
        if not rows:
            rows.append({"arm": "start"} | {f"level {level}": number(x) for level, x in mean.loc[arm, 0].items()})
        rows.append(
            {"arm": arm.replace("_", " ")} | {f"level {level}": number(x) for level, x in mean.loc[arm, last].items()}
        )
    return markdown(rows)


def policies(record: str) -> str:
    """Every policy less hard-first in the last round, greedy and sampled."""
    table = read(record, "compared")
    table = table[table["measure"] == "final"] if "measure" in table else table
    rows: dict[str, dict] = {}
    for row in table.itertuples():
        shown = rows.setdefault(row.arm, {"policy": row.arm.replace("_", " ")})
        gap = number(row.difference, row.difference_low, row.difference_high, "+")
        shown |= {row.series: number(row.mean, row.low, row.high), f"{row.series.split(',')[0]}, against hard": gap}
    return markdown(list(rows.values()))


def forest(record: str) -> str:
    """Differences by name and measure: of the conditions, variants or pays of a notebook."""
    record, _, name = record.rpartition("/")
    found = [row for row in read(record, name).itertuples() if row.series != "theory"]
    gap = "difference, 95% interval"
    return markdown([{"": row.name, "measure": row.series, gap: number(row.difference, row.low, row.high, "+"),
                      "after Holm": words(row)} for row in found])  # fmt: skip


def errors(record: str) -> str:
    """Mean absolute error of each predictor of notebook 05."""
    rows = [
        {"predictor": row.predictor.replace("_", " "), "error, points": number(row.mae, row.low, row.high),
         "less that of round 1 stays": number(row.difference, row.difference_low, row.difference_high, "+"),
         "verdict": words(row)} for row in read(record, "errors").itertuples()
    ]  # fmt: skip
    return markdown(rows)


def paper(_: str = "") -> str:
    """One row a study: boosting beside filter only, with the kind of every interval."""
    heads = ("study", "labeler", "start", "filter only", "boosting", "gap, points", "interval", "source")
    reported = ("GSM8K, Gemma 2 2B, 5 rounds", "pretrained model", "22.2", "39.3", "45.6", "+6.3", "none; std 2.0 and 1.0, 3 seeds",
                "the paper, second-hand")  # fmt: skip
    rows, seen = [reported], read(STUDY, "seeds")
    gains = read(STUDY, "gains").query("series == 'greedy, test'").set_index("name")
    for arm, labeler in {"boosting_base": NAMES["base"], "boosting": NAMES["corrupted"].format(0.3)}.items():
        g, source = gains.loc[arm], f"[study](papermill_runs/{STUDY}.ipynb)"
        means = [number(seen[name].mean()) for name in ("began", "filter_only", arm)]
        told = f"{g['covers']}, {g['n']} pretrained models"
        rows.append(
            (
                "arithmetic, tiny Llama, 3 rounds",
                labeler,
                *means,
                number(g.difference, g.low, g.high, "+"),
                told,
                source,
            )
        )
    for record in STUDIES:
        known, final = about(record), read(record, "final").set_index("arm")
        start = read(record, "rounds").query("round == 0")["test_accuracy"].mean()
        who = NAMES.get(known["common"]["labeler"], "").format(known["common"]["beta"])
        b, seeds = final.loc["boosting"], len(known["seeds"])
        gap, kind = (b["difference"], b["difference_low"], b["difference_high"]), f"t over {seeds} seeds"
        if seeds == 1:
            if (ROOT / "papermill_runs" / record / "within.csv").exists():
                within = read(record, "within").query("measure == 'test' and arm == 'boosting'").iloc[0]
                gap = (within["difference"], within["low"], within["high"])
            kind = "bootstrap over problems, 1 seed"
        elif "covers" in final:
            kind = f"{b['covers']}, {seeds} seeds"
        name = f"{NAMES[known['task']]}, {NAMES.get(known['model'], 'tiny Llama')}, {known['rounds']} rounds"
        source = f"[{record.split('/')[0]}](papermill_runs/{record}.ipynb)"
        rows.append((name, who, number(start), number(final.loc["filter_only", "mean"]), number(b["mean"]),
                     number(*gap, "+"), kind, source))  # fmt: skip
    return markdown([dict(zip(heads, row, strict=True)) for row in rows])


def pays(record: str) -> str:
    """When it pays: every arm of notebook 07 less filtering alone; labels of the first round, means over seeds."""
    gains = read(record, "gains").query("series == 'greedy, test'").set_index("name")
    rows = []
    for row in read(record, "pays").fillna({"labeler": "nobody", "asks": ""}).to_dict("records"):
        g = gains.loc[row["arm"]]
        rows.append({"arm": row["arm"].replace("_", " "), "labeler": row["labeler"], "asks": row["asks"],
                     "right": number(row["right"]), "right labels trained on": f"{row['kept right']:.0f}",
                     "level-4 prompts helped": f"{row['of level 4']:.0f}" if row["of level 4"] == row["of level 4"] else "",
                     "less filter only": number(g.difference, g.low, g.high, "+"), "answer": row["answer"]})  # fmt: skip
    return markdown(rows)


KINDS = {
    "pays": pays,
    "arms": arms,
    "levels": levels,
    "policies": policies,
    "forest": forest,
    "errors": errors,
    "paper": paper,
}


def filled(page: Path) -> str:
    """The page with its tables as recorded."""

    def one(mark: re.Match) -> str:
        table = KINDS[mark[2]](mark[3])
        return (
            mark[1]
            + (table.replace("](papermill_runs/", "](../papermill_runs/") if page.parent != ROOT else table)
            + mark[4]
        )

    return MARKED.sub(one, page.read_text())


if __name__ == "__main__":
    stale = [page for page in PAGES if filled(page) != page.read_text()]
    for page in stale if "--check" not in sys.argv else ():
        page.write_text(filled(page))
    print(
        *(f"{page.relative_to(ROOT)} {'is not as recorded' if '--check' in sys.argv else 'written'}" for page in stale),
        sep="\n",
    )
    sys.exit(bool(stale) and "--check" in sys.argv)
