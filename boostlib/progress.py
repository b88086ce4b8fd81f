"""Progress bars that reach the person: widgets in JupyterLab, the terminal, or under papermill a log that the runner shows.

Not covered: what is counted.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Any, TextIO

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain_tqdm

from boostlib import runs


class _Stream:
    """A stream whose troubles (a full disk, a pipe that closed, no terminal) stop no run."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@functools.cache
def _log(path: str) -> _Stream:
    with contextlib.suppress(OSError):
        return _Stream(open(path, "a", buffering=1))
    return _Stream(None)


def bar(**options) -> tqdm:
    """A tqdm bar. In a notebook that the runner executes (papermill keeps a kernel's own stderr) it goes to the runner's log."""
    here = runs.context()
    if path := here.get("progress"):
        return plain_tqdm(file=_log(path), mininterval=here.get("interval", 10), **options)
    if "ipykernel" in sys.modules:
        return tqdm(**options)
    if sys.stderr is None or not sys.stderr.isatty():
        options.setdefault("mininterval", 10)
    return plain_tqdm(file=_Stream(sys.stderr), **options)
