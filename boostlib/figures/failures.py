"""Figures that only programs have: why they fail, and what the tests let through.

Not covered: judging (analysis.failures), the figures of every task (rounds).
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from boostlib.figures.drawing import dots, key_line, note, percents, whole_numbers
from boostlib.figures.palette import PAGE, colours_of, label_of

REASON_COLOURS = {  # from dark to light: how far a program got
    "syntax": "#1d2b45",
    "exception": "#5f7698",
    "wrong value": "#b9c4d4",
    "timeout": "#d9a400",
    "exit": "#a11d33",
    "unverified": "#c08f76",
    "unsteady": "#7a5c00",
    "sandbox": "#000000",
}
MEASURES = {"gamma_fp": "wrong answers that are accepted (%)", "wrong in S+": "accepted answers that are wrong (%)"}


def failures(table: pd.DataFrame) -> Figure:
    """Shares of answers that fail, stacked by reason, over rounds: a column of panels an arm, a row a measure.

    ``table`` has a row per measure (what was answered, in words), arm, round and reason: columns measure, arm, round,
    reason, share, n, as `failures.shares` gives. The height of a bar is the share of wrong answers.
    """
    measures, arms = list(dict.fromkeys(table["measure"])), colours_of(table["arm"])
    fig = Figure(figsize=(PAGE, 0.5 + 1.55 * len(measures)), layout="constrained")
    panels = fig.subplots(len(measures), len(arms), sharex=True, sharey=True, squeeze=False)
    found = [r for r in REASON_COLOURS if (table.loc[table["reason"] == r, "share"] > 0).any()]
    for row, measure in zip(panels, measures, strict=True):
        for panel, (arm, colour) in zip(row, arms.items(), strict=True):
            part = table[(table["measure"] == measure) & (table["arm"] == arm)]
            heights = part.pivot(index="round", columns="reason", values="share").reindex(columns=found).fillna(0.0)
            below = heights.cumsum(axis=1) - heights
            for reason in found:
                panel.bar(heights.index, heights[reason], 0.8, below[reason], color=REASON_COLOURS[reason], linewidth=0)
            whole_numbers(panel.xaxis)
            percents(panel.yaxis)
            if measure == measures[0]:
                panel.set_title(label_of(arm), loc="left", color=colour, fontsize=8, pad=3)
        row[0].set_ylabel(f"{measure}\n(% that fail)")
    fig.supxlabel("round", fontsize=8)
    key_line(fig, {reason: REASON_COLOURS[reason] for reason in found})
    return fig


def accepted_and_wrong(table: pd.DataFrame) -> Figure:
    """What the shown tests let through, by round and arm, a panel a measure: points with their intervals side by side.

    ``table``: columns arm, round, measure, value, low, high, as `failures.filter_error` gives; NaN is left out.
    """
    arms = colours_of(table["arm"])
    fig = Figure(figsize=(PAGE, 2.5), layout="constrained")
    panels = fig.subplots(1, len(MEASURES), squeeze=False)[0]
    width = 0.7 / len(arms)
    for panel, (measure, words) in zip(panels, MEASURES.items(), strict=True):
        for place, (arm, colour) in enumerate(arms.items()):
            part = table[(table["arm"] == arm) & (table["measure"] == measure)].dropna(subset="value")
            x = part["round"] + (place - (len(arms) - 1) / 2) * width
            whiskers = part["value"], part["low"], part["high"]
            dots(panel, x, *whiskers, colour, size=4, width=1.2, upright=True, markeredgewidth=0)
        panel.set_title(words, loc="left")
        panel.set_xlabel("round")
        panel.set_xlim(table["round"].min() - 0.5, table["round"].max() + 0.5)
        panel.set_ylim(bottom=0)
        whole_numbers(panel.xaxis)
        panel.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))  # may be well under 1%
    key_line(fig, {label_of(arm): colour for arm, colour in arms.items()})
    note(fig, "95% intervals, answers clustered by prompt, given the seeds")
    return fig
