"""One style, one colour an arm everywhere, one way to save a figure.

Not covered: what is drawn (drawing and the figures of each kind), which figure belongs in which notebook.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from boostlib import runs

_ARMS = {  # the order, words and colours of every figure, apart for colour-blind readers too (a test holds them to it)
    "do_nothing": ("do nothing", "#4d4d4d"),
    "filter_only": ("filter only", "#0b3c9a"),
    "self_labeled": ("self-labeled", "#a03e91"),
    "boosting": ("boosting", "#e1550a"),
    "uniform": ("uniform labels", "#179864"),
    "labels_only": ("labels only", "#4eb0e2"),
}
ARMS, ARM_COLOURS = ({arm: pair[i] for arm, pair in _ARMS.items()} for i in (0, 1))
COLOURS = ARM_COLOURS | {  # and of policies; hard and uniform are the arms of those names
    "hard": ARM_COLOURS["boosting"],
    "random_subset": "#8a8a8a",
    "prop2diff": ARM_COLOURS["filter_only"],
    "uniform_until_solved": ARM_COLOURS["labels_only"],
    "frontier": ARM_COLOURS["self_labeled"],
    "multiplicative_weights": "#8c4f1d",
    "boost": "#8c4f1d",  # its name in older records
    "bandit": "#b8951a",
    "oracle": "#000000",
}
SPARE = ("#7a5c00", "#00687a", "#d17ea8", "#9a9a9a", "#5b3a29", "#6a8f00", "#c9a227")  # for arms of the user's own
PERCENT = PercentFormatter(1, decimals=0, symbol="")
PAGE = 6.75  # inches across a page of text; half a page is PAGE by about half of that


def style() -> None:
    """Set the project's matplotlib style (through seaborn); call it once, before drawing."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    if "inline" in (mpl.get_backend(auto_select=False) or ""):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        plt.switch_backend(mpl.get_backend())  # or a notebook prints a Figure's name where its picture should be
        set_matplotlib_formats("retina")
    sns.set_theme(style="ticks", context="paper", font="DejaVu Sans")
    mpl.rc("figure", **{"dpi": 110, "constrained_layout.use": True})
    mpl.rc("savefig", dpi=200, facecolor="white")  # a dark page shows it too
    mpl.rc("font", size=8)
    mpl.rc("legend", fontsize=7.5)
    mpl.rc("axes", titlesize=8.5, labelsize=8, linewidth=0.7, axisbelow=True, grid=True)
    mpl.rc("axes", **{"spines.top": False, "spines.right": False, "grid.axis": "y"})
    mpl.rc("grid", color="#e6e6e6", linewidth=0.6)
    mpl.rc(("xtick", "ytick"), **{"labelsize": 7.5, "major.width": 0.7, "major.size": 3})
    mpl.rc("lines", linewidth=1.6, markersize=3.5)
    mpl.rc("pdf", fonttype=42)


def save(
    fig: Figure, name: str, data: pd.DataFrame, manifest_hash: str, folder: str | Path = "figures", caption: str = ""
) -> list[Path]:
    """Write folder/name.png, .pdf and .csv, each whole or not at all; returns the three paths. The manifest's hash is PNG
    text "Manifest", a PDF keyword and the CSV's last column; the caption, for who cannot see it too, is PNG text
    "Description". The same figure and data give the same bytes."""
    if not manifest_hash:
        raise ValueError("manifest_hash is empty: pass the hash of the manifest whose run made the data")
    pdf = {"Creator": None, "Producer": None, "CreationDate": None, "Keywords": f"manifest {manifest_hash}"}
    files = {}
    png = {"Software": None, "Manifest": manifest_hash} | ({"Description": caption} if caption else {})
    for kind, metadata in {"png": png, "pdf": pdf}.items():
        buffer = io.BytesIO()
        fig.savefig(buffer, format=kind, metadata=metadata)
        files[kind] = buffer.getvalue()
    files["csv"] = data.assign(manifest=manifest_hash).to_csv(index=False, lineterminator="\n").encode()
    paths = [Path(folder) / f"{name}.{kind}" for kind in files]
    for path, content in zip(paths, files.values(), strict=True):
        runs.write_bytes(path, content)
    return paths


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Name -> colour in the order of every figure: arms, policies, then others in order of appearance, in spare colours."""
    names = list(dict.fromkeys(names))
    others = [name for name in names if name not in COLOURS]
    if len(others) > len(SPARE):
        raise ValueError(f"no colours for {', '.join(others)}: at most {len(SPARE)} new names can be told apart")
    return {name: COLOURS[name] for name in COLOURS if name in names} | dict(zip(others, SPARE, strict=False))


def label_of(name: str) -> str:
    """What a figure calls an arm or policy."""
    return ARMS.get(name, name.replace("_", " "))


def lighter(colour: str, by: float = 0.6) -> tuple[float, ...]:
    """The colour moved towards white."""
    return tuple(by + (1 - by) * part for part in to_rgb(colour))
