"""The figures of the theory, one function a figure: numbers of `maps` in, Figure out.

Not covered: computing the numbers (maps), one style for all (boostlib.figures), writing files (boostlib.figures.save).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from boostlib.figures import ARM_COLOURS, ARMS, PAGE, PERCENT, label_ends

PART_COLOURS = {"right": "#d9d9d9", "waiting": "#0173b2", "misled": "#d55e00", "learner": "#3b3b3b"}
PART_NAMES = {
    "right": "right answers",
    "waiting": "no data yet",
    "misled": "trained on wrong responses",
    "learner": "learner error",
}
KIND_COLOURS = {"hard": ARM_COLOURS["boosting"], "uniform": ARM_COLOURS["uniform"], "none": ARM_COLOURS["filter_only"]}


def shades(n: int) -> list:
    """n colours from dark to light that keep their order in grey too; for parameters, where arms have their own."""
    return [plt.get_cmap("viridis")(x) for x in np.linspace(0, 0.85, n)]


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
        for (gamma, part), colour in zip(table.groupby("gamma"), shades(table["gamma"].nunique()), strict=True):
            ax.plot(part["beta"], part["exact"].replace(np.inf, np.nan), color=colour, label=f"{gamma:g}")
            ax.plot(part["beta"], part["bound"].replace(np.inf, np.nan), color=colour, ls=(0, (3, 2)), lw=0.9)
        ax.set(xscale="log", yscale="log", title=title, xlabel="labeler's chance of a right answer, beta")
        ax.legend(title="gamma", title_fontsize=7.5, frameon=False, loc="upper right")
    axes[0].set_ylabel(f"rounds from p = 0 to error {eps:g}")
    return fig


def phase_diagram(
    maps: Mapping[str, np.ndarray], betas: np.ndarray, gammas: np.ndarray, start: float, rounds: int
) -> Figure:
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
            ax.text(0.5, 0.5, "below the start\neverywhere", color="white", ha="center", va="center", fontsize=7.5,
                    transform=ax.transAxes)  # fmt: skip
    axes[0].set_ylabel("filter error rate gamma")
    fig.colorbar(mesh, ax=axes, label=f"accuracy after {rounds} rounds, %", format=PERCENT, pad=0.015)
    return fig


def samples(table: pd.DataFrame, best: pd.DataFrame, horizon: int) -> Figure:
    """Left: `maps.over_samples` at one horizon, the best k marked. Right: ``best`` (gamma, round, k) for each horizon."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.9), width_ratios=(1.25, 1))
    part = table[table["round"] == horizon]
    ends = []
    for (gamma, line), colour in zip(part.groupby("gamma"), shades(part["gamma"].nunique()), strict=True):
        left.plot(line["k"], line["accuracy"], color=colour)
        top = line.loc[line["accuracy"].idxmax()]
        left.plot(top["k"], top["accuracy"], "o", color=colour, ms=5)
        ends.append((line["k"].iloc[-1], line["accuracy"].iloc[-1], f"gamma = {gamma:g}", colour))
    ks = sorted(part["k"].unique())
    left.set(
        xscale="log", xlabel="samples a prompt, k (dot: the best)", ylabel=f"accuracy after {horizon} rounds, %",
        title="more samples help only behind a good filter",
    )  # fmt: skip
    left.set_xticks([k for k in (1, 2, 4, 8, 16, 32) if k in ks], labels=[k for k in (1, 2, 4, 8, 16, 32) if k in ks])
    left.minorticks_off()
    left.yaxis.set_major_formatter(PERCENT)
    label_ends(left, ends)
    rounds = sorted(best["round"].unique())
    for t, colour, width in zip(rounds, shades(len(rounds)), np.linspace(2.6, 1.1, len(rounds)), strict=True):
        line = best[best["round"] == t]
        right.step(line["gamma"], line["k"], where="mid", color=colour, lw=width, label=f"{t}")
    right.set(yscale="log", xlabel="filter error rate gamma", ylabel="best k", title="the best k, by horizon")
    right.set_yticks([k for k in (1, 2, 4, 8, 16, 32) if k in ks], labels=[k for k in (1, 2, 4, 8, 16, 32) if k in ks])
    right.minorticks_off()
    right.set_ylim(0.9, 90)
    right.legend(title="rounds", title_fontsize=7.5, frameon=False, loc="upper center", ncols=4, columnspacing=1)
    return fig


