"""Figures of accuracy over rounds: the paper's, and by level of difficulty.

Not covered: what is behind them (analysis), lines and bands (drawing).
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from boostlib.figures import drawing as draw
from boostlib.figures.palette import PAGE, colours_of, label_of, lighter


def by_round(table: pd.DataFrame, title: str = "") -> Figure:
    """The paper's figure from the table that ``boost`` returns. Left: test accuracy by arm. Right, a panel an arm: train
    accuracy@1 solid, accuracy@k stacked above it in a lighter tone."""
    arms = colours_of(table["arm"])
    fig = Figure(figsize=(PAGE, 3.1), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=[1.12, 1])
    columns = 2 if len(arms) > 1 else 1
    axes = right.subplots(-(-len(arms) // columns), columns, sharex=True, sharey=True, squeeze=False)
    both = ("train_accuracy", "train_accuracy_at_k")
    parts = [draw.summarise(table, column, ["arm", "round"], "n_train") for column in both]
    k = "/".join(str(int(k)) for k in sorted(table["k"].dropna().unique()))
    for panel, (arm, colour) in zip(axes.flat, arms.items(), strict=False):
        one, at_k = (part[part["arm"] == arm].set_index("round") for part in parts)
        panel.bar(at_k.index, at_k["mean"], 0.8, color=lighter(colour), linewidth=0)
        panel.bar(one.index, one["mean"], 0.8, color=colour, linewidth=0)
        for part in (one, at_k):
            known = part.dropna(subset="low")
            panel.vlines(known.index, known["low"].clip(0), known["high"].clip(upper=1), color="#333333", lw=0.7)
        panel.set_title(label_of(arm), loc="left", color=colour, fontsize=8, pad=2)
        draw.whole_numbers(panel.xaxis)
        draw.percents(panel.yaxis)
    for panel in axes.flat[len(arms) :]:
        panel.set_visible(False)
    right.supylabel(f"train accuracy (%): @1 solid, @{k} light", fontsize=8)
    right.supxlabel("round", fontsize=8)
    draw.note_seeds(fig, table)

    ax = left.subplots()
    ax.set_title(title, loc="left")
    ax.set_ylabel("test accuracy (% of problems, greedy)")
    draw.curves(ax, table, "test_accuracy", n="n_test")  # last: the places of the names need the final layout
    return fig


def accuracy_by_level(table: pd.DataFrame) -> Figure:
    """Test accuracy over rounds, a panel per level of difficulty, one line an arm: columns arm, seed, round, level,
    accuracy, n (problems of that level)."""
    levels = sorted(table["level"].unique())
    columns = min(len(levels), min((4, 3), key=lambda c: -len(levels) % c))
    rows = -(-len(levels) // columns)
    fig, axes = draw.panels(rows, columns, 0.45 + 1.75 * rows, sharex=True, sharey=True)
    for place, (panel, level) in enumerate(zip(axes.flat, levels, strict=False)):
        part = table[table["level"] == level]
        draw.curves(panel, part, "accuracy", n="n", ends=False, colours=colours_of(table["arm"]))
        words = level if isinstance(level, str) else f"level {level}"
        panel.set_title(f"{words}  ({int(part['n'].max())} problems)", loc="left", fontsize=8)
        panel.set_xlabel("round" if place + columns >= len(levels) else "")
    draw.hide_unused(axes, len(levels))
    axes[0, 0].set_ylim(bottom=0)
    fig.supylabel("test accuracy (% of problems)", fontsize=8)
    draw.key_line(fig, {label_of(arm): colour for arm, colour in colours_of(table["arm"]).items()})
    draw.note_seeds(fig, table.drop_duplicates(["arm", "seed"]))
    return fig
