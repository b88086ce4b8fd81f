"""Run folders: atomic and sealed artefacts, manifests. A file that exists is whole; what is missing is computed.

Not covered: what the artefacts mean (boosting), removing old runs (runner.status).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from boostlib.runs.processes import cannot_write
from boostlib.runs.provenance import environment

FORMAT = 2  # of a run folder: one row a response; a folder of another format is refused
SEAL = "sha256"  # key of a JSON file's own digest


def project_root() -> Path:
    """The folder that holds pyproject.toml and notebooks/, from the working directory upwards; else the working directory."""
    here = [Path.cwd(), *Path.cwd().parents]
    return next((f for f in here if (f / "pyproject.toml").exists() and (f / "notebooks").is_dir()), here[0])


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path``: what is made there is on disk, and gets its own name, only when the block ends well.
    Raises OSError with the path."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    old = hidden.with_name(f"{hidden.name}-old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield hidden
        for part in (hidden, *hidden.rglob("*")):
            _sync(part)
        if hidden.is_dir() and path.exists():  # who is killed just then leaves no folder, never a part of one
            os.replace(path, old)
        os.replace(hidden, path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        with contextlib.suppress(OSError):
            hidden.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file or nothing. Raises OSError with the path."""
    with _whole(Path(path)) as hidden:
        hidden.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode())


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Fill the yielded folder; when the block ends well it takes the place of an older one. Raises OSError with the path."""
    with _whole(Path(path)) as hidden:
        hidden.mkdir()
        yield hidden


def _damaged(path: str | Path, mend: str = "that file (and round.json beside it)") -> ValueError:
    return ValueError(f"{path} is cut short or was edited; delete {mend} and start again: it alone is computed anew")


def write_json(path: str | Path, value: Any) -> None:
    """A JSON file; an object holds its own SHA-256, which `read_json` checks and takes out again."""
    value = json.loads(json.dumps(value))  # as it is read: keys are text
    sealed = value | {SEAL: digest(value)} if isinstance(value, dict) else value
    write_text(path, json.dumps(sealed, indent=1, sort_keys=True) + "\n")


def read_json(path: str | Path, sealed: bool = False) -> Any:
    """The value of `write_json`, or of any JSON file. Raises ValueError, naming the file, where it is no JSON, where its
    seal does not fit, and, if ``sealed``, where it is not an object with a seal."""
    try:
        value = json.loads(Path(path).read_bytes())
        seal = value.pop(SEAL, None) if isinstance(value, dict) else None
        if seal == (digest(value) if seal or sealed else None):
            return value
        raise ValueError("its seal does not fit")
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error


def write_rows(path: str | Path, rows: Iterable[dict]) -> None:
    """JSON lines, closed by a line that holds their number and SHA-256, so that a cut or edited file is noticed."""
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    seal = {"rows": body.count("\n"), SEAL: hashlib.sha256(body.encode()).hexdigest()}
    write_text(path, body + json.dumps(seal) + "\n")


def read_rows(path: str | Path) -> list[dict]:
    """The rows of `write_rows`. Raises ValueError, naming the file, where the seal does not fit."""
    try:
        *lines, seal = Path(path).read_bytes().decode().rstrip("\n").split("\n")
        body = "".join(f"{line}\n" for line in lines)
        if json.loads(seal) != {"rows": len(lines), SEAL: hashlib.sha256(body.encode()).hexdigest()}:
            raise ValueError("its seal does not fit")
        return json.loads(f"[{','.join(lines)}]")
    except ValueError as error:
        raise _damaged(path) from error


def seal_folder(folder: str | Path) -> None:
    """Note the SHA-256 of every file of a folder of weights in its seal.json, for `check_folder`."""
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("[!.]*") if p.is_file() and p.name != "seal.json")  # no half-written ones
    write_json(folder / "seal.json", {str(p.relative_to(folder)): _digest_of(p) for p in files})


def check_folder(folder: str | Path, mend: str | Path | None = None) -> None:
    """Raises ValueError, naming file and what to delete (``mend``), where a file is not as `seal_folder` found it."""
    folder, path = Path(folder), Path(folder) / "seal.json"
    try:
        for name, known in read_json(path, sealed=True).items():
            path = folder / name
            if _digest_of(path) != known:
                raise ValueError("its seal does not fit")
    except (ValueError, FileNotFoundError) as error:
        raise _damaged(path, str(mend or folder)) from error


def _digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_run(root: str | Path, name: str, identity: dict) -> Path:
    """The folder of the run with this identity, made with its manifest if new. Its name ends in the hash of the identity: a
    changed parameter is another folder. Where it was made is noted beside it. Raises ValueError as `manifest` does."""
    identity = json.loads(json.dumps(identity))
    folder = Path(root) / f"{name}-{digest(identity)[:10]}"
    if not (folder / "manifest.json").exists():
        write_json(folder / "environment.json", environment())
        write_json(folder / "manifest.json", {"format": FORMAT, "identity": identity, "hash": digest(identity)})
    manifest(folder, identity)
    return folder


def manifest(folder: str | Path, expected: dict | None = None) -> dict:
    """The identity of a run folder. Raises ValueError where its manifest was edited, is not the ``expected`` one, or was
    written by a version of boostlib whose files have another shape."""
    path, known, away = Path(folder) / "manifest.json", None, "move the folder away for a new run"
    with contextlib.suppress(ValueError, TypeError, KeyError):
        found = read_json(path)
        known = found["identity"] if found["hash"] == digest(found["identity"]) else None
    if known is None or known != (expected or known):
        raise ValueError(f"{path} does not fit its folder: the parameters in it were edited; restore it, or {away}")
    if found.get("format") != FORMAT:
        raise ValueError(f"{folder} was written by another version of boostlib; {away}")
    return known


def rounds(folder: str | Path) -> list[dict]:
    """The rows of the finished rounds of one loop (the folder of one arm and seed), in order of t."""
    there = [path for path in Path(folder).glob("round-*") if re.fullmatch(r"round-\d+", path.name)]
    files = [path / name for path in there for name in ("final.json", "round.json") if (path / name).exists()]
    rows = {row["round"]: row for row in (read_json(path, sealed=True) for path in files)}
    return [rows[t] for t in sorted(rows)]


def context() -> dict[str, Any]:
    """What the runner tells the notebook that it executes, from the file that BOOSTLIB_CONTEXT names; {} in Jupyter:
    ``command`` to show, ``fresh``: drop what earlier executions left, ``counts``: file for lines of what was reused and
    computed, ``tables``: folder for the notebook's tables, ``progress``: terminal or log for bars."""
    path = os.environ.get("BOOSTLIB_CONTEXT")
    return read_json(path) if path else {}