def fading(splits: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """`Dynamics.losses`, a panel for each title: right answers and the three parts of the error, stacked."""
    fig, axes = plt.subplots(1, len(splits), figsize=(PAGE, 2.8), sharey=True)
    for ax, (title, split) in zip(axes, splits.items(), strict=True):
        t = np.arange(len(split["right"]))
        ax.stackplot(
            t, *(split[name] for name in PART_NAMES), colors=[PART_COLOURS[n] for n in PART_NAMES],
            labels=list(PART_NAMES.values()), lw=0,
        )  # fmt: skip
        ax.set(title=title, xlabel="round t", xlim=(0, t[-1]), ylim=(0, 1))
        ax.grid(False)
    axes[0].set_ylabel("share of answers, %")
    axes[0].yaxis.set_major_formatter(PERCENT)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return fig


def limits(
    maps: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]], ylabel: str, rounds: int
) -> Figure:
    """Which part of the error is the largest: title -> (x, y, `maps.what_limits`); colours as in `fading`, lines of equal
    error in white."""
    fig, axes = plt.subplots(1, len(maps), figsize=(PAGE, 2.8), sharey=True)
    names = ["waiting", "misled", "learner"]
    for ax, (title, (x, y, parts)) in zip(axes, maps.items(), strict=True):
        stack = np.array([parts[name] for name in names])
        ax.pcolormesh(
            x, y, stack.argmax(0), cmap=ListedColormap([PART_COLOURS[n] for n in names]), vmin=0, vmax=2,
            rasterized=True,
        )  # fmt: skip
        levels = [0.02, 0.05, 0.1, 0.2, 0.5]
        line = ax.contour(x, y, stack.sum(0), levels=levels, colors="white", linewidths=0.9)
        middles = [max(segments, key=len) for segments in line.allsegs if any(map(len, segments))]
        at = [
            tuple(segment[len(segment) // 2]) for segment in middles
        ]  # away from the frame, which would cut the names
        ax.clabel(line, fmt={v: f"{100 * v:g}%" for v in levels}, fontsize=7, manual=at)
        ax.set(title=title, xlabel="filter error rate gamma")
        ax.grid(False)
    axes[0].set_ylabel(ylabel)
    handles = [plt.Rectangle((0, 0), 1, 1, color=PART_COLOURS[n]) for n in names]
    handles.append(plt.Line2D([], [], color="#999999", lw=0.9))
    labels = [PART_NAMES[n] for n in names] + [f"error after {rounds} rounds"]
    fig.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return fig


def hard_or_uniform(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """`maps.hard_minus_uniform`: a row for each law of p_0, a column for each horizon; a dot where the difference is
    within 2 standard errors of zero."""
    horizons = sorted(next(iter(tables.values()))["round"].unique())
    fig, axes = plt.subplots(
        len(tables), len(horizons), figsize=(PAGE, 2.35 * len(tables)), sharex=True, sharey=True, squeeze=False
    )
    for row, (law, table) in zip(axes, tables.items(), strict=True):
        for ax, t in zip(row, horizons, strict=True):
            part = table[table["round"] == t]
            gain = part.pivot(index="gamma", columns="beta", values="gain")
            mesh = ax.pcolormesh(gain.columns, gain.index, gain, cmap="PuOr_r", vmin=-0.6, vmax=0.6, rasterized=True)
            unclear = part[part["gain"].abs() <= 2 * part["error"]]
            ax.plot(unclear["beta"], unclear["gamma"], ".", color="#555555", ms=2.5)
            ax.set_title(f"{law}, after {t} rounds")
            ax.grid(False)
    for ax in axes[-1]:
        ax.set_xlabel("beta")
    for ax in axes[:, 0]:
        ax.set_ylabel("filter error rate gamma")
    fig.colorbar(mesh, ax=axes, label="accuracy, hard minus uniform (orange: hard wins)", pad=0.015)
    return fig


def biased(curves: Mapping[str, np.ndarray], by_alpha: pd.DataFrame, without: float, rounds: int) -> Figure:
    """Left: laws over (right, family, other wrong) by round for each policy. Right: share of right answers at the end
    against alpha for each number of labels m; ``without``: with none."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.9))
    fig.get_layout_engine().set(wspace=0.06)
    ends = []
    names = {"none": "no labels", "hard": "labels on P-", "uniform": "labels on all"}
    for policy, law in curves.items():
        colour = KIND_COLOURS[policy]
        left.plot(law[:, 0], color=colour)
        left.plot(law[:, 1], color=colour, ls=(0, (3, 2)))
        ends.append((len(law) - 1, law[-1, 0], names[policy], colour))
    left.set(xlabel="round t", ylabel="share of responses, %", ylim=(0, 1.02), xlim=(0, len(law) - 1),
             title="right (solid), the family (dashed)")  # fmt: skip
    left.yaxis.set_major_formatter(PERCENT)
    label_ends(left, ends)
    for (m, part), colour in zip(by_alpha.groupby("m"), shades(by_alpha["m"].nunique()), strict=True):
        right.plot(part["alpha"], part["right"], color=colour, label=f"m = {m}")
    right.axhline(without, color=KIND_COLOURS["none"], lw=0.9, ls=(0, (3, 2)))
    right.text(1, without + 0.015, "no labels", color=KIND_COLOURS["none"], fontsize=7.5, ha="right")
    right.set(
        xlabel="weight of weak data, alpha", ylabel=f"right after {rounds} rounds, %", title="labels on all prompts"
    )
    right.yaxis.set_major_formatter(PERCENT)
    right.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.12))
    return fig


def curation(maps: Mapping[int, np.ndarray], gammas: np.ndarray, etas: np.ndarray) -> Figure:
    """`maps.least_beta` for each m; grey: not even perfect labels are enough."""
    fig, axes = plt.subplots(1, len(maps), figsize=(PAGE, 2.7), sharey=True)
    for ax, (m, least) in zip(axes, maps.items(), strict=True):
        ax.set_facecolor("#bbbbbb")
        mesh = ax.pcolormesh(gammas, etas, least, cmap="magma_r", norm=LogNorm(0.01, 1), rasterized=True)
        ax.set(title=f"m = {m}", xlabel="filter error rate gamma")
        ax.grid(False)
    axes[0].set_ylabel("learner error eta")
    fig.colorbar(mesh, ax=axes, label="least beta (grey: none)", pad=0.015)
    return fig


def envelopes(ax: Axes, curve: np.ndarray, most: Sequence[float], least: Sequence[float]) -> None:
    """An exact error curve between the bound (``most``) and Jensen's side (``least``)."""
    t = np.arange(len(curve))
    ax.fill_between(t, least, most, color=ARM_COLOURS["boosting"], alpha=0.15, lw=0)
    ax.plot(t, curve, color=ARM_COLOURS["boosting"])
    ax.text(5.3, most[5], "bound", fontsize=7.5, va="bottom")
    ax.text(2.7, least[3], "Jensen", fontsize=7.5, va="center", ha="right")
    ax.set(xlabel="round t", ylabel="error E[1 - p_t]", yscale="log")
