"""The sample browser: choose run, arm, seed, round, prompt; see the responses, their verdicts, what was kept, and why not.

Not covered: making runs (boosting), counting over prompts (analysis).
"""

from __future__ import annotations

import contextlib
import functools
import html
from collections.abc import Mapping, Sequence

import pandas as pd

from boostlib import runs
from boostlib.boosting import many
from boostlib.tasks import Task

KEYS = ["arm", "seed", "round"]
LOOK = {"text-align": "left", "white-space": "pre-wrap", "font-family": "monospace"}
CAPTION = {"selector": "caption", "props": [*LOOK.items()]}


def on_disk() -> dict[str, pd.DataFrame]:
    """The project's runs, newest first, by name: arm (with its hash), seed, round, folder and base of every finished round."""
    found, paths = {}, (runs.project_root() / "runs").glob("*/*/manifest.json")
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
        common = runs.manifest(path.parent)
        if "settings" in common:  # else it holds what arms share
            settings, arm = common.pop("settings") | {"arm": common.pop("arm")}, path.parent.name
            base = common | {"sampling": {name: settings[name] for name in many.SAMPLING}}
            at = {"arm": arm, "base": str(path.parents[1] / f"base-{runs.digest(base)[:10]}")}
            name = f"{common['task']}, {common['learner']} ({runs.digest(common)[:6]})"
            for loop in sorted(path.parent.glob("seed-*")):
                found.setdefault(name, []).extend(row | at | {"folder": str(loop)} for row in runs.rounds(loop))
    return {name: pd.DataFrame(rows) for name, rows in found.items() if rows}


@functools.lru_cache(maxsize=16)
def _responses(**row) -> pd.DataFrame:
    row = pd.DataFrame([row])
    samples = many.read(row, "samples").merge(many.read(row, "verdicts"), on=[*KEYS, "id", "sample"])
    parts = [samples.assign(source="sample")]
    with contextlib.suppress(ValueError):  # the last round asks nobody
        parts.append(many.read(row, "labels").assign(source="label"))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def look(some: pd.DataFrame, task: Task | None = None) -> str:
    """Responses to one prompt, as HTML; with its ``task`` the prompt, and why programs failed: they are judged again."""
    shown = some[["source", "response", "status"]].assign(kept=some["accepted"].map({True: "kept"}))
    about = some["id"].iloc[0]
    if task:
        problem = next(p for p in task.problems if p.id == about)
        about = f"{problem.prompt}\n(right: {problem.reference})"
    if hasattr(task, "verdicts"):
        judged = task.verdicts([(problem, response) for response in some["response"]])
        shown["why"] = [": ".join(filter(None, (v.reason, v.detail))) for v in judged]
    table = shown.style.format(escape="html", na_rep="").hide(axis="index").set_properties(**LOOK)
    return table.set_caption(html.escape(about)).set_table_styles([CAPTION]).to_html()


def browse(choices: Mapping[str, pd.DataFrame], tasks: Sequence[Task] = ()):
    """The widget, over tables that `boost` returned or `on_disk` found, by name; ``tasks`` give prompts and reasons."""
    import ipywidgets as w

    known = {p.id: task for task in tasks for p in task.problems}
    boxes = {name: w.Dropdown(description=name, layout={"width": "48%"}) for name in ("run", *KEYS, "prompt")}
    shown, busy = w.HTML(), []

    def pick(name: str, words: dict):
        box, before = boxes[name], boxes[name].value
        box.options = [(str(told), value) for value, told in words.items()]
        box.value = before if before in words else next(iter(words))
        return box.value

    def update(_=None) -> None:
        if busy:  # a menu that is being filled
            return
        busy.append(True)
        try:
            rows = choices[pick("run", dict(zip(choices, choices, strict=True)))]
            for name in KEYS:
                rows = rows[rows[name] == pick(name, {value: value for value in sorted(rows[name].unique())})]
            some = _responses(**rows[[*KEYS, "folder", "base"]].iloc[0])
            kept = some[some["source"] == "sample"].groupby("id", sort=False)["accepted"].sum()
            one = pick("prompt", {i: f"{i}   ({n} kept)" for i, n in kept.sort_values(kind="stable").items()})
            shown.value = look(some[some["id"] == one], known.get(one))
        finally:
            busy.clear()

    for box in boxes.values():
        box.observe(update, names="value")
    update()
    return w.VBox([w.HBox([*boxes.values()], layout={"flex_flow": "row wrap"}), shown])
