"""Progress bars that reach the person: widgets in JupyterLab, else the terminal. No trouble of a terminal stops a run.

Not covered: what is counted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain_tqdm


class Quiet:
    """A stream whose troubles (a full disk, a pipe that closed, none at all) are nobody's."""

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


def bar(**options) -> tqdm:
    """A tqdm bar: a widget in Jupyter; on stderr elsewhere, and in a notebook that the runner executes, which passes it on."""
    executed = "BOOSTLIB_CONTEXT" in os.environ
    if "ipykernel" in sys.modules and not executed:
        return tqdm(**options)
    if not executed and (sys.stderr is None or not sys.stderr.isatty()):
        options.setdefault("mininterval", 10)
    return plain_tqdm(file=Quiet(sys.stderr), **({"mininterval": 2 if executed else 0.1} | options))
