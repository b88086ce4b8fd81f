"""The helper: a small clean Python (no boostlib, no torch, no site-packages) that starts and ends processes.

At level `kernel` it becomes nobody, the first process of a PID namespace, in a file system that holds Python's standard
library and nothing else. Then it does what it is told: `together`, `apart`, `end`. What the processes are sent and
answer goes past it: what it forks has never seen a test.

Not covered: the verdict (pool, candidate, judge), starting and restarting helpers (pool).
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import sysconfig
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import candidate  # noqa: E402
import judge  # noqa: E402
import kernel  # noqa: E402

sys.path.pop(0)

# Imported once, so that programs find them warm and need no shared library that the jail lacks. Not threading, nor what
# imports it: what it does after each fork takes 0.3 ms, three times a check.
WARM = (
    "abc array bisect _bz2 calendar cmath collections.abc contextlib copy ctypes datetime decimal enum fractions functools "
    "gc hashlib heapq io itertools json _lzma math numbers operator random re statistics string struct textwrap time "
    "traceback typing unicodedata zlib"
)
ZONES = "/usr/share/zoneinfo"


class Helper:
    """Takes this process to ``level``, then starts and ends others. Raises OSError for the step that is refused."""

    def __init__(self, control: socket.socket, level: str):
        self.control, self.alone = control, level == "kernel"
        self.children: list[int] = []  # of this check
        self.refused = ""
        library = sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
        self.readable = [os.open(path, os.O_PATH) for path in library]  # the descriptors from 4 on
        self.null, self.proc = os.open("/dev/null", os.O_RDWR), os.open("/proc", os.O_RDONLY)
        root = kernel.may_be_nobody()
        self.memory = f"{kernel.SPACE >> 20} MiB"
        if self.alone:
            self.folder = next(f for f in ("/tmp", "/var/tmp") if not any(p.startswith(f + "/") for p in library))
            grouped = kernel.leave_host(self.proc, root)
            each = f"{kernel.SPACE >> 20} MiB a process, {kernel.TASKS} processes"
            self.memory = f"{kernel.TOTAL >> 20} MiB in all, by control group" if grouped else each
            kernel.jail(library + [ZONES] * os.path.isdir(ZONES), self.folder)
        if root:
            kernel.become_nobody()
        if self.alone:  # with the one outside; a change of user would have cleared it
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        else:
            kernel.drop_rights()
            for path, fd in zip(library, self.readable, strict=True):  # maybe below a home that is closed to nobody
                sys.path[:] = [p.replace(path, f"/proc/self/fd/{fd}") for p in sys.path]
        kernel.seccomp("helper")

    def serve(self) -> None:
        while True:
            order, fds, _, _ = socket.recv_fds(self.control, 64, 3)
            if not order:
                return
            what, seconds = order.decode().split()
            try:
                getattr(self, what)(float(seconds), *fds)
            except OSError as e:  # no more processes, memory or namespaces
                self.refused = said(e)
            for fd in fds:
                os.close(fd)

    def together(self, seconds: float, channel: int) -> None:
        """A candidate that waits on ``channel``."""
        for wait in [0.02] * 100 + [0]:
            try:
                pid = kernel.fork_into(kernel.OWN if self.alone else 0)
                break
            except OSError as e:  # namespaces of earlier checks are still being taken down
                if not wait or e.errno not in (errno.EAGAIN, errno.ENOSPC, errno.ENOMEM):
                    raise
                time.sleep(wait)
        if pid == 0:
            try:
                self.confine(channel, int(seconds) + 2)
                candidate.main(socket.socket(fileno=3))
            finally:
                os._exit(1)
        self.children.append(pid)

    def apart(self, seconds: float, channel: int, check: int, asking: int) -> None:
        """The first candidate goes; a second one, and a judge that hears from ``check`` and asks it by ``asking``."""
        self.kill()
        self.together(seconds, channel)
        pid = os.fork()
        if pid == 0:
            try:
                self.control.close()  # or our end would not be missed by the user's process
                judge.main(socket.socket(fileno=check), socket.socket(fileno=asking))
            finally:
                os._exit(0)
        self.children.append(pid)

    def confine(self, channel: int, seconds: int) -> None:
        """Everything a candidate may not do, given up here, before its program is even known."""
        os.setsid()  # or a signal to its process group would reach the helper
        limits, kept = {**kernel.LIMITS, "CPU": seconds}, 4
        if self.alone:
            kernel.map_user(self.proc, kernel.NOBODY, kernel.NOBODY)
            kernel.mount("tmp", self.folder, "tmpfs", kernel.NOSUID | kernel.NODEV, "size=16m,nr_inodes=2k,mode=0700")
            os.chdir(self.folder)
            kernel.drop_rights()
        else:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            kernel.landlock(self.readable)
            kept += len(self.readable)
            del limits["NPROC"]  # the user's other processes count too, and no number would be right
        os.dup2(channel, 3)
        for fd in (0, 1, 2):
            os.dup2(self.null, fd)
        os.closerange(kept, 1 << 20)
        kernel.limit(**limits)
        kernel.seccomp("check" if self.alone else "process")

    def kill(self) -> None:
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)  # at level kernel all of its PID namespace dies with it

    def end(self, _: float = 0.0) -> None:
        """Kill what was forked; say how each ended, as `os.waitstatus_to_exitcode` has it, and what was refused."""
        self.kill()
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.children]
        self.control.send(json.dumps([codes, self.refused]).encode())
        self.children, self.refused = [], ""


def rehearse() -> None:
    """Run checks in here, on a harmless program: the interpreter specialises its code now rather than in every child
    (2 ms a check)."""
    program, tests = "def f(x, y=1):\n    return [x, y]\n", ["assert f(2) == [2, 1]", "assert f('a', y={1: (2.5,)})"]
    ours, theirs = socket.socketpair()
    sides = candidate.Candidate(theirs, {}), judge.Judge(ours, [])

    def serve() -> None:
        with contextlib.suppress(EOFError), theirs:
            sides[0].serve("load", "", "")

    _thread.start_new_thread(serve, ())
    candidate.codec.receive(ours)
    for _ in range(20):
        sides[0].together(program, "", tests)
        judge.run(sides[1], program, "", tests, {"functions": ["f"], "modules": {}, "imports": ""})
    ours.shutdown(socket.SHUT_WR)
    ours.recv(1)  # until the thread is done


def said(error: BaseException) -> str:
    """The step that was refused, and how the system put it."""
    step = getattr(error, "filename", None) or traceback.extract_tb(error.__traceback__)[-1].line
    return f"{step}: {getattr(error, 'strerror', None) or type(error).__name__}"


def main() -> None:
    given, level = int(sys.argv[1]), sys.argv[2]
    control = socket.socket(fileno=os.dup2(given, 3))  # a candidate has its channel there
    if given != 3:
        os.close(given)
    for name in WARM.split():
        __import__(name)
    os.environ.clear()
    sys.argv[:] = [""]
    try:
        helper = Helper(control, level)
        rehearse()
    except Exception as e:
        control.send(json.dumps(["refused", said(e), getattr(e, "errno", 0)]).encode())
        return
    os.dup2(helper.null, 2)
    sys.modules["gc"].freeze()
    control.send(json.dumps(["ready", helper.memory]).encode())
    with contextlib.suppress(EOFError, ConnectionError):  # the user's process has gone
        try:
            helper.serve()
        finally:
            helper.end()


main()
