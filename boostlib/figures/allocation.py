"""Figures of the labeling budget: theory by policy, accuracy against labels, who is asked, differences in a row.

Not covered: the numbers (analysis.compare, theory), saving.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from boostlib.figures import drawing as draw
from boostlib.figures.palette import PAGE, PERCENT, colours_of, label_of

SERIES = {  # measures side by side in a forest, in this order: colour, marker
    "greedy, test": ("#333333", "o"),
    "sampled, training prompts": ("#a03e91", "s"),
    "theory": ("#b8951a", "D"),
}


def theory_grid(table: pd.DataFrame, without: Mapping[float, float], rounds: int) -> Figure:
    """Accuracy after ``rounds`` against the budget, a row of panels for each gamma, a column for each beta, a line a policy.
    ``table``: `maps.by_policy` in one round, with beta and gamma; ``without``: gamma -> accuracy with no labels, dashed."""
    betas, gammas = sorted(table["beta"].unique()), sorted(table["gamma"].unique())
    fig, panels = draw.panels(len(gammas), len(betas), 0.75 + 2.2 * len(gammas), sharex=True, sharey=True)
    colours = colours_of(table["policy"])
    drawn = draw.summarise(table, "accuracy", ["gamma", "beta", "policy", "budget"])
    for ax, (gamma, beta) in zip(panels.flat, product(gammas, betas), strict=True):
        here = drawn[(drawn["gamma"] == gamma) & (drawn["beta"] == beta)]
        for policy, colour in colours.items():
            line = here[here["policy"] == policy].sort_values("budget")
            ax.fill_between(line["budget"], line["low"], line["high"], color=colour, alpha=0.2, lw=0)
            width, dash = (2.0, (0, (1, 1))) if policy == "oracle" else (1.4, "-")
            top = {"oracle": 5, "hard": 4}.get(policy, 3)  # they share the ceiling with others
            ax.plot(line["budget"], line["mean"], color=colour, marker="o", ms=2.5, lw=width, ls=dash, zorder=top)
        ax.axhline(without[gamma], color="#777777", lw=0.8, ls=(0, (4, 3)))
        ax.set_title(f"beta = {beta:g}, gamma = {gamma:g}", loc="left")
    budgets = sorted(table["budget"].unique())
    for ax in panels[-1]:
        ax.set(xscale="log", xlabel="labels a prompt and round")
        ax.set_xticks(budgets, labels=[f"{b:.2g}" for b in budgets])
        ax.minorticks_off()
    draw.percents(panels[0, 0].yaxis)
    fig.supylabel(f"accuracy after {rounds} rounds, % (dashed: no labels)", fontsize=8)
    names = {label_of(policy): colour for policy, colour in colours.items()}
    draw.key_line(fig, names, ncols=min(5, len(names)), dotted=["oracle"])
    return fig


def against_labels(table: pd.DataFrame, target: float | None = None, without: pd.DataFrame | None = None) -> Figure:
    """Accuracy against labels spent (`compare.with_spent`), a line a policy: greedy on test problems, sampled on training
    prompts. Over four policies no bands, which nobody could tell apart: a `forest` has the intervals of their ends.
    ``without``: rows of an arm without labels, dashed at the same rounds' labels. ``target``: dotted."""
    fig = Figure(figsize=(PAGE, 3.3), layout="constrained")
    axes = [side.subplots() for side in fig.subfigures(1, 2)]
    measures = {
        "test_accuracy": ("n_test", "test problems, greedy"),
        "train_accuracy": ("n_train", "training prompts, one sample"),
    }
    if bands := table["arm"].nunique() <= 4:
        draw.note_seeds(fig, table)
    else:
        draw.note(fig, f"means over {table['seed'].nunique()} seeds")
    for ax, (metric, (n, title)) in zip(axes, measures.items(), strict=True):
        ax.set_title(title, loc="left")
        if target is not None and metric == "test_accuracy":
            ax.axhline(target, color="#777777", lw=0.8, ls=":")
        last = (
            draw.curves(ax, table, metric, x="spent", n=n, ends=False, bands=bands)
            .groupby("arm")
            .tail(1)
            .set_index("arm")
        )
        ends = [(last["spent"][a], last["mean"][a], label_of(a), c) for a, c in colours_of(table["arm"]).items()]
        if without is not None and len(without):
            line = without.groupby("spent")[metric].mean()
            ax.plot(line.index, line, color="#777777", lw=1, ls=(0, (4, 3)))
            ends.append((line.index[-1], line.iloc[-1], "no labels", "#777777"))
        ax.set(xlabel="labels spent", ylabel="accuracy, %")
        draw.whole_numbers(ax.xaxis, 4)
        draw.percents(ax.yaxis, 7)
        draw.label_ends(ax, ends)
    return fig


