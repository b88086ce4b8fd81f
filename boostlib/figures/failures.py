"""What only programs have: why they fail.

Not covered: judging (analysis.failures), the figures of every task (rounds).
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from boostlib.figures.drawing import key_line, panels, percents, whole_numbers
from boostlib.figures.palette import colours_of, label_of

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


def failures(table: pd.DataFrame) -> Figure:
    """Shares of answers that fail, stacked by reason, over rounds: a column of panels an arm, a row a measure (what was
    answered, in words). Columns measure, arm, round, reason, share, as `failures.shares` gives."""
    measures, arms = list(dict.fromkeys(table["measure"])), colours_of(table["arm"])
    fig, axes = panels(len(measures), len(arms), 0.5 + 1.55 * len(measures), sharex=True, sharey=True)
    found = {r: c for r, c in REASON_COLOURS.items() if (table.loc[table["reason"] == r, "share"] > 0).any()}
    for row, measure in zip(axes, measures, strict=True):
        for panel, (arm, colour) in zip(row, arms.items(), strict=True):
            part = table[(table["measure"] == measure) & (table["arm"] == arm)]
            heights = part.pivot(index="round", columns="reason", values="share").reindex(
                columns=list(found), fill_value=0
            )
            below = heights.cumsum(axis=1) - heights
            for reason, shade in found.items():
                panel.bar(heights.index, heights[reason], 0.8, below[reason], color=shade, linewidth=0)
            whole_numbers(panel.xaxis)
            percents(panel.yaxis)
            if measure == measures[0]:
                panel.set_title(label_of(arm), loc="left", color=colour, fontsize=8, pad=3)
        row[0].set_ylabel(f"{measure}\n(% that fail)")
    fig.supxlabel("round", fontsize=8)
    key_line(fig, found)
    return fig
