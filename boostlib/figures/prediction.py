"""Figures of theory against runs: tables of `boostlib.analysis` in, Figure out.

Not covered: how predictions are made (analysis.predict), lines and dots (drawing).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from boostlib.analysis.predict import PREDICTORS
from boostlib.figures.drawing import dots, hide_unused, key_line, legend, percents, summarise, whole_numbers
from boostlib.figures.palette import PAGE, colours_of, label_of, lighter

LINES = {  # colour, dashes and width of a predictor's line
    "tabular": ("#111111", (0, (5, 2)), 1.2),
    "eta_pooling": ("#8a8a8a", (0, (1, 1.2)), 1.6),
    "eta_speed": ("#111111", "-", 1.2),
}
MARKS = {  # colour and marker of a predictor's error
    "tabular": ("#111111", "s"),
    "eta_pooling": ("#8a8a8a", "D"),
    "eta_speed": ("#e1550a", "o"),
    "round_1": ("#0b3c9a", "x"),
    "round_0": ("#4eb0e2", "+"),
}
DATA = {  # colour and words of what a prompt had to learn from
    "own samples": ("#6f6f6f", "own accepted samples"),
    "both": ("#c8a2c8", "samples and a right label"),
    "labels": ("#e1550a", "failed, with a right label"),
    "none": ("#0b3c9a", "failed, without any data"),
}


def by_arm(curves: pd.DataFrame, outside: pd.DataFrame | None = None) -> Figure:
    """A panel an arm: measured accuracy of one sample (dots, 95% t intervals over seeds) and what was predicted (lines,
    mean over seeds), from `predict.predict`; ``outside``: the round table, whose greedy test accuracy is drawn beside.
    """
    arms = colours_of(curves["arm"])
    columns = 2 if len(arms) == 4 else min(3, len(arms))
    rows = -(-len(arms) // columns)
    fig = Figure(figsize=(PAGE, 0.75 + 1.75 * rows), layout="constrained")
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    seen = summarise(curves.drop_duplicates(["arm", "seed", "round"]), "measured", ["arm", "round"])
    for ax, (arm, colour) in zip(axes.flat, arms.items(), strict=False):
        for name, (shade, dashes, width) in LINES.items():
            part = curves[(curves["arm"] == arm) & (curves["predictor"] == name)]
            line = part.groupby("round")["predicted"].mean()
            ax.plot(line.index, line, color=shade, ls=dashes, lw=width)
        if outside is not None:
            test = outside[outside["arm"] == arm].groupby("round")["test_accuracy"].mean()
            ax.plot(test.index, test, color=lighter(colour, 0.45), marker="^", ms=3, lw=0.7)
        at = seen[seen["arm"] == arm]
        whiskers = at["mean"], at["low"], at["high"]
        dots(ax, at["round"], *whiskers, colour, width=1, upright=True, markeredgewidth=0, zorder=3)
        ax.set_title(label_of(arm), loc="left", color=colour)
        percents(ax.yaxis)
        whole_numbers(ax.xaxis)
    hide_unused(axes, len(arms))
    axes[0, 0].set_ylim(0, 1.04)
    fig.supxlabel("round", fontsize=8)
    fig.supylabel("accuracy (%)", fontsize=8)
    handles = [Line2D([], [], color="#555555", marker="o", ls="", ms=4.5, label="measured, one sample")]
    handles += [Line2D([], [], color=c, ls=d, lw=w, label=PREDICTORS[name]) for name, (c, d, w) in LINES.items()]
    if outside is not None:
        handles.append(Line2D([], [], color="#b5b5b5", marker="^", ms=3, lw=0.7, label="greedy, test problems"))
    legend(fig, handles=handles, ncols=3, columnspacing=1.3)
    return fig


def error_by_predictor(every: pd.DataFrame, by_arm: pd.DataFrame) -> Figure:
    """Mean absolute errors with their intervals over seeds: all arms (top), then arm by arm, from `predict.errors`."""
    arms = colours_of(by_arm["arm"])
    groups = {"all arms": every} | {arm: by_arm[by_arm["arm"] == arm] for arm in arms}
    fig = Figure(figsize=(PAGE, 0.9 + 0.36 * len(groups)), layout="constrained")
    ax = fig.subplots()
    for place, part in enumerate(groups.values()):
        for row in part.itertuples():
            y = place + 0.13 * (list(PREDICTORS).index(row.predictor) - 2)
            shade, marker = MARKS[row.predictor]
            ax.plot([row.low, row.high], [y, y], color=shade, lw=1.2)
            ax.plot(row.mae, y, marker, color=shade, ms=4)
    ax.axhline(0.5, color="#bbbbbb", lw=0.7)
    ax.set_yticks(range(len(groups)), [name if name == "all arms" else label_of(name) for name in groups])
    ax.set(ylim=(len(groups) - 0.5, -0.5), xlabel="mean absolute error, rounds from 2 on (percentage points)")
    ax.set_xlim(left=0)
    percents(ax.xaxis)
    ax.grid(axis="x")
    handles = [
        Line2D([], [], color=c, marker=m, ms=4, lw=1.2, label=PREDICTORS[name]) for name, (c, m) in MARKS.items()
    ]
    legend(fig, handles=handles, ncols=3)
    return fig


def laws(seen: np.ndarray, fits: Mapping[str, np.ndarray], curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Left: prompts by right samples (shares, bars) and the fitted laws (name -> pmf). Right, a panel for each title:
    the same names' curves by round."""
    fig = Figure(figsize=(PAGE, 2.5), layout="constrained")
    left, *panels = fig.subplots(1, 1 + len(curves), width_ratios=[1.5] + [1] * len(curves))
    left.bar(range(len(seen)), seen, 0.8, color="#cfcfcf", linewidth=0)
    shades = dict(zip(fits, ("#0b3c9a", "#e1550a"), strict=True))
    for place, (name, pmf) in enumerate(fits.items()):
        places = np.arange(len(pmf)) + 0.14 * (2 * place - 1)
        left.plot(places, pmf, "os"[place], color=shades[name], ms=3.5)
    whole_numbers(left.xaxis)
    left.set(xlabel=f"right among {len(seen) - 1} samples", ylabel="share of prompts (%)")
    percents(left.yaxis)
    for ax, (title, by_name) in zip(panels, curves.items(), strict=True):
        for name, curve in by_name.items():
            ax.plot(curve, color=shades[name])
        ax.set_title(title, loc="left")
        ax.set(xlabel="round", ylim=(0, 1.03))
        percents(ax.yaxis)
    panels[0].set_ylabel("predicted accuracy (%)")
    key_line(fig, shades)
    return fig