def who(shares: pd.DataFrame, words: str = "level") -> Figure:
    """Heat map, a panel a policy: groups of prompts by rounds, the share of the round's labels in print, its colour that
    share over the group's share of the prompts (white: as frequent). Columns arm, round, group, share, expected."""
    mean = shares.groupby(["arm", "round", "group"], as_index=False)[["share", "expected"]].mean()
    arms, groups = list(colours_of(mean["arm"])), sorted(mean["group"].unique())
    columns = min(len(arms), 3)
    rows = -(-len(arms) // columns)
    fig, panels = draw.panels(rows, columns, 0.4 + (0.45 + 0.27 * len(groups)) * rows, sharex=True, sharey=True)
    norm = TwoSlopeNorm(0, -2, 2)  # powers of two
    for ax, arm in zip(panels.flat, arms, strict=False):
        wide = mean[mean["arm"] == arm].pivot(index="group", columns="round").loc[groups]
        share = wide["share"]
        ratio = np.log2((share / wide["expected"]).clip(1e-3))
        mesh = ax.imshow(ratio, cmap="PuOr_r", norm=norm, aspect="auto")
        for (y, x), value in np.ndenumerate(share.to_numpy()):
            ink = "white" if abs(ratio.to_numpy()[y, x]) > 1.4 else "#222222"
            ax.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=ink)
        ax.set_title(label_of(arm), loc="left", color=colours_of(arms)[arm], fontsize=8, pad=2)
        ax.set_xticks(range(share.shape[1]), labels=share.columns)
        ax.set_yticks(range(len(groups)), labels=groups)
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
    draw.hide_unused(panels, len(arms))
    fig.supxlabel("round (in print: % of the round's labels)", fontsize=8)
    fig.supylabel(words, fontsize=8)
    bar = fig.colorbar(mesh, ax=panels, pad=0.015, ticks=[-2, -1, 0, 1, 2], extend="both")
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4"])
    bar.set_label("labels over prompts", fontsize=7.5)
    return fig


def forest(rows: pd.DataFrame, xlabel: str, note: str) -> Figure:
    """Differences with their intervals, one line a name: columns name, series (of `SERIES`), difference, low, high,
    verdict; hollow where it resolves nothing."""
    names = list(dict.fromkeys(rows["name"]))
    present = [s for s in SERIES if s in set(rows["series"])]
    fig, [[ax]] = draw.panels(1, 1, 0.9 + (0.16 + 0.11 * len(present)) * len(names))
    ax.axvline(0, color="#333333", lw=0.8)
    for i in range(0, len(names), 2):
        ax.axhspan(i - 0.5, i + 0.5, color="#f5f5f5", lw=0)
    for place, kind in enumerate(present):
        colour, marker = SERIES[kind]
        part = rows[rows["series"] == kind]
        y = part["name"].map(names.index) + (place - (len(present) - 1) / 2) * 0.7 / max(1, len(present))
        ax.hlines(y, part["low"], part["high"], color=colour, lw=1.2)
        faces = [colour if verdict in ("higher", "lower") else "white" for verdict in part["verdict"]]
        ax.scatter(part["difference"], y, c=faces, edgecolors=colour, marker=marker, s=20, lw=1, zorder=3)
        ax.scatter([], [], color=colour, marker=marker, s=20, label=kind)
    draw.name_rows(ax, [fill(name, 34) for name in names], f"{xlabel} (points)")
    ax.xaxis.set_major_formatter(PERCENT)
    if len(present) > 1:
        draw.legend(fig, ncols=len(present), handletextpad=0.2)
    draw.note(fig, note)
    return fig
