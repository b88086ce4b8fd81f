"""Child processes that end with their parent, however it ends: killed, hung up, out of memory.

Not covered: children of a Ray cluster, which Ray ends; the sandbox, which has its own way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Call it in a child: it is killed when process ``parent``, which started it, is gone, or at once where it is already.

    On Linux the kernel does so (when the thread that started the child ends, hence a pool's owner must outlive it);
    elsewhere a thread looks twice a second.
    """
    try:
        watched = ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (OSError, AttributeError):
        watched = False
    if os.getppid() != parent:
        os._exit(1)
    if not watched:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
