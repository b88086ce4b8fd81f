"""Run folders: atomic artefacts, manifests, locks. A file that exists is whole; what is missing is computed.

Not covered: what the artefacts mean (boosting), executing notebooks (notebooks.py), removing old runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

PACKAGES = ("boostlib", "torch", "transformers", "tokenizers", "datasets", "peft", "numpy", "scipy", "pandas")

BUSY = "another process is working on"


def project_root() -> Path:
    """The folder that holds pyproject.toml and notebooks/, from the working directory upwards; else the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").exists() and (folder / "notebooks").is_dir():
            return folder
    return here


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# --- atomic artefacts -------------------------------------------------------------------------------------------------


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(path: Path, error: OSError) -> OSError:
    why = os.strerror(error.errno) if error.errno else str(error)
    return OSError(
        error.errno,
        f"cannot write {path}: {why}; free or unlock the folder and start again, what is finished is kept",
    )


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file or nothing: temporary file, fsync, rename, fsync of the folder. Raises OSError with the path."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Fill the yielded temporary folder; it gets its name only when the block ends well. An older folder of that name is
    moved aside before: who is killed just then leaves none, never a part. Raises OSError with the path."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as opened:
                        os.fsync(opened.fileno())
            os.chmod(temporary, 0o755)
            old = temporary.with_name(f"{temporary.name}-old")
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(_damaged(path)) from error


def write_rows(path: str | Path, rows: Iterable[dict]) -> None:
    """JSON lines, closed by a line that holds their number and SHA-256, so that a cut or edited file is noticed."""
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    seal = {"rows": body.count("\n"), "sha256": hashlib.sha256(body.encode()).hexdigest()}
    write_text(path, body + json.dumps(seal) + "\n")


def read_rows(path: str | Path) -> list[dict]:
    """The rows of `write_rows`. Raises ValueError, naming the file, where the seal does not fit."""
    text = Path(path).read_text(encoding="utf-8")
    body, _, seal = text.rstrip("\n").rpartition("\n")
    body = body + "\n" if body else ""
    try:
        if json.loads(seal)["sha256"] != hashlib.sha256(body.encode()).hexdigest():
            raise ValueError
        return [json.loads(line) for line in body.split("\n")[:-1]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(_damaged(path)) from error


def _damaged(path: str | Path) -> str:
    return f"{path} is cut short or was edited; delete that file (and round.json beside it) and start again: it alone is computed anew"


# --- manifests and locks ----------------------------------------------------------------------------------------------


def open_run(root: str | Path, name: str, identity: dict) -> Path:
    """The folder of the run with this identity, made with its manifest if new.

    The folder's name ends in the hash of the identity, so a changed parameter is another folder. What does not decide
    the result (versions, hardware, commit, time) is recorded beside it. Raises ValueError where the manifest was edited.
    """
    identity = json.loads(json.dumps(identity))
    hashed = digest(identity)
    folder = Path(root) / f"{name}-{hashed[:10]}"
    manifest = folder / "manifest.json"
    if manifest.exists():
        found = read_json(manifest)
        if found.get("identity") != identity or found.get("hash") != hashed:
            raise ValueError(
                f"{manifest} does not fit its folder: the parameters in it were edited; restore it, or move the folder away for a new run"
            )
    else:
        write_json(folder / "environment.json", environment())
        write_json(manifest, {"identity": identity, "hash": hashed})
    return folder


@contextlib.contextmanager
def locked(folder: str | Path, what: str | None = None) -> Iterator[None]:
    """One process a run folder. Raises RuntimeError where another holds it; ``what`` names it for the reader. It waits for
    three seconds: the kernel of a runner that was killed notices within one, and may hold the folder until then."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=3)
        lock.acquire()
    except Timeout as error:
        raise RuntimeError(f"{BUSY} {what or folder}; wait for it or stop it, then start again") from error
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def held(folder: str | Path) -> bool:
    """Whether a process is at work in this run folder now. Reads only: makes no lock file."""
    import fcntl

    try:
        with open(Path(folder) / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # filelock's own kind of lock
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def environment() -> dict:
    """Versions, hardware, commit and time: recorded, never compared."""

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "system": platform.system()},
        "commit": git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def git_commit() -> str | None:
    """The commit of the working tree, with "+" where it was changed; None outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=project_root(), capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def context() -> dict[str, Any]:
    """What the runner tells the notebook that it executes, from the file that BOOSTLIB_CONTEXT names; {} in Jupyter.

    ``command``: the command line to show; ``fresh``: drop what earlier executions left; ``counts``: file for lines of
    what was reused and computed; ``tables``: folder for the notebook's tables; ``progress``: terminal or log for bars.
    """
    path = os.environ.get("BOOSTLIB_CONTEXT")
    return read_json(path) if path else {}
