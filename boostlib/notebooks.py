"""Executing the suite's notebooks with papermill: profiles, parameter checks, whole outputs, records.

papermill warns of an unknown parameter and goes on, and writes its output in place; both are mended here.
Not covered: grids of parameters, several machines.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import runs

if TYPE_CHECKING:
    import pandas as pd

KERNEL = "boostlib"


def found(root: Path | None = None) -> dict[str, Path]:
    """The notebooks by name, in order."""
    folder = (root or runs.project_root()) / "notebooks"
    return {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def choose(names: Sequence[str], root: Path | None = None) -> list[Path]:
    """Notebooks by any beginning of their names ("02"), in the suite's order; none or "all": every one."""
    every = found(root)
    if not names or list(names) == ["all"]:
        return list(every.values())
    chosen = set()
    for name in names:
        hits = [stem for stem in every if stem.startswith(Path(name).stem)]
        if not hits:
            raise ValueError(
                f"no notebook {name!r}: there are {', '.join(every) or 'none in ' + str((root or runs.project_root()) / 'notebooks')}"
            )
        chosen.update(hits)
    return [path for stem, path in every.items() if stem in chosen]


def profile_parameters(profile: str, notebook: Path) -> dict[str, Any]:
    """notebooks/profiles/<profile>/<notebook>.yaml, a papermill -f file; no file: the notebook's own defaults."""
    import yaml

    folder = notebook.parent / "profiles"
    known = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if profile not in known:
        raise ValueError(f"unknown profile {profile!r}: there are {', '.join(known)}")
    path = folder / profile / f"{notebook.stem}.yaml"
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def parameters_of(notebook: Path) -> dict[str, str]:
    """Names and defaults of the notebook's parameters cell."""
    import papermill

    return {name: facts["default"] for name, facts in papermill.inspect_notebook(str(notebook)).items()}


def execute(
    notebook: Path,
    profile: str = "mini",
    parameters: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Path:
    """Execute one notebook and return the path of the executed copy, papermill_runs/<profile>/<name>.ipynb.

    The copy appears when the notebook has ended well; a notebook that fails leaves <name>.failed.ipynb beside an older
    copy, which stays. Raises ValueError for a parameter that the notebook does not have.
    """
    import papermill

    root = root or runs.project_root()
    given = profile_parameters(profile, notebook) | dict(parameters or {})
    known = parameters_of(notebook)
    for name in given:
        if name not in known:
            raise ValueError(
                f"{notebook.name} has no parameter {name!r} (profile {profile}): it has {', '.join(known)}"
            )
    if "profile" in known:
        given["profile"] = profile
    target = root / "papermill_runs" / profile / notebook.name
    unfinished, failed = target.with_suffix(".running.ipynb"), target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.environ["BOOSTLIB_PROGRESS"] = _terminal(root / "runs" / f"{profile}-{notebook.stem}.log")
    os.environ.setdefault("PYTHONHASHSEED", "0")
    try:
        papermill.execute_notebook(
            str(notebook),
            str(unfinished),
            parameters=given,
            kernel_name=KERNEL,
            cwd=str(notebook.parent),
            progress_bar=sys.stderr.isatty(),
        )
    except papermill.PapermillExecutionError:
        os.replace(unfinished, failed)
        raise
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    runs.write_text(target, _tidy(unfinished, notebook))
    unfinished.unlink()
    failed.unlink(missing_ok=True)
    return target


def _terminal(log: Path) -> str:
    """Where the kernel's progress bars go: this process's terminal, else a log file."""
    if sys.stderr.isatty():
        return os.ttyname(sys.stderr.fileno())
    log.parent.mkdir(parents=True, exist_ok=True)
    return str(log)


def _tidy(executed: Path, source: Path) -> str:
    """The executed notebook without what names this machine or differs from run to run for no reason."""
    content = json.loads(executed.read_text(encoding="utf-8"))
    about = content["metadata"].get("papermill", {})
    about["input_path"], about["output_path"] = f"notebooks/{source.name}", source.name
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


# --- tables that a notebook leaves behind -----------------------------------------------------------------------------


def save_tables(
    notebook: str,
    profile: str,
    tables: Mapping[str, pd.DataFrame],
    about: Mapping[str, Any],
    root: Path | None = None,
) -> Path:
    """Write a finished notebook's small tables and their manifest to runs/tables/<profile>/<notebook>/.

    ``about`` is what made them (parameters, data and model hashes); versions, hardware, commit and time are added.
    """
    folder = (root or runs.project_root()) / "runs" / "tables" / profile / notebook
    with runs.whole_folder(folder) as new:
        for name, table in tables.items():
            runs.write_text(new / f"{name}.csv", table.to_csv(index=False, float_format="%.10g"))
        identity = json.loads(json.dumps(about, default=str))
        runs.write_json(
            new / "manifest.json", {"identity": identity, "hash": runs.digest(identity)} | runs.environment()
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


def record(profile: str, root: Path | None = None) -> list[Path]:
    """Copy the tables of finished notebooks beside the executed ones, for committing. Returns what was copied."""
    root = root or runs.project_root()
    made = []
    for folder in sorted((root / "runs" / "tables" / profile).glob("*")):
        target = root / "papermill_runs" / profile / folder.name
        with runs.whole_folder(target) as new:
            shutil.copytree(folder, new, dirs_exist_ok=True)
        made.append(target)
    if not made:
        raise ValueError(
            f"nothing to record in profile {profile}: no notebook has finished here; run: make figures PROFILE={profile}"
        )
    return made


def took(start: float) -> str:
    """Minutes and seconds since ``start`` (time.perf_counter)."""
    minutes, seconds = divmod(round(time.perf_counter() - start), 60)
    return f"{minutes} min {seconds:02d} s"
