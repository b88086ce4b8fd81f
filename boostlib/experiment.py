"""What the experiments of several notebooks share: model, common settings, comparisons, checks, saved tables.

``table`` is what `boost` returns: one row an arm, seed and round. Not covered: intervals, differences by measure and
counts (analysis), pictures (figures), executing notebooks (runner).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boostlib import runs
from boostlib.boosting import many
from boostlib.boosting.settings import Settings
from boostlib.tasks import Task

TINY = {"arithmetic": {}, "mbpp_mini": {"alphabet": "ascii"}}  # tasks that a tiny model can be pretrained for
COMPARED = "mean low high difference difference_low difference_high within p_holm verdict covers".split()  # shown


def model_of(model: str, tiny: Mapping[str, Any], task: str, task_options: Mapping[str, Any]) -> str:
    """``model`` as it is (a folder may be given from the project's root), or for "tiny" the folder of a model pretrained,
    once, on problems of the task's training side. ``tiny``: its size and training (hidden, layers; steps, batch_size, lr;
    weights: level -> share of the problems; seed: of the first weights and of the problems).
    Raises ValueError for "tiny" and a task that it can't be pretrained for."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns whenever the sandbox starts a process
    if model != "tiny":
        here = runs.project_root() / model
        return str(here) if "/" in model and here.is_dir() else model
    if task not in TINY:
        raise ValueError(f"no tiny model can be pretrained for {task}: name a model, or one of {', '.join(TINY)}")
    from boostlib.learners.load import pretrained

    size, terms = TINY[task] | dict(tiny), {x: task_options[x] for x in ("largest",) if x in task_options}
    drawn = {"seed": size.get("seed", 0), "weights": size.pop("weights", None)}
    pairs_of = importlib.import_module(f"boostlib.tasks.{task}").pretraining_pairs
    pairs = pairs_of(size["steps"] * size["batch_size"], **drawn, **terms)
    return pretrained(pairs, cache=runs.project_root() / "runs" / "models", threads=1, **size)  # small: one is best


def common_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a notebook's parameters (its ``globals()``) that are settings of the loop, the same for all arms."""
    return {f.name: parameters[f.name] for f in dataclasses.fields(Settings) if f.name in parameters}


def answers(table: pd.DataFrame, name: str = "test") -> pd.DataFrame:
    """Responses, one a row, with a column ``right``: "test" (greedy), "labels", or the k samples a prompt ("verdicts", or
    with their text "samples")."""
    rows = many.read(table, "verdicts" if name == "samples" else name)
    if name == "samples":
        rows = many.read(table, name).merge(rows, on=["arm", "seed", "round", "id", "sample"])
    return rows.assign(right=rows["status"] == "pass")


def changes(table: pd.DataFrame) -> pd.DataFrame:
    """Each arm's last round against its own round 0 (greedy, test), paired by seed and problem: arm, change, low, high,
    within, verdict, covers."""
    from boostlib.analysis import compare, intervals  # heavy: statsmodels

    last, rows = table["round"].max(), {}
    right = compare.outcomes(table[table["round"].isin([0, last])], "greedy, test")
    for arm in dict.fromkeys(table["arm"]):
        c = intervals.two_way((right[arm].xs(last, axis=1, level=1) - right[arm].xs(0, axis=1, level=1)).T)
        rows[arm] = {"change": c.difference} | {
            x: getattr(c, x) for x in ("low", "high", "within", "verdict", "covers")
        }
    return pd.DataFrame(rows).T.rename_axis("arm").reset_index()


def levels(table: pd.DataFrame, kind: Mapping[str, Any]) -> pd.DataFrame:
    """What each round holds by kind of problem (``kind``: id -> level, of test and training problems): arm, seed, round, level;
    accuracy (greedy) and n, test problems; n_prompts, training prompts, and of them sampled (right share of the k samples),
    failed (prompts with nothing accepted), accepted and accepted_distinct (responses in S+, equal ones once), labels,
    labels_right, kept_right and kept_wrong (of D)."""
    by, parts = ["arm", "seed", "round", "level"], []
    for _, run in table.groupby(["arm", "seed"], sort=False):  # one at a time: the samples of a study fill the memory
        rows = {
            name: answers(run, name)
            for name in ("test", "samples", "labels")
            if name != "labels" or run["labels"].any()
        }
        rows = {name: part.assign(level=part["id"].map(kind)) for name, part in rows.items()}
        samples, labels = rows["samples"], rows.get("labels", rows["samples"][:0])
        solved, kept = samples.groupby([*by, "id"])["accepted"].any(), samples[samples["accepted"]]
        counts = {
            "n_prompts": solved, "failed": solved[~solved], "accepted": kept, "labels": labels,
            "accepted_distinct": kept.drop_duplicates([*by, "id", "response"]), "labels_right": labels[labels["right"]],
            "kept_right": labels[labels["accepted"] & labels["right"]], "kept_wrong": labels[labels["accepted"] & ~labels["right"]],
        }  # fmt: skip
        greedy = rows["test"].groupby(by)["right"].agg(accuracy="mean", n="size")
        counted = pd.DataFrame({name: part.groupby(by).size() for name, part in counts.items()}).fillna(0)
        parts.append(greedy.join(counted.assign(sampled=samples.groupby(by)["right"].mean()), how="outer"))
    return pd.concat(parts).reset_index()


