"""The figures of the theory, one function a figure: numbers of `maps` in, Figure out.

Not covered: computing the numbers (boostlib.theory.maps, notebook 01), one style for all (boostlib.figures).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from boostlib.figures import ARM_COLOURS, ARMS, PAGE, PERCENT, label_ends

PARTS = {  # of the answers: name and colour
    "right": ("right answers", "#d9d9d9"),
    "waiting": ("no data yet", "#0173b2"),
    "misled": ("trained on wrong responses", "#d55e00"),
    "learner": ("learner error", "#3b3b3b"),
}
SAMPLES = (1, 2, 4, 8, 16, 32)  # ticks of an axis of k


def by(table: pd.DataFrame, column: str) -> Iterator[tuple[float, pd.DataFrame, tuple]]:
    """Value, rows and colour for each value of a parameter: from dark to light, in an order that grey keeps."""
    groups = list(table.groupby(column))
    for (value, part), x in zip(groups, np.linspace(0, 0.85, len(groups)), strict=True):
        yield value, part, plt.get_cmap("viridis")(x)


def arms_over_rounds(table: pd.DataFrame) -> Figure:
    """`maps.by_arm`: exact lines, bands for single runs, names at line ends."""
    fig, ax = plt.subplots(figsize=(PAGE, 3.1))
    ends = []
    for arm, part in table.groupby("arm", sort=False):
        ax.fill_between(part["round"], part["low"], part["high"], color=ARM_COLOURS[arm], alpha=0.2, lw=0)
        ax.plot(part["round"], part["exact"], color=ARM_COLOURS[arm])
        ends.append((part["round"].iloc[-1], part["exact"].iloc[-1], ARMS[arm], ARM_COLOURS[arm]))
    ax.set(xlabel="round t", ylabel="accuracy E[p_t], %", ylim=(0, 1.02), xlim=(0, table["round"].max()))
    ax.yaxis.set_major_formatter(PERCENT)
    label_ends(ax, ends)
    return fig


def rounds_to_error(tables: Mapping[str, pd.DataFrame], eps: float) -> Figure:
    """`maps.rounds_to_error`, a panel for each title: exact (solid) and bound (dashed) against beta, by gamma."""
    fig, axes = plt.subplots(1, len(tables), figsize=(PAGE, 3.0), sharey=True)
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        for gamma, part, colour in by(table, "gamma"):
            ax.plot(part["beta"], part["exact"].replace(np.inf, np.nan), color=colour, label=f"{gamma:g}")
            ax.plot(part["beta"], part["bound"].replace(np.inf, np.nan), color=colour, ls=(0, (3, 2)), lw=0.9)
        ax.set(xscale="log", yscale="log", title=title, xlabel="labeler's chance of a right answer, beta")
        ax.legend(title="gamma", title_fontsize=7.5, frameon=False, loc="upper right")
    axes[0].set_ylabel(f"rounds from p = 0 to error {eps:g}")
    return fig


def phase_diagram(maps: Mapping, betas: np.ndarray, gammas: np.ndarray, start: float, rounds: int) -> Figure:
    """`maps.phase_diagram`: one panel an arm; the line is where the run ends at the accuracy it began with."""
    fig, axes = plt.subplots(1, len(maps), figsize=(PAGE, 2.7), sharey=True)
    for ax, (arm, values) in zip(axes, maps.items(), strict=True):
        mesh = ax.pcolormesh(betas, gammas, values, cmap="cividis", vmin=0, vmax=1, rasterized=True)
        ax.set(title=ARMS[arm], xlabel="beta")
        ax.grid(False)
        if values.min() < start < values.max():
            line = ax.contour(betas, gammas, values, levels=[start], colors="white", linewidths=1.4)
            ax.clabel(line, fmt={start: "collapse boundary"}, fontsize=7)
        else:
            middle = dict(ha="center", va="center", transform=ax.transAxes)
            ax.text(0.5, 0.5, "below the start\neverywhere", color="white", fontsize=7.5, **middle)
    axes[0].set_ylabel("filter error rate gamma")
    fig.colorbar(mesh, ax=axes, label=f"accuracy after {rounds} rounds, %", format=PERCENT, pad=0.015)
    return fig


def samples(table: pd.DataFrame, best: pd.DataFrame, horizon: int) -> Figure:
    """Left: accuracy (gamma, k, round) at one horizon, the best k marked. Right: ``best`` k (gamma, round) by horizon."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.9), width_ratios=(1.25, 1))
    ends = []
    for gamma, line, colour in by(table[table["round"] == horizon], "gamma"):
        left.plot(line["k"], line["accuracy"], color=colour)
        top = line.loc[line["accuracy"].idxmax()]
        left.plot(top["k"], top["accuracy"], "o", color=colour, ms=5)
        ends.append((line["k"].iloc[-1], line["accuracy"].iloc[-1], f"gamma = {gamma:g}", colour))
    left.set(xscale="log", xlabel="samples a prompt, k (dot: the best)", ylabel=f"accuracy after {horizon} rounds, %")
    left.set_title("more samples help only behind a good filter")
    left.set_xticks(SAMPLES, labels=SAMPLES)
    left.minorticks_off()
    left.yaxis.set_major_formatter(PERCENT)
    label_ends(left, ends)
    for (t, line, colour), width in zip(by(best, "round"), np.linspace(2.6, 1.1, best["round"].nunique()), strict=True):
        right.step(line["gamma"], line["k"], where="mid", color=colour, lw=width, label=f"{t}")
    right.set(yscale="log", xlabel="filter error rate gamma", ylabel="best k", title="the best k, by horizon")
    right.set_yticks(SAMPLES, labels=SAMPLES)
    right.minorticks_off()
    right.set_ylim(0.9, 90)
    right.legend(title="rounds", title_fontsize=7.5, frameon=False, loc="upper center", ncols=4, columnspacing=1)
    return fig


