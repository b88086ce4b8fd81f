"""Processes that share a disk: one a run folder, and workers that end with the process that started them.

Not covered: starting workers (boosting.many, runner.sweep).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

BUSY = "another process is working on"


def cannot_write(path: str | Path, error: OSError) -> OSError:
    why = os.strerror(error.errno) if error.errno else str(error)
    what = f"cannot write {path}: {why}; free or unlock the folder and start again, what is finished is kept"
    return OSError(error.errno, what)


@contextlib.contextmanager
def locked(folder: str | Path, what: str | None = None) -> Iterator[None]:
    """One process a run folder. Raises RuntimeError where another holds it; ``what`` names it for the reader. It waits for
    three seconds: the kernel of a runner that was killed notices within one, and may hold the folder until then."""
    lock = FileLock(Path(folder) / ".lock", timeout=3)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RuntimeError(f"{BUSY} {what or folder}; wait for it or stop it, then start again") from error
    except OSError as error:
        raise cannot_write(folder, error) from error
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


def end_with_parent(parent: int) -> None:
    """Called by a worker: it ends with the process ``parent``, however that ends, and its locks with it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def watch() -> None:  # elsewhere; and where the parent ended before this line
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
