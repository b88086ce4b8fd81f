"""Which notebook, with which parameters: read, checked and named before anything starts.

papermill goes on with a warning where a parameter is unknown, and YAML 1.1 reads 010 as 8 and 1:30 as 90; neither happens here.
Not covered: executing (execute), grids of parameters (sweep).
"""

from __future__ import annotations

import ast
import functools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from boostlib import runs

TAG, PLAIN = "tag:yaml.org,2002:{}", ("null", "bool", "int", "float", "str", "seq", "map")


@dataclass(frozen=True)
class Job:
    """One notebook with its parameters, checked. ``label``: what its results are filed under, "mini" or, where given values
    differ from the profile's, "mini+beta=0.1", so that play never stands where a profile's own results belong."""

    notebook: Path
    profile: str
    parameters: dict[str, Any]
    command: str
    label: str


def choose(names: Sequence[str], root: Path) -> list[Path]:
    """Notebooks by any beginning of their names ("02"), in the suite's order; none or "all": every one."""
    every, chosen = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")), set()
    for name in names or ["all"]:
        hits = {path for path in every if name == "all" or path.stem.startswith(Path(name).stem or name)}
        if not hits:
            there = ", ".join(path.stem for path in every) or f"none below {root}"
            raise ValueError(f"no notebook {name!r}: there are {there}")
        chosen |= hits
    return sorted(chosen)


def resolve(notebook: Path, profile: str, given: Mapping[str, Any], where: str = "") -> Job:
    """The job of this notebook: the profile's values, ``given`` over them, every one as the parameters cell declares it.
    Raises ValueError, naming notebook, parameter and ``where`` it was given, before anything is computed."""
    where = f"{where}, profile {profile}" if where else f"profile {profile}"
    known, base = _declared(*_version(notebook)), _of_profile(notebook, profile)
    defaults = {name: default for name, (_, _, default) in known.items()}
    parameters = {k: str(Path(v).expanduser()) if str(v).startswith("~/") else v for k, v in (base | given).items()}
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"{notebook.name} has no parameter {name!r} ({where}): it has {', '.join(known)}")
        kind, words, _ = known[name]
        try:
            kind.validate_python(value, strict=True)
        except ValidationError as error:
            said = f"{notebook.name}: {name} = {value!r} is not possible ({where}): it must be of type {words}"
            raise ValueError(said) from error
    if "profile" in known:
        parameters["profile"] = profile
    try:
        _check_arms(defaults | parameters)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{notebook.name}: {error} ({where})") from error
    over = "".join(f" -p {name} {shlex.quote(written(value))}" for name, value in given.items())
    command = f"boostlib run {notebook.stem} --profile {profile}{over}"
    usual, new = ({name: written(value) for name, value in some.items()} for some in (defaults | base, given))
    return Job(notebook, profile, parameters, command, _label(profile, dict(new.items() - usual.items())))


def use_profile(notebook: str, profile: str, namespace: dict[str, Any]) -> None:
    """Called below a parameters cell with its ``globals()``: in Jupyter, the values of a profile over those of the cell ("smoke":
    as the cell stands), and says so. Does nothing where papermill gave parameters. Raises ValueError for an unknown one."""
    if profile == "smoke" or any(cell.startswith("# Parameters\n") for cell in namespace.get("_ih", ())):
        return
    namespace |= (values := resolve(choose([notebook], runs.project_root())[0], profile, {}).parameters)
    print(f"profile {profile}:", ", ".join(f"{name} = {value!r}" for name, value in values.items()))


def _label(profile: str, other: Mapping[str, str]) -> str:
    """A folder's name for a profile with other values; what does not fit into one is told apart by a hash."""
    full = "".join(f"+{name}={value}" for name, value in sorted(other.items()))
    short = re.sub(r"[^\w.,=+-]", "", full)[:80]
    return profile + (short if short == full else f"{short}-{runs.digest(full)[:6]}")


def _version(path: Path) -> tuple[Path, int, int]:
    """A file as it is now: what the caches below are kept by."""
    about = path.stat()
    return path, about.st_mtime_ns, about.st_size


@functools.lru_cache
def _declared(notebook: Path, *_version: int) -> dict[str, tuple[TypeAdapter, str, Any]]:
    """Type, its words, and default of every name in the parameters cell, `name: words = default`."""
    cells = [cell for cell in runs.read_json(notebook)["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    found = {}
    for line in ast.parse("".join(cells[0]["source"])).body if cells else ():
        if isinstance(line, ast.AnnAssign):
            words = ast.unparse(line.annotation)
            found[line.target.id] = TypeAdapter(eval(words, {"Any": Any})), words, ast.literal_eval(line.value)
        elif isinstance(line, ast.Assign):
            found |= {one.id: (TypeAdapter(Any), "any", ast.literal_eval(line.value)) for one in line.targets}
    return found


def _check_arms(parameters: Mapping[str, Any]) -> None:
    """What `boost` would refuse after the model was trained: arms, policies and settings that do not exist or cannot be."""
    from boostlib.boosting.settings import arms_of, settings_of
    from boostlib.experiment import common_settings

    arms = arms_of(parameters["arms"]) if "arms" in parameters else {}
    loops = arms | {f"policy {name}": {"policy": name} for name in parameters.get("policies", ())}
    for arm, own in loops.items():
        settings_of(arm, own, common_settings(parameters))
    if arms and parameters.get("baseline", next(iter(arms))) not in arms:
        raise ValueError(f"baseline = {parameters['baseline']!r} is none of the arms: {', '.join(arms)}")


# --- YAML, there and back ---------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Numbers as people and JSON write them (1e-5, Infinity; 010, 1:30 and dates are text), no tags, no key twice."""

    yaml_implicit_resolvers: dict = {}
    yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (None, *map(TAG.format, PLAIN))}

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        if not all(isinstance(name, str | int | float) for name in names) or len({*map(str, names)}) < len(names):
            raise yaml.constructor.ConstructorError(None, None, f"a key is there twice, or is no name: {names}")
        return super().construct_mapping(node, deep)


for _kind, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(\.inf|Infinity)|\.nan|NaN",
}.items():
    _Loader.add_implicit_resolver(TAG.format(_kind), re.compile(f"({_pattern})$"), None)


def read_yaml(text: str, where: str) -> Any:
    """Plain data from YAML. Raises ValueError naming ``where``."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{where} is not YAML of plain values: {' '.join(str(error).split())}") from error


def written(value: Any) -> str:
    """A value as `read_yaml` reads it back: JSON, in which a character beyond 16 bits stands for itself."""
    pair = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
    return pair.sub(lambda found: json.loads(f'"{found[0]}"'), json.dumps(value))


def _of_profile(notebook: Path, profile: str) -> dict[str, Any]:
    """notebooks/profiles/<profile>/<notebook>.yaml, a papermill -f file; no file: the notebook's own defaults."""
    known = {path.name: path / f"{notebook.stem}.yaml" for path in sorted(notebook.parent.glob("profiles/*/"))}
    if profile not in known:
        raise ValueError(f"unknown profile {profile!r}: there are {', '.join(known)}")
    return _mapping(*_version(known[profile])) if known[profile].exists() else {}


@functools.lru_cache
def _mapping(path: Path, *_version: int) -> dict[str, Any]:
    found = read_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is {found!r}; it must map parameter names to values")
    return found