def fading(splits: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """`Dynamics.losses`, a panel for each title: right answers and the three parts of the error, stacked."""
    fig, axes = plt.subplots(1, len(splits), figsize=(PAGE, 2.8), sharey=True)
    for ax, (title, split) in zip(axes, splits.items(), strict=True):
        t = np.arange(len(split["right"]))
        names, colours = zip(*PARTS.values(), strict=True)
        ax.stackplot(t, *(split[part] for part in PARTS), colors=colours, labels=names, lw=0)
        ax.set(title=title, xlabel="round t", xlim=(0, t[-1]), ylim=(0, 1))
        ax.grid(False)
    axes[0].set_ylabel("share of answers, %")
    axes[0].yaxis.set_major_formatter(PERCENT)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return fig


def limits(maps: Mapping[str, tuple], ylabel: str, rounds: int) -> Figure:
    """Which part of the error is the largest: title -> (x, y, part -> (y, x)); lines of equal error in white."""
    fig, axes = plt.subplots(1, len(maps), figsize=(PAGE, 2.8), sharey=True)
    (_, *names), (_, *colours) = zip(*PARTS.values(), strict=True)
    levels = [0.02, 0.05, 0.1, 0.2, 0.5]
    for ax, (title, (x, y, parts)) in zip(axes, maps.items(), strict=True):
        stack = np.array([parts[part] for part in list(PARTS)[1:]])
        ax.pcolormesh(x, y, stack.argmax(0), cmap=ListedColormap(colours), vmin=0, vmax=2, rasterized=True)
        line = ax.contour(x, y, stack.sum(0), levels=levels, colors="white", linewidths=0.9)
        # named in the middle of the longest piece, away from the frame, which would cut the names
        longest = [max(pieces, key=len) for pieces in line.allsegs if any(map(len, pieces))]
        middles = [tuple(piece[len(piece) // 2]) for piece in longest]
        ax.clabel(line, fmt={v: f"{100 * v:g}%" for v in levels}, fontsize=7, manual=middles)
        ax.set(title=title, xlabel="filter error rate gamma")
        ax.grid(False)
    axes[0].set_ylabel(ylabel)
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in colours] + [plt.Line2D([], [], color="#999999", lw=0.9)]
    fig.legend(handles, [*names, f"error after {rounds} rounds"], loc="outside upper center", ncols=4, frameon=False)
    return fig


def hard_or_uniform(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Columns beta, gamma, round, gain, error: a row for each law of p_0, a column for each horizon; a dot where the
    difference is within 2 standard errors of zero."""
    horizons = sorted(next(iter(tables.values()))["round"].unique())
    shape, size = (len(tables), len(horizons)), (PAGE, 2.35 * len(tables))
    fig, axes = plt.subplots(*shape, figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax, ((law, table), t) in zip(axes.flat, product(tables.items(), horizons), strict=True):
        part = table[table["round"] == t]
        gain = part.pivot(index="gamma", columns="beta", values="gain")
        mesh = ax.pcolormesh(gain.columns, gain.index, gain, cmap="PuOr_r", vmin=-0.6, vmax=0.6, rasterized=True)
        unclear = part[part["gain"].abs() <= 2 * part["error"]]
        ax.plot(unclear["beta"], unclear["gamma"], ".", color="#555555", ms=2.5)
        ax.set_title(f"{law}, after {t} rounds")
        ax.grid(False)
    plt.setp(axes[-1], xlabel="beta")
    plt.setp(axes[:, 0], ylabel="filter error rate gamma")
    fig.colorbar(mesh, ax=axes, label="accuracy, hard minus uniform (orange: hard wins)", pad=0.015)
    return fig
