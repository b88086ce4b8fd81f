"""Figures of theory against runs: tables of `boostlib.analysis.predict` in, Figure out.

Not covered: how predictions are made (analysis.predict), lines and dots (drawing).
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from boostlib.analysis.predict import PREDICTORS
from boostlib.figures.drawing import dots, hide_unused, legend, panels, percents, summarise, whole_numbers
from boostlib.figures.palette import colours_of, label_of

LOOKS = {  # colour, dashes and width of a predictor's line, marker of its error
    "transfer": ("#111111", "-", 1.4, "o"),
    "elsewhere": ("#8a8a8a", "-", 1.0, "D"),
    "tabular": ("#e1550a", (0, (5, 2)), 1.1, "s"),
    "round_1": ("#0b3c9a", (0, (1, 1.2)), 1.2, "x"),
    "round_0": ("#4eb0e2", (0, (1, 1.2)), 1.2, "+"),
}


def by_arm(curves: pd.DataFrame) -> Figure:
    """A panel an arm: measured accuracy of one sample (dots, 95% t intervals over seeds) and what was predicted (lines,
    mean over seeds), from `predict.predict`."""
    arms = colours_of(curves["arm"])
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    fig, axes = panels(rows, columns, 0.75 + 1.75 * rows, sharex=True, sharey=True)
    seen = summarise(curves.drop_duplicates(["arm", "seed", "round"]), "measured", ["arm", "round"])
    for ax, (arm, colour) in zip(axes.flat, arms.items(), strict=False):
        for name, (shade, dashes, width, _) in LOOKS.items():
            line = curves[(curves["arm"] == arm) & (curves["predictor"] == name)].groupby("round")["predicted"].mean()
            ax.plot(line.index, line, color=shade, ls=dashes, lw=width)
        at = seen[seen["arm"] == arm]
        whiskers = at["mean"], at["low"].clip(0), at["high"].clip(upper=1)
        dots(ax, at["round"], *whiskers, colour, width=1, upright=True, markeredgewidth=0, zorder=3)
        ax.set_title(label_of(arm), loc="left", color=colour)
        percents(ax.yaxis)
        whole_numbers(ax.xaxis)
    hide_unused(axes, len(arms))
    axes[0, 0].set_ylim(0, 1.04)
    fig.supxlabel("round", fontsize=8)
    fig.supylabel("accuracy (%)", fontsize=8)
    handles = [Line2D([], [], color="#555555", marker="o", ls="", ms=4.5, label="measured, one sample")]
    handles += [Line2D([], [], color=c, ls=d, lw=w, label=PREDICTORS[name]) for name, (c, d, w, _) in LOOKS.items()]
    legend(fig, handles=handles, ncols=3, columnspacing=1.3)
    return fig


def error_by_predictor(every: pd.DataFrame, by_arm: pd.DataFrame, target: float = 0.04) -> Figure:
    """Mean absolute errors with their intervals over seeds: all arms (top), then arm by arm, from `predict.errors`."""
    groups = {"all arms": every} | {arm: by_arm[by_arm["arm"] == arm] for arm in colours_of(by_arm["arm"])}
    fig, [[ax]] = panels(1, 1, 0.9 + 0.34 * len(groups))
    for place, part in enumerate(groups.values()):
        for row in part[part["predictor"].isin(LOOKS)].itertuples():
            y = place + 0.15 * (list(LOOKS).index(row.predictor) - 2)
            shade, _, _, marker = LOOKS[row.predictor]
            ax.plot([max(row.low, 0), row.high], [y, y], color=shade, lw=1.1)
            ax.plot(row.mae, y, marker, color=shade, ms=4)
    ax.axvline(target, color="#bbbbbb", lw=0.9)
    ax.set_yticks(range(len(groups)), [name if name == "all arms" else label_of(name) for name in groups])
    ax.set(
        ylim=(len(groups) - 0.5, -0.5), xlabel="mean absolute error, rounds from 2 on (points; grey line: the target)"
    )
    ax.set_xlim(0, min(1, 1.15 * by_arm["mae"].max()))
    percents(ax.xaxis)
    marks = {PREDICTORS[name]: dict(color=c, marker=m) for name, (c, _, _, m) in LOOKS.items()}
    legend(fig, handles=[Line2D([], [], ms=4, lw=1.1, label=words, **look) for words, look in marks.items()], ncols=3)
    return fig
