"""Figures of theory against runs: tables of `boostlib.analysis` in, Figure out.

Not covered: how predictions are made (analysis.predict), lines and dots (drawing).
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from boostlib.analysis.predict import PREDICTORS
from boostlib.figures.drawing import dots, hide_unused, legend, panels, percents, summarise, whole_numbers
from boostlib.figures.palette import colours_of, label_of, lighter

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


def by_arm(curves: pd.DataFrame, outside: pd.DataFrame | None = None) -> Figure:
    """A panel an arm: measured accuracy of one sample (dots, 95% t intervals over seeds) and what was predicted (lines,
    mean over seeds), from `predict.predict`; ``outside``: the round table, whose greedy test accuracy stands beside."""
    arms = colours_of(curves["arm"])
    columns = 2 if len(arms) == 4 else min(3, len(arms))
    rows = -(-len(arms) // columns)
    fig, axes = panels(rows, columns, 0.75 + 1.75 * rows, sharex=True, sharey=True)
    seen = summarise(curves.drop_duplicates(["arm", "seed", "round"]), "measured", ["arm", "round"])
    for ax, (arm, colour) in zip(axes.flat, arms.items(), strict=False):
        for name, (shade, dashes, width) in LINES.items():
            line = curves[(curves["arm"] == arm) & (curves["predictor"] == name)].groupby("round")["predicted"].mean()
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
    fig, [[ax]] = panels(1, 1, 0.9 + 0.36 * len(groups))
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
    marks = {PREDICTORS[name]: dict(color=c, marker=m) for name, (c, m) in MARKS.items()}
    legend(fig, handles=[Line2D([], [], ms=4, lw=1.2, label=words, **look) for words, look in marks.items()], ncols=3)
    return fig
