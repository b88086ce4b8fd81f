"""Processes that share a disk: one a run folder, and workers that end with the process that started them.

Not covered: starting workers (boosting.many, runner.sweep).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

BUSY = "another process is working on"


def cannot_write(path: str | Path, error: OSError) -> OSError:
    why = f"{os.strerror(error.errno) if error.errno else error}; free or unlock the folder and start again"
    return OSError(error.errno, f"cannot write {path}: {why}, what is finished is kept")


@contextlib.contextmanager
def locked(folder: str | Path, what: str | None = None) -> Iterator[None]:
    """One process a run folder. Raises RuntimeError where another holds it; ``what`` names it for the reader. It waits for
    three seconds: the kernel of a runner that was killed notices within one, and may hold the folder until then. What a
    killed holder left half-written goes."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock = FileLock(Path(folder) / ".lock").acquire(timeout=3)
    except Timeout as error:
        raise RuntimeError(f"{BUSY} {what or folder}; wait for it or stop it, then start again") from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    with lock:
        for left in list(Path(folder).rglob(".*." + 8 * "[0-9a-f]" + "*")):  # as `files` calls what is not whole yet
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        yield


def held(folder: str | Path) -> bool:
    """Whether a process is at work in this run folder now, or may be: it is another user's. Reads only, makes no lock file."""
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), open(Path(folder) / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # filelock's own kind of lock
        return False
    except OSError:
        return True


def end_with_parent(parent: int, kernel: Any = None) -> None:
    """Called by a worker, or a ``kernel`` that the runner started: it ends with the process ``parent``, however that ends, and
    its locks with it. SIGINT ends it at once: half an interrupt is worse, as ipykernel then loses the reply to a cell, for
    which nbclient waits for ever, and what a worker computes comes back as KeyboardInterrupt."""
    if kernel:  # around every message it sets its own handler
        kernel.pre_handler_hook, kernel.post_handler_hook = lambda: None, lambda: None
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def watch() -> None:  # elsewhere; and where the parent ended before this line
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