def noise(table: pd.DataFrame) -> pd.DataFrame:
    """By arm, all rounds together: false accepts among wrong responses, false rejects among right ones (NaN where there
    are none of them), the labeler's right share, labels and kept labels a seed."""
    rows = table.assign(responses=table["n_train"] * table["k"])
    rows = rows.assign(right=rows["train_accuracy"] * rows["responses"]).groupby("arm", sort=False)
    sums, seeds = rows.sum(numeric_only=True), rows["seed"].nunique()
    rates = {
        "false accepts": sums["false_accepts"] / (sums["responses"] - sums["right"]),
        "false rejects": sums["false_rejects"] / sums["right"],
        "labels right": sums["labels_right"] / sums["labels"],
        "labels": sums["labels"] / seeds,
        "labels kept": sums["labels_kept"] / seeds,
    }
    return sums.assign(**rates)[list(rates)].reset_index()


def interval(value: float, low: float, high: float, sign: str = "", alone: str = " (one seed, no interval)") -> str:
    """A number and "[low, high]", or ``alone`` where they are NaN; "" where all is. ``sign`` "+": a difference."""
    if np.isnan(value):
        return ""
    return f"{value:{sign}.3f}" + (alone if np.isnan(low) else f" [{low:{sign}.3f}, {high:{sign}.3f}]")


def with_verdict(rows: pd.DataFrame, verdict: str) -> str:
    """The arms with this verdict, in a line."""
    return ", ".join(rows["arm"][rows["verdict"] == verdict]) or "none"


def check(table: pd.DataFrame, common: Mapping[str, Any]) -> None:
    """What a comparison of arms rests on, as far as ``common`` names the settings. AssertionError says what broke."""
    assert table["test_accuracy"].between(0, 1).all(), "every round was evaluated"
    first = table[table["round"] == 0].groupby("base")["test_accuracy"]
    assert (first.nunique() == 1).all(), "round 0 is one model on one test set"
    assert set(table["steps"].dropna()) <= {0, common["steps"]}, "equal steps in all arms"
    asked = table[table["labels"] > 0]
    if "budget" in common:
        whole = asked["n_train"] * asked["k"] if common["budget"] is None else common["budget"]
        assert (asked["labels"] == whole).all(), "who asks the labeler spends the whole budget"
    if common.get("gamma_fp") == common.get("gamma_fn") == 0:
        judged = table[~table["arm"].str.startswith(("do_nothing", "SSD"))]  # these train on every response
        assert not judged[["false_accepts", "false_rejects"]].to_numpy().any(), "a perfect filter does not err"


def identity(notebook: str, train: Task, test: Task, table: pd.DataFrame, *, model: str, tiny: dict, **facts) -> dict:
    """What made a notebook's tables, for `save_tables`: hashes of data and weights, and the ``facts`` that it gives."""
    weights = runs.manifest(Path(table["folder"].iloc[0]).parent)["weights"]
    made = {"notebook": notebook, "train": train.fingerprint(), "test": test.fingerprint(), "model": model}
    return made | {"weights": weights, "tiny": tiny if model == "tiny" else None} | facts


def save_tables(notebook: str, profile: str, tables: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> Path:
    """Write small tables and a manifest of what made them (``about``) to <notebook>/ in the folder that the runner names,
    or in Jupyter, where parameters may be anything, in runs/tables/<profile>+jupyter/."""
    context, content = runs.context(), json.loads(json.dumps(about, default=str))
    at = context.get("tables") or runs.project_root() / "runs" / "tables" / f"{profile}+jupyter"
    manifest = {"command": context.get("command", "executed in Jupyter"), "hash": runs.digest(content)}
    with runs.whole_folder(Path(at) / notebook) as new:
        for name, table in tables.items():
            runs.write_table(new / f"{name}.csv", table)
        runs.write_json(new / "manifest.json", {"identity": content} | manifest | runs.environment())
    return Path(at) / notebook


def tables_of(notebook: str, profile: str) -> tuple[dict[str, pd.DataFrame], dict, str]:
    """Tables, manifest and "fresh" or "recorded": those of a run made here, else those committed under papermill_runs/.
    Raises FileNotFoundError where there are neither."""
    for kind, folder in (("fresh", "runs/tables"), ("recorded", "papermill_runs")):
        here = runs.project_root() / folder / profile / notebook
        if (here / "manifest.json").exists():
            tables = {path.stem: runs.read_table(path) for path in sorted(here.glob("*.csv"))}
            return tables, runs.read_json(here / "manifest.json"), kind
    make = f"boostlib run {notebook} --profile {profile}"
    raise FileNotFoundError(f"no tables of {notebook} in profile {profile}, fresh or recorded; make them with: {make}")


def took(start: float) -> str:
    """Minutes and seconds since ``start`` (time.perf_counter)."""
    return "{} min {:02d} s".format(*divmod(round(time.perf_counter() - start), 60))
