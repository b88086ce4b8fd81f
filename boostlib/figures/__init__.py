"""One style, one colour an arm everywhere, one function a figure: data frame in, Figure out.

Bands and whiskers are t intervals over seeds; where an arm has one seed, Wilson intervals over the prompts, and a line
under the figure says so. ``save`` writes PNG, PDF and CSV with the hash of the manifest that made them, the same bytes
for the same data.

Not covered: where the tables come from (runs, boosting), which figure belongs in which notebook.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from boostlib import runs
from boostlib.analysis import intervals as stats

ARMS = {  # the order and the words of every figure
    "do_nothing": "do nothing",
    "filter_only": "filter only",
    "self_labeled": "self-labeled",
    "boosting": "boosting",
    "uniform": "uniform labels",
    "labels_only": "labels only",
}
ARM_COLOURS = {  # apart for colour-blind readers too (a test holds them to it)
    "do_nothing": "#4d4d4d",
    "filter_only": "#0b3c9a",
    "self_labeled": "#a03e91",
    "boosting": "#e1550a",
    "uniform": "#179864",
    "labels_only": "#4eb0e2",
}
POLICY_COLOURS = {  # hard and uniform are the arms of those names
    "hard": ARM_COLOURS["boosting"],
    "uniform": ARM_COLOURS["uniform"],
    "random_subset": "#8a8a8a",
    "prop2diff": ARM_COLOURS["filter_only"],
    "uniform_until_solved": ARM_COLOURS["labels_only"],
    "frontier": ARM_COLOURS["self_labeled"],
    "multiplicative_weights": "#8c4f1d",
    "bandit": "#b8951a",
    "oracle": "#000000",
}
COLOURS = ARM_COLOURS | POLICY_COLOURS
SPARE = ("#7a5c00", "#00687a", "#d17ea8", "#9a9a9a", "#5b3a29", "#6a8f00", "#c9a227")  # for arms of the user's own
PERCENT = PercentFormatter(1, decimals=0, symbol="")
PAGE = 6.75  # inches across a page of text; half a page is PAGE by about half of that


def style() -> None:
    """Set the project's matplotlib style (through seaborn); call it once, before drawing."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    if "inline" in (mpl.get_backend(auto_select=False) or ""):
        plt.switch_backend(mpl.get_backend())  # or a notebook prints a Figure's name where its picture should be
    sns.set_theme(style="ticks", context="paper", font="DejaVu Sans")
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "figure.constrained_layout.use": True,
            "font.size": 8,
            "axes.titlesize": 8.5,
            "axes.labelsize": 8,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "legend.fontsize": 7.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.7,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "lines.linewidth": 1.6,
            "lines.markersize": 3.5,
            "pdf.fonttype": 42,
            "svg.hashsalt": "boostlib",
        }
    )


def save(fig: Figure, name: str, data: pd.DataFrame, manifest_hash: str, folder: str | Path = "figures") -> list[Path]:
    """Write folder/name.png, .pdf and .csv, each whole or not at all; returns the three paths.

    The manifest's hash is PNG text "Manifest", a PDF keyword and the CSV's last column. No date or version goes in: the
    same figure and data give the same bytes.
    """
    if not manifest_hash:
        raise ValueError("manifest_hash is empty: pass the hash of the manifest whose run made the data")
    files = {}
    for kind, metadata in {
        "png": {"Software": None, "Manifest": manifest_hash},
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None, "Keywords": f"manifest {manifest_hash}"},
    }.items():
        buffer = io.BytesIO()
        fig.savefig(buffer, format=kind, metadata=metadata)
        files[kind] = buffer.getvalue()
    files["csv"] = data.assign(manifest=manifest_hash).to_csv(index=False, lineterminator="\n").encode()
    paths = [Path(folder) / f"{name}.{kind}" for kind in files]
    for path, content in zip(paths, files.values(), strict=True):
        runs.write_bytes(path, content)
    return paths


