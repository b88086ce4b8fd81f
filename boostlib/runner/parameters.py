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
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from boostlib import runs


@dataclass(frozen=True)
class Job:
    """One notebook with its parameters, checked. ``label``: what its results are filed under: the profile, and what was
    given beside it and differs ("mini+beta=0.1"), so that play never stands where a profile's own results belong."""

    notebook: Path
    profile: str
    parameters: dict[str, Any]
    command: str
    label: str


def choose(names: Sequence[str], root: Path) -> list[Path]:
    """Notebooks by any beginning of their names ("02"), in the suite's order; none or "all": every one."""
    every = {path.stem: path for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    if not names or list(names) == ["all"]:
        return list(every.values())
    chosen = set()
    for name in names:
        if not (hits := {stem for stem in every if Path(name).stem and stem.startswith(Path(name).stem)}):
            raise ValueError(f"no notebook {name!r}: there are {', '.join(every) or f'none below {root}'}")
        chosen |= hits
    return [path for stem, path in every.items() if stem in chosen]


def resolve(notebook: Path, profile: str, given: Mapping[str, Any], where: str = "") -> Job:
    """The job of this notebook: the profile's values, ``given`` over them, every one as the parameters cell declares it.

    Raises ValueError, naming notebook, parameter and ``where`` it was given, before anything is computed.
    """
    where = f"{where}, profile {profile}" if where else f"profile {profile}"
    known, base = _declared(*_version(notebook)), _of_profile(notebook, profile)
    parameters = {k: str(Path(v).expanduser()) if str(v).startswith("~/") else v for k, v in (base | given).items()}
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"{notebook.name} has no parameter {name!r} ({where}): it has {', '.join(known)}")
        if not fits(value, known[name].kind):
            right = f"it must be of type {known[name].words}"
            raise ValueError(f"{notebook.name}: {name} = {value!r} is not possible ({where}): {right}")
    if "profile" in known:
        parameters["profile"] = profile
    defaults = {name: one.default for name, one in known.items()}
    _check_arms(notebook, defaults | parameters, where)
    words = [f"-p {name} {shlex.quote(written(value))}" for name, value in given.items()]
    command = " ".join(["boostlib run", notebook.stem, "--profile", profile, *words])
    usual = {name: written(value) for name, value in (defaults | base).items()}
    other = {name: written(value) for name, value in given.items() if written(value) != usual[name]}
    return Job(notebook, profile, parameters, command, _label(profile, other))


# --- what a notebook declares -----------------------------------------------------------------------------------------


class Declared(typing.NamedTuple):
    """One line of a parameters cell, `name: words = default`; ``kind`` is the type that the words stand for."""

    kind: Any
    words: str
    default: Any


def _version(path: Path) -> tuple[Path, int, int]:
    """A file as it is now: what the caches below are kept by."""
    about = path.stat()
    return path, about.st_mtime_ns, about.st_size


@functools.lru_cache
def _declared(notebook: Path, *_version: int) -> dict[str, Declared]:
    cells = [cell for cell in runs.read_json(notebook)["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    found = {}
    for line in ast.parse("".join(cells[0]["source"])).body if cells else ():
        if isinstance(line, ast.AnnAssign):
            words = ast.unparse(line.annotation)
            found[line.target.id] = Declared(eval(words, {"Any": Any}), words, ast.literal_eval(line.value))
        elif isinstance(line, ast.Assign):
            found |= {one.id: Declared(Any, "any", ast.literal_eval(line.value)) for one in line.targets}
    return found


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, elements of lists and mappings included. A whole number is a float, a bool no number."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or value is None and kind in (None, types.NoneType):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, inner[1]) for one in value.values())
    if origin is list:
        return isinstance(value, list) and all(fits(one, inner[0]) for one in value)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


def _check_arms(notebook: Path, parameters: Mapping[str, Any], where: str) -> None:
    """What `boost` would refuse after the model was trained: arms, policies and settings that do not exist or cannot be."""
    from boostlib.boosting.settings import Settings, arms_of, settings_of

    loops = {f"policy {name}": {"policy": name} for name in parameters.get("policies", ())}
    if not loops and "arms" not in parameters:
        return
    names = [field.name for field in fields(Settings) if field.name in parameters]
    zero = {"budget", "max_new_tokens"}  # 0 in a parameters cell: None
    common = {name: parameters[name] or None if name in zero else parameters[name] for name in names}
    try:
        loops |= arms_of(parameters["arms"]) if "arms" in parameters else {}
        for arm, settings in loops.items():
            settings_of(arm, settings, common)
        if "arms" in parameters and parameters.get("baseline", next(iter(loops), None)) not in loops:
            raise ValueError(f"baseline = {parameters['baseline']!r} is none of the arms: {', '.join(loops)}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{notebook.name}: {error} ({where})") from error


# --- YAML, there and back ---------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Numbers as people and JSON write them (1e-5, Infinity; 010, 1:30 and dates are text), no tags, no key twice."""

    yaml_implicit_resolvers: dict = {}
    yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }

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
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"({_pattern})$"), None)


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
    folder = notebook.parent / "profiles"
    known = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if profile not in known:
        raise ValueError(f"unknown profile {profile!r}: there are {', '.join(known)}")
    path = folder / profile / f"{notebook.stem}.yaml"
    return _mapping(*_version(path)) if path.exists() else {}


@functools.lru_cache
def _mapping(path: Path, *_version: int) -> dict[str, Any]:
    found = read_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is {found!r}; it must map parameter names to values")
    return found


def _label(profile: str, other: Mapping[str, str]) -> str:
    """A folder's name for a profile with other values; what does not fit into one is told apart by a hash."""
    full = "".join(f"+{name}={value}" for name, value in sorted(other.items()))
    short = re.sub(r"[^\w.,=+-]", "", full)[:80]
    return profile + (short if short == full else f"{short}-{runs.digest(full)[:6]}")