def transfer(moved: pd.DataFrame, expected: Mapping[str, Mapping[str, float]]) -> Figure:
    """Accuracy after one round of the prompts that had a kind of data in it, an arm a group: bars with t intervals over
    seeds; a black line where the tabular theory (``expected``: arm -> kind -> accuracy) has it. ``moved``: `measure.moves`.
    """
    arms = list(colours_of(moved["arm"]))
    fig = Figure(figsize=(PAGE, 2.7), layout="constrained")
    ax = fig.subplots()
    seen = summarise(moved, "after", ["arm", "data"])
    for row in seen.itertuples():
        place = arms.index(row.arm) + 0.2 * (list(DATA).index(row.data) - 1.5)
        ax.bar(place, row.mean, 0.18, color=DATA[row.data][0], linewidth=0)
        ax.vlines(place, row.low, row.high, color="#333333", lw=0.9)
        ax.hlines(expected[row.arm][row.data], place - 0.1, place + 0.1, color="#000000", lw=1.4)
    ax.set_xticks(range(len(arms)), [label_of(arm) for arm in arms])
    ax.set(ylabel="right samples after round 0 (%)", ylim=(0, 1.04))
    percents(ax.yaxis)
    ax.tick_params(axis="x", length=0)
    handles = [Patch(color=c, label=words) for name, (c, words) in DATA.items() if name in set(moved["data"])]
    handles.append(Line2D([], [], color="#000000", lw=1.4, label="tabular theory"))
    legend(fig, handles=handles, ncols=3)
    return fig
