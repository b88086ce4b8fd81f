"""What figures share: means with intervals, lines with their bands and names, dots with whiskers, keys, notes.

Bands and whiskers are t intervals over seeds; where an arm has one seed, Wilson intervals over the prompts (k samples of
one count as one), and a line under the figure says so. Not covered: colours, style and saving (palette), whole figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from boostlib.analysis import intervals
from boostlib.figures.palette import PAGE, PERCENT, colours_of, label_of


def summarise(table: pd.DataFrame, value: str, by: Sequence[str], n: str | None = None) -> pd.DataFrame:
    """Mean and 95% interval of a column over the rows (seeds) of each group: columns by, mean, low, high, seeds. One seed
    has no t interval; where ``n`` names the column with the number of prompts its Wilson interval stands in."""
    rows = []
    for key, group in table.dropna(subset=[value]).groupby(list(by), sort=False):
        one = intervals.mean_interval(group[value])
        if len(group) == 1 and n is not None:
            prompts = int(group[n].iloc[0])
            one = intervals.proportion(group[value].iloc[0] * prompts, prompts)  # a share of k samples is between
        rows.append((*key, one.value, one.low, one.high, len(group)))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def panels(rows: int, columns: int, height: float, width: float = PAGE, **more) -> tuple[Figure, np.ndarray]:
    """A figure (inches) and its axes (rows, columns); ``more`` goes to `Figure.subplots`."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, **more)


def curves(
    ax: Axes, table: pd.DataFrame, y: str, x="round", by="arm", n: str | None = None, ends=True, colours: Mapping = None,
    bands=True,
) -> pd.DataFrame:  # fmt: skip
    """One line per value of ``by``: the mean of y over seeds at each x, its 95% band, its name at its end; returns what
    was drawn. ``colours``: name -> colour, in the order of drawing; None: ``colours_of`` the names."""
    colours = colours_of(table[by]) if colours is None else colours
    drawn = summarise(table, y, [by, x], n).sort_values(x)
    floor = 0.0 if drawn["mean"].min() >= 0 else -np.inf  # a share's or a count's band ends at 0
    ceiling = 1.0 if "accuracy" in y else np.inf
    for name, colour in colours.items():
        line = drawn[drawn[by] == name]
        if bands:
            band = line["low"].clip(floor), line["high"].clip(upper=ceiling)
            ax.fill_between(line[x], *band, color=colour, alpha=0.16, linewidth=0)
        ax.plot(line[x], line["mean"], color=colour, marker="o", markeredgewidth=0)
    if "accuracy" in y:
        percents(ax.yaxis)
    ax.set_xlabel(x)
    if x == "round":
        whole_numbers(ax.xaxis)
    if ends:
        ax.set_ylim(bottom=max(floor, ax.get_ylim()[0]))
        last = drawn.groupby(by).tail(1).set_index(by)
        label_ends(ax, [(last[x][a], last["mean"][a], label_of(a), c) for a, c in colours.items() if a in last.index])
    return drawn


def label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name lines at their right ends, (x, y, text, colour) each, moved apart just enough that none overlap: the least sum
    of squared moves with the order kept: blocks of labels that touch share the mean of their wishes."""
    size, gap = 7.5, 1.25 * 7.5  # points
    fig = ax.get_figure(root=True)
    fig.draw_without_rendering()  # the layout must stand before heights in points mean anything
    height = ax.get_window_extent().height * 72 / fig.dpi
    low, high = ax.get_ylim()
    ends = sorted(ends, key=lambda end: end[1])
    wishes = [(y - low) / (high - low) * height for _, y, _, _ in ends]
    blocks: list[list[float]] = []  # (mean wish less its place in the pile, number of labels)
    for i, wish in enumerate(wishes):
        blocks.append([wish - i * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    places = [start for start, count in blocks for _ in range(int(count))]
    top, right = max(height - (len(ends) - 1) * gap, 0.0), max(x for x, *_ in ends)
    free = {"annotation_clip": False}  # names stand outside the axes
    for i, ((x, y, text, colour), place, wish) in enumerate(zip(ends, places, wishes, strict=True)):
        shift = min(max(place, 0.0), top) + i * gap - wish
        look = {"color": colour, "fontsize": size, "va": "center"}
        ax.annotate(text, (right, y), (9, shift), textcoords="offset points", **look, **free)
        beside = ax.transData + ScaledTranslation(8 / 72, shift / 72, fig.dpi_scale_trans)
        line = {"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
        ax.annotate("", (x, y), (right, y), textcoords=beside, arrowprops=line, **free)
    fig.draw_without_rendering()


def dots(ax: Axes, x, y, low, high, colour: str, size=4.5, width=1.4, upright: bool = False, **more) -> None:
    """Points at (x, y) with their intervals, which lie along x, or along y where they stand ``upright``."""
    along = ax.vlines if upright else ax.hlines
    along(x if upright else y, low, high, color=colour, lw=width)
    ax.plot(x, y, "o", color=colour, ms=size, **more)


def name_rows(ax: Axes, names: Sequence[str], xlabel: str) -> None:
    """One row a name, from the top, with thin lines across from the ticks of x."""
    ax.set_yticks(range(len(names)), labels=names)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    ax.grid(False, axis="y")


def key_line(fig: Figure, names: Mapping[str, str], ncols: int | None = None, dotted: Iterable[str] = ()) -> None:
    """The names (text -> colour) in one line above the panels, each in its colour: a key where line ends have no room."""
    handles = [Line2D([], [], color=c, lw=2, ls=":" if name in dotted else "-") for name, c in names.items()]
    look = {"labelcolor": list(names.values()), "ncols": ncols or len(names), "handlelength": 1.1, "columnspacing": 1.3}
    legend(fig, handles=handles, labels=list(names), **look)


def legend(fig: Figure, **more) -> None:
    """Above the panels, from the left, without a frame."""
    fig.legend(loc="outside upper left", frameon=False, borderpad=0, **more)


def note(fig: Figure, text: str) -> None:
    """A line in small print under the figure."""
    fig.supxlabel(text, x=0.995, ha="right", fontsize=6.5, color="#777777")


def note_seeds(fig: Figure, table: pd.DataFrame) -> None:
    """What the intervals of the figure are over, from columns arm and seed."""
    least, most = table.groupby("arm")["seed"].nunique().agg(["min", "max"])
    text = f"95% t intervals over {least if least == most else f'{least} to {most}'} seeds"
    if most == 1:
        text = "one seed: 95% Wilson intervals over problems (k samples count as one), given the seed"
    elif least == 1:
        text += "; arms with one seed: Wilson, over problems, given the seed"
    note(fig, text)


def hide_unused(panels: np.ndarray, used: int) -> None:
    """Of panels (rows, columns) show the first ``used``, with tick labels where nothing is below."""
    for place, panel in enumerate(panels.flat):
        panel.set_visible(place < used)
        if place + panels.shape[1] >= used:
            panel.tick_params(labelbottom=True)


def whole_numbers(axis: Axis, ticks: int = 10) -> None:
    """Ticks at whole numbers (rounds, labels, counts) alone, at most ``ticks`` intervals."""
    axis.set_major_locator(MaxNLocator(ticks, integer=True))


def percents(axis: Axis, ticks: int | str = "auto") -> None:
    """Whole percents on an axis of shares: no tick at 27.5 that reads 28; at most ``ticks`` intervals."""
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(PERCENT)
