"""Figures of the labeling budget: theory by policy, accuracy against labels, who is asked, differences in a row.

Not covered: the numbers (analysis.compare, theory), saving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from boostlib.figures import drawing as draw
from boostlib.figures.palette import PAGE, colours_of, label_of

SERIES = {  # measures side by side in a forest, in this order: colour, marker
    "greedy, test": ("#333333", "o"),
    "sampled, training prompts": ("#a03e91", "s"),
    "theory": ("#b8951a", "D"),
}
SHADES = ("#440154", "#31688e", "#35b779", "#90d743")  # a parameter's values, dark to light


def theory_grid(table: pd.DataFrame, without: pd.DataFrame, rounds: int) -> Figure:
    """Accuracy after ``rounds`` against the budget, a row of panels for each gamma, a column for each beta, a line a policy.

    ``table``: `by_policy` of the theory in one round, with columns beta and gamma; ``without``: gamma, accuracy with no
    labels (exact), dashed.
    """
    betas, gammas = sorted(table["beta"].unique()), sorted(table["gamma"].unique())
    fig = Figure(figsize=(PAGE, 0.75 + 2.2 * len(gammas)), layout="constrained")
    panels = fig.subplots(len(gammas), len(betas), sharex=True, sharey=True, squeeze=False)
    colours = colours_of(table["policy"])
    drawn = draw.summarise(table, "accuracy", ["gamma", "beta", "policy", "budget"])
    for row, gamma in zip(panels, gammas, strict=True):
        for ax, beta in zip(row, betas, strict=True):
            here = drawn[(drawn["gamma"] == gamma) & (drawn["beta"] == beta)]
            for policy, colour in colours.items():
                line = here[here["policy"] == policy].sort_values("budget")
                ax.fill_between(line["budget"], line["low"], line["high"], color=colour, alpha=0.2, lw=0)
                width, dash = (2.0, (0, (1, 1))) if policy == "oracle" else (1.4, "-")
                top = {"oracle": 5, "hard": 4}.get(policy, 3)  # they share the ceiling with others
                ax.plot(line["budget"], line["mean"], color=colour, marker="o", ms=2.5, lw=width, ls=dash, zorder=top)
            level = without.loc[without["gamma"] == gamma, "accuracy"].iloc[0]
            ax.axhline(level, color="#777777", lw=0.8, ls=(0, (4, 3)))
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
    prompts. ``without``: rows of an arm without labels, dashed at the same rounds' labels. ``target``: dotted."""
    fig = Figure(figsize=(PAGE, 3.3), layout="constrained")
    sides = fig.subfigures(1, 2)
    measures = {
        "test_accuracy": ("n_test", "test problems, greedy"),
        "train_accuracy": (None, "training prompts, one sample"),  # k samples a prompt: Wilson does not fit one seed
    }
    draw.note_seeds(fig, table)
    axes: list[Axes] = [side.subplots() for side in sides]
    for ax, (metric, (n, title)) in zip(axes, measures.items(), strict=True):
        ax.set_title(title, loc="left")
        if target is not None and metric == "test_accuracy":
            ax.axhline(target, color="#777777", lw=0.8, ls=":")
        last = draw.curves(ax, table, metric, x="spent", n=n, ends=False).groupby("arm").tail(1).set_index("arm")
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
    """Heat map of `compare.who`, a panel a policy: groups of prompts by rounds, the share of the round's labels in print,
    its colour that share over the group's share of the prompts (white: as frequent as the prompts)."""
    mean = shares.groupby(["arm", "round", "group"], as_index=False)[["share", "expected"]].mean()
    arms = list(colours_of(mean["arm"]))
    columns = min(len(arms), 3)
    rows = -(-len(arms) // columns)
    groups = sorted(mean["group"].unique())
    fig = Figure(figsize=(PAGE, 0.4 + (0.45 + 0.27 * len(groups)) * rows), layout="constrained")
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    norm = TwoSlopeNorm(0, -2, 2)  # powers of two
    for ax, arm in zip(panels.flat, arms, strict=False):
        part = mean[mean["arm"] == arm]
        share, expected = (
            part.pivot(index="group", columns="round", values=c).loc[groups] for c in ("share", "expected")
        )
        ratio = np.log2((share / expected).clip(1e-3))
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


def forest(
    rows: pd.DataFrame, xlabel: str, series: Mapping[str, tuple[str, str]] = SERIES, notes: Sequence[str] = ()
) -> Figure:
    """Differences with their intervals, one line a name: columns name, series, difference, low, high; hollow where the
    verdict (after correction), or without one the interval, resolves nothing. ``series``: what stands side by side, name -> (colour, marker)."""
    names = list(dict.fromkeys(rows["name"]))
    present = [s for s in series if s in set(rows["series"])]
    fig = Figure(figsize=(PAGE, 0.9 + (0.16 + 0.11 * len(present)) * len(names)), layout="constrained")
    ax = fig.subplots()
    ax.axvline(0, color="#333333", lw=0.8)
    for i in range(0, len(names), 2):
        ax.axhspan(i - 0.5, i + 0.5, color="#f5f5f5", lw=0)
    for place, kind in enumerate(present):
        colour, marker = series[kind]
        part = rows[rows["series"] == kind]
        y = part["name"].map(names.index) + (place - (len(present) - 1) / 2) * 0.7 / max(1, len(present))
        ax.hlines(y, part["low"], part["high"], color=colour, lw=1.2)
        apart = (part["low"] > 0) | (part["high"] < 0)
        resolved = part["verdict"].isin(["higher", "lower"]) if "verdict" in part else apart
        faces = [colour if yes else "white" for yes in resolved]
        ax.scatter(part["difference"], y, c=faces, edgecolors=colour, marker=marker, s=20, lw=1, zorder=3)
        ax.scatter([], [], color=colour, marker=marker, s=20, label=kind)
    draw.name_rows(ax, [fill(name, 34) for name in names], xlabel)
    if len(present) > 1:
        draw.legend(fig, ncols=len(present), handletextpad=0.2)
    if notes:
        draw.note(fig, "; ".join(notes))
    return fig


def ranking(table: pd.DataFrame) -> Figure:
    """Means with their t intervals, best on top, a panel a measure, and the ranks left open beside each: columns measure,
    arm, mean, low, high, best, worst."""
    measures, colours = list(dict.fromkeys(table["measure"])), colours_of(table["arm"])
    fig = Figure(figsize=(PAGE, 0.6 + 0.2 * table["arm"].nunique()), layout="constrained")
    for ax, measure in zip(np.atleast_1d(fig.subplots(1, len(measures))), measures, strict=True):
        part = table[table["measure"] == measure].sort_values("mean", ascending=False).reset_index(drop=True)
        for y, row in part.iterrows():
            draw.dots(ax, row["mean"], y, row["low"], row["high"], colours[row["arm"]])
            if pd.notna(row["best"]):
                best, worst = f"{row['best']:.0f}", f"{row['worst']:.0f}"
                beside = {
                    "xycoords": ("axes fraction", "data"),
                    "textcoords": "offset points",
                    "annotation_clip": False,
                }
                text = best if best == worst else f"{best} to {worst}"
                ax.annotate(text, (1, y), (4, 0), va="center", fontsize=7, color="#555555", **beside)
        draw.name_rows(ax, [label_of(arm) for arm in part["arm"]], f"{measure}, %")
        draw.percents(ax.xaxis, 5)
        ax.set_title("rank", loc="right", fontsize=7, color="#555555")
    return fig


def theory_and_runs(points: pd.DataFrame) -> Figure:
    """Theory (diamond) and runs (dot with interval), a line a policy, in theory's order: columns policy, theory, mean,
    low, high."""
    points, colours = points.sort_values("theory", ascending=False, ignore_index=True), colours_of(points["policy"])
    fig = Figure(figsize=(0.75 * PAGE, 0.7 + 0.2 * len(points)), layout="constrained")
    ax = fig.subplots()
    for y, row in points.iterrows():
        colour = colours[row["policy"]]
        ax.plot([row["mean"], row["theory"]], [y, y], color="#cccccc", lw=0.8, zorder=1)
        draw.dots(ax, row["mean"], y, row["low"], row["high"], colour)
        ax.plot(row["theory"], y, "D", color="white", markeredgecolor=colour, ms=4.5)
    ax.plot([], [], "D", color="white", markeredgecolor="#555555", label="theory")
    ax.plot([], [], "o", color="#555555", label="runs")
    draw.name_rows(ax, [label_of(p) for p in points["policy"]], "accuracy of one sample on the training prompts, %")
    draw.percents(ax.xaxis)
    draw.legend(fig, ncols=2, handletextpad=0.2)
    return fig


def by_filter_error(table: pd.DataFrame) -> Figure:
    """`hard` less `uniform` in theory against the filter's error rate, a line for each number of samples k, a panel for
    each horizon: columns gamma, k, round, seed, difference."""
    horizons, ks = sorted(table["round"].unique()), sorted(table["k"].unique())
    fig = Figure(figsize=(PAGE, 2.5), layout="constrained")
    colours = {k: SHADES[i % len(SHADES)] for i, k in enumerate(ks)}
    panels = fig.subplots(1, len(horizons), sharey=True, squeeze=False)[0]
    for ax, horizon in zip(panels, horizons, strict=True):
        ax.axhline(0, color="#333333", lw=0.8)
        here = table[table["round"] == horizon]
        drawn = draw.curves(ax, here, "difference", x="gamma", by="k", ends=False, colours=colours)
        ax.set(xlabel="filter error rate gamma", title=f"round {horizon}")
        if ax is panels[-1]:
            last = drawn.groupby("k").tail(1).set_index("k")
            draw.label_ends(ax, [(last["gamma"][k], last["mean"][k], f"k = {k}", c) for k, c in colours.items()])
    panels[0].set_ylabel("accuracy, hard less uniform")
    return fig
