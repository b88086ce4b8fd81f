"""Executing the suite's notebooks with papermill: profiles, parameter checks, whole outputs, records.

papermill warns of an unknown parameter and goes on, and writes its output in place; both are mended here.
Not covered: grids of parameters, several machines.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostlib import runs

if TYPE_CHECKING:
    import pandas as pd

KERNEL = "boostlib"
TYPES = {"int": int, "float": int | float, "str": str, "bool": bool, "list": list, "dict": dict}  # of parameters


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
    folder = notebook.parent / "profiles"
    known = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if profile not in known:
        raise ValueError(f"unknown profile {profile!r}: there are {', '.join(known)}")
    path = folder / profile / f"{notebook.stem}.yaml"
    return (read_yaml(path.read_text(), str(path)) or {}) if path.exists() else {}


def read_yaml(text: str, where: str) -> Any:
    """YAML in which 1e-5 is a number (plain PyYAML reads it as a string). Raises ValueError naming ``where``."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def parameters_of(notebook: Path) -> dict[str, str]:
    """Names and defaults of the notebook's parameters cell."""
    return {name: facts["default"] for name, facts in _inspected(notebook).items()}


def _inspected(notebook: Path) -> dict[str, dict]:
    import papermill

    return papermill.inspect_notebook(str(notebook))


def check_parameters(notebook: Path, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``given`` with ``profile`` and types as the notebook's cell declares them. Raises ValueError, naming notebook and
    parameter, for an unknown name and for a value of another type."""
    known, checked = _inspected(notebook), dict(given)
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{notebook.name} has no parameter {name!r} ({where}): it has {', '.join(known)}")
        declared = re.split(r"[\[ |]", known[name]["inferred_type_name"] or "")[0]
        right = TYPES.get(declared, object)
        optional = value is None and "None" in known[name]["inferred_type_name"]
        if not optional and (not isinstance(value, right) or isinstance(value, bool) and declared in ("int", "float")):
            raise ValueError(
                f"{notebook.name}: {name} = {value!r} is not possible ({where}): it must be of type {declared}"
            )
    return checked


def execute(
    notebook: Path,
    profile: str = "mini",
    parameters: Mapping[str, Any] | None = None,
    root: Path | None = None,
    *,
    target: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Execute one notebook and return the path of the executed copy, papermill_runs/<profile>/<name>.ipynb or ``target``.

    The copy appears when the notebook has ended well; a notebook that fails leaves <name>.failed.ipynb beside an older
    copy, which stays. ``quiet``: progress to the log alone. Raises ValueError for a parameter that the notebook does not
    have or whose type differs, RuntimeError where another process executes the same notebook to the same place.
    """
    import papermill

    root = root or runs.project_root()
    parameters = dict(parameters or {})
    given = check_parameters(notebook, profile_parameters(profile, notebook) | parameters, f"profile {profile}")
    if "profile" in parameters_of(notebook):
        given["profile"] = profile
    command = command_of(notebook, profile, parameters)
    target = target or root / "papermill_runs" / profile / notebook.name
    unfinished, failed = target.with_suffix(".running.ipynb"), target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    name = runs.digest(str(target.relative_to(root)))[:10]
    log = root / "runs" / (f"{profile}-{notebook.stem}.log" if not quiet else f"locks/{name}/progress.log")
    variables = {"BOOSTLIB_PROGRESS": _terminal(log, quiet), "BOOSTLIB_COMMAND": command, "PYTHONHASHSEED": "0"}
    with runs.locked(root / "runs" / "locks" / name, f"{target.relative_to(root)}"), kernel_environment(variables):
        try:
            papermill.execute_notebook(
                str(notebook),
                str(unfinished),
                parameters=given,
                kernel_name=KERNEL,
                cwd=str(notebook.parent),
                progress_bar=sys.stderr.isatty() and not quiet,
                extra_arguments=["--log-level=CRITICAL"],  # a kernel greets with a warning about its own transport
            )
        except Exception:  # a cell failed, or the kernel died: what was executed is there to be read
            with contextlib.suppress(FileNotFoundError):
                os.replace(unfinished, failed)
            raise
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        runs.write_text(target, _tidy(unfinished, notebook, command))
        unfinished.unlink()
        failed.unlink(missing_ok=True)
    return target


@contextlib.contextmanager
def kernel_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the kernels that are started within."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def command_of(notebook: Path, profile: str, parameters: Mapping[str, Any]) -> str:
    """The command line that executes this notebook with these parameters."""
    given = [f"-p {name} {shlex.quote(json.dumps(value))}" for name, value in parameters.items()]
    return " ".join(["boostlib run", notebook.stem, "--profile", profile, *given])


def _terminal(log: Path, quiet: bool) -> str:
    """Where the kernel's progress bars go: this process's terminal, else a log file."""
    if sys.stderr.isatty() and not quiet:
        return os.ttyname(sys.stderr.fileno())
    log.parent.mkdir(parents=True, exist_ok=True)
    return str(log)


def _tidy(executed: Path, source: Path, command: str) -> str:
    """The executed notebook without what names this machine or differs from run to run for no reason; the command that
    made its tables stands below the title."""
    content = json.loads(executed.read_text(encoding="utf-8"))
    about = content["metadata"].get("papermill", {})
    about["input_path"], about["output_path"] = f"notebooks/{source.name}", source.name
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
    note = {"cell_type": "markdown", "id": "made-by", "metadata": {}, "source": [f"Executed by `{command}`"]}
    content["cells"].insert(1, note)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


# --- tables that a notebook leaves behind -----------------------------------------------------------------------------


def save_tables(
    notebook: str,
    profile: str,
    tables: Mapping[str, pd.DataFrame],
    about: Mapping[str, Any],
    root: Path | None = None,
) -> Path:
    """Write a finished notebook's small tables and their manifest to runs/tables/<profile>/<notebook>/, or, within a
    sweep, to the folder of the sweep's run.

    ``about`` is what made them (parameters, data and model hashes); the command, versions, hardware, commit and time
    are added.
    """
    here = os.environ.get("BOOSTLIB_TABLES")
    folder = (Path(here) if here else (root or runs.project_root()) / "runs" / "tables" / profile) / notebook
    command = {"command": os.environ.get("BOOSTLIB_COMMAND", "executed in Jupyter")}
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