def summarise(table: pd.DataFrame, value: str, by: Sequence[str], n: str | None = None) -> pd.DataFrame:
    """Mean and 95% interval of a column over the rows (seeds) of each group: columns by, mean, low, high, seeds.

    One seed has no t interval; where ``n`` names the column with the number of prompts its Wilson interval stands in.
    """
    rows = []
    for key, group in table.dropna(subset=[value]).groupby(list(by), sort=False):
        one = stats.mean_interval(group[value])
        if len(group) == 1 and n is not None:
            prompts = int(group[n].iloc[0])
            one = stats.proportion(int(np.rint(group[value].iloc[0] * prompts)), prompts)
        rows.append((*key, one.value, one.low, one.high, len(group)))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def by_round(table: pd.DataFrame, title: str = "") -> Figure:
    """The paper's figure from a round table (one row per arm, seed, round; columns as ``boost`` returns them).

    Left: test accuracy by arm. Right, a panel an arm: train accuracy@1 solid, accuracy@k stacked above it in a lighter
    tone.
    """
    arms = colours_of(table["arm"])
    fig = Figure(figsize=(PAGE, 3.1), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=[1.12, 1])
    columns = 2 if len(arms) > 1 else 1
    panels = right.subplots(-(-len(arms) // columns), columns, sharex=True, sharey=True, squeeze=False)
    parts = {
        column: summarise(table, column, ["arm", "round"], "n_train")
        for column in ("train_accuracy", "train_accuracy_at_k")
    }
    k = "/".join(str(int(k)) for k in sorted(table["k"].dropna().unique()))
    for panel, (arm, colour) in zip(panels.flat, arms.items(), strict=False):
        one, at_k = (part[part["arm"] == arm].set_index("round") for part in parts.values())
        panel.bar(at_k.index, at_k["mean"], 0.8, color=lighter(colour), linewidth=0)
        panel.bar(one.index, one["mean"], 0.8, color=colour, linewidth=0)
        for part in (one, at_k):
            known = part.dropna(subset="low")
            panel.vlines(known.index, known["low"].clip(0), known["high"].clip(upper=1), color="#333333", lw=0.7)
        panel.set_title(label_of(arm), loc="left", color=colour, fontsize=8, pad=2)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        percents(panel.yaxis)
    for panel in panels.flat[len(arms) :]:
        panel.set_visible(False)
    right.supylabel(f"train accuracy (%): @1 solid, @{k} light", fontsize=8)
    right.supxlabel("round", fontsize=8)
    _footnote(fig, table)

    ax = left.subplots()
    ax.set_title(title, loc="left")
    ax.set_ylabel("test accuracy (% of problems, greedy)")
    curves(ax, table, "test_accuracy", n="n_test")  # last: the places of the names need the final layout
    return fig


def accuracy_by_level(table: pd.DataFrame) -> Figure:
    """Test accuracy over rounds, a panel per level of difficulty, one line an arm.

    ``table`` has one row per arm, seed, round and level: columns arm, seed, round, level, accuracy, n (problems of that
    level).
    """
    levels = sorted(table["level"].unique())
    columns = min(len(levels), min((4, 3), key=lambda c: -len(levels) % c))
    rows = -(-len(levels) // columns)
    fig = Figure(figsize=(PAGE, 0.45 + 1.75 * rows), layout="constrained")
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel, level in zip(panels.flat, levels, strict=False):
        part = table[table["level"] == level]
        curves(panel, part, "accuracy", n="n", ends=False, colours=colours_of(table["arm"]))
        words = level if isinstance(level, str) else f"level {level}"
        panel.set_title(f"{words}  ({int(part['n'].max())} problems)", loc="left", fontsize=8)
        panel.set_xlabel("")
    for place, panel in enumerate(panels.flat):
        panel.set_visible(place < len(levels))
        if place + columns >= len(levels):  # nothing below it
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("round")
    panels[0, 0].set_ylim(bottom=0)
    fig.supylabel("test accuracy (% of problems)", fontsize=8)
    key_line(fig, {label_of(arm): colour for arm, colour in colours_of(table["arm"]).items()})
    _footnote(fig, table.drop_duplicates(["arm", "seed"]))
    return fig


def curves(
    ax: Axes,
    table: pd.DataFrame,
    y: str,
    x: str = "round",
    by: str = "arm",
    n: str | None = None,
    ends: bool = True,
    colours: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One line per value of ``by``: the mean of y over seeds at each x, its 95% band, its name at its end; returns what
    was drawn.

    ``colours``: name -> colour, in the order of drawing; None: ``colours_of`` the names.
    """
    colours = colours_of(table[by]) if colours is None else colours
    drawn = summarise(table, y, [by, x], n).sort_values(x)
    floor = 0.0 if drawn["mean"].min() >= 0 else -np.inf  # a share's or a count's band ends at 0
    ceiling = 1.0 if "accuracy" in y else np.inf
    for name, colour in colours.items():
        line = drawn[drawn[by] == name]
        ax.fill_between(
            line[x],
            line["low"].clip(floor),
            line["high"].clip(upper=ceiling),
            color=colour,
            alpha=0.16,
            linewidth=0,
        )
        ax.plot(line[x], line["mean"], color=colour, marker="o", markeredgewidth=0)
    if "accuracy" in y:
        percents(ax.yaxis)
    ax.set_xlabel(x)
    if x == "round":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if ends:
        ax.set_ylim(bottom=max(floor, ax.get_ylim()[0]))
        last = drawn.groupby(by).tail(1).set_index(by)
        label_ends(ax, [(last[x][a], last["mean"][a], label_of(a), c) for a, c in colours.items() if a in last.index])
    return drawn


def label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name lines at their right ends, (x, y, text, colour) each, moved apart just enough that none overlap.

    The least sum of squared moves with the order kept: blocks of labels that touch share the mean of their wishes.
    """
    size = 7.5
    fig = ax.get_figure(root=True)
    fig.draw_without_rendering()  # the layout must stand before heights in points mean anything
    height = ax.get_window_extent().height * 72 / fig.dpi
    low, high = ax.get_ylim()
    ends = sorted(ends, key=lambda end: end[1])
    gap = 1.25 * size
    blocks: list[list[float]] = []  # (mean wish less its place in the pile, number of labels)
    for i, (_, y, _, _) in enumerate(ends):
        blocks.append([(y - low) / (high - low) * height - i * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    places = [start for start, count in blocks for _ in range(int(count))]
    top = height - (len(ends) - 1) * gap
    right = max(x for x, *_ in ends)
    for i, ((x, y, text, colour), place) in enumerate(zip(ends, places, strict=True)):
        wish = (y - low) / (high - low) * height
        shift = min(max(place, 0.0), max(top, 0.0)) + i * gap - wish
        ax.annotate(
            text,
            (right, y),
            (9, shift),
            textcoords="offset points",
            color=colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
        )
        label_side = ax.transData + ScaledTranslation(8 / 72, shift / 72, fig.dpi_scale_trans)
        ax.annotate(
            "",
            (x, y),
            (right, y),
            textcoords=label_side,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3},
            annotation_clip=False,
        )
    fig.draw_without_rendering()


def key_line(fig: Figure, names: Mapping[str, str]) -> None:
    """The names (text -> colour) in one line above the panels, each in its colour: a key where line ends have no room."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, lw=2) for colour in names.values()]
    fig.legend(
        handles,
        list(names),
        labelcolor=list(names.values()),
        loc="outside upper left",
        ncols=len(names),
        frameon=False,
        handlelength=1.1,
        columnspacing=1.3,
        borderpad=0,
    )


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Name -> colour in the order of every figure: arms, policies, then others in order of appearance, in spare colours."""
    names = list(dict.fromkeys(names))
    others = [name for name in names if name not in COLOURS]
    if len(others) > len(SPARE):
        raise ValueError(
            f"{len(others)} names without a colour ({', '.join(others)}): at most {len(SPARE)} can be told apart"
        )
    return {name: COLOURS[name] for name in COLOURS if name in names} | dict(zip(others, SPARE, strict=False))


def label_of(name: str) -> str:
    """What a figure calls an arm or policy."""
    return ARMS.get(name, name.replace("_", " "))


def percents(axis: Axis, ticks: int | str = "auto") -> None:
    """Whole percents on an axis of shares: no tick at 27.5 that reads 28; at most ``ticks`` intervals."""
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(PERCENT)


def lighter(colour: str, by: float = 0.6) -> tuple[float, ...]:
    """The colour moved towards white."""
    return tuple(by + (1 - by) * part for part in to_rgb(colour))


def _footnote(fig: Figure, table: pd.DataFrame) -> None:
    seeds = table.groupby("arm")["seed"].nunique()
    least, most = seeds.min(), seeds.max()
    text = f"95% t intervals over {least if least == most else f'{least} to {most}'} seeds"
    if most == 1:
        text = "one seed: 95% Wilson intervals over problems, given the seed"
    elif least == 1:
        text += "; arms with one seed: Wilson, over problems, given the seed"
    fig.supxlabel(text, x=0.995, ha="right", fontsize=6.5, color="#777777")
