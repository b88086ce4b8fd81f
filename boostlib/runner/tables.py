"""Tables that a notebook leaves behind. A working copy: they belong to boostlib.experiment.

Not covered: recording them (execute).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostlib import runs

if TYPE_CHECKING:
    import pandas as pd


def save_tables(
    notebook: str,
    profile: str,
    tables: Mapping[str, pd.DataFrame],
    about: Mapping[str, Any],
    root: Path | None = None,
) -> Path:
    """Write a finished notebook's small tables and their manifest to the folder that the runner names, below runs/tables/;
    in Jupyter, where parameters may be anything, to runs/tables/<profile>+jupyter/<notebook>/.

    ``about`` is what made them (parameters, data and model hashes); the command, versions, hardware, commit and time
    are added.
    """
    context = runs.context()
    here = context.get("tables", (root or runs.project_root()) / "runs" / "tables" / f"{profile}+jupyter")
    folder = Path(here) / notebook
    command = {"command": context.get("command", "executed in Jupyter")}
    with runs.whole_folder(folder) as new:
        for name, table in tables.items():
            runs.write_text(new / f"{name}.csv", table.to_csv(index=False, float_format="%.10g"))
        identity = json.loads(json.dumps(about, default=str))
        runs.write_json(
            new / "manifest.json",
            {"identity": identity, "hash": runs.digest(identity)} | command | runs.environment(),
        )
    return folder


def tables_of(notebook: str, profile: str, root: Path | None = None) -> tuple[dict[str, pd.DataFrame], dict, str]:
    """Tables, manifest and "fresh" or "recorded": those of a run made here, else those committed under papermill_runs/.

    Raises FileNotFoundError where there are neither.
    """
    import pandas as pd

    root = root or runs.project_root()
    for kind, folder in (("fresh", root / "runs" / "tables"), ("recorded", root / "papermill_runs")):
        here = folder / profile / notebook
        if (here / "manifest.json").exists():
            tables = {path.stem: pd.read_csv(path) for path in sorted(here.glob("*.csv"))}
            return tables, runs.read_json(here / "manifest.json"), kind
    raise FileNotFoundError(
        f"no tables of {notebook} in profile {profile}, fresh or recorded; make them with: boostlib run {notebook} --profile {profile}"
    )


def took(start: float) -> str:
    """Minutes and seconds since ``start`` (time.perf_counter)."""
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    return f"{minutes} min {seconds:02d} s"
