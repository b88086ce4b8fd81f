"""Progress bars that reach the person: widgets in JupyterLab, the terminal or a log under papermill.

Not covered: what is counted.
"""

from __future__ import annotations

import functools
import os
import sys

from tqdm.auto import tqdm
from tqdm.std import tqdm as plain_tqdm


@functools.cache
def _stream(path: str):
    return open(path, "a", buffering=1)


def bar(**options) -> tqdm:
    """A tqdm bar. Where BOOSTLIB_PROGRESS names a terminal or a file (papermill keeps a kernel's own stderr), it goes there."""
    path = os.environ.get("BOOSTLIB_PROGRESS")
    if path:
        return plain_tqdm(file=_stream(path), mininterval=0.5 if path.startswith("/dev") else 10, **options)
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        options.setdefault("mininterval", 10)
    return tqdm(**options)
