"""The helper: a small clean Python (no boostlib, no torch, no site-packages) that starts and ends processes.

Started by exec with an empty environment. At level ``kernel`` it becomes nobody, the first process of a PID
namespace, in a file system that holds Python's standard library and nothing else. Then it does what it is told:
"program": fork a candidate in namespaces of its own; "judge": fork a judge; "end": kill all that was forked and
what that started. What they say to each other goes past it: what it forks has never seen a test.

Not covered: the verdict (pool, candidate, judge), starting and restarting helpers (pool).
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import resource
import signal
import socket
import sys
import sysconfig
import time
import traceback
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import candidate  # noqa: E402
import judge  # noqa: E402
import kernel  # noqa: E402

sys.path.pop(0)

# Imported once, so that programs find them warm and need no shared library that the jail lacks. Not threading, nor what
# imports it: what it does after each fork takes 0.3 ms, three times a check.
WARM = (
    "abc array bisect _bz2 calendar cmath collections.abc contextlib copy ctypes datetime decimal enum fractions functools gc "
    "hashlib heapq io itertools json _lzma math numbers operator random re statistics string struct textwrap "
    "time traceback typing unicodedata zlib"
)
ZONES = "/usr/share/zoneinfo"


class Helper:
    """Takes this process to ``level``, then starts and ends others. Raises OSError for the step that is refused."""

    def __init__(self, control: socket.socket, level: str):
        self.control, self.level = control, level
        self.children: list[int] = []  # since the last "end"
        self.folders: list[str] = []  # below level kernel, one a candidate
        self.refused = ""
        library = sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
        self.readable = [os.open(path, os.O_PATH) for path in library]  # as nobody we may not come by their parents
        self.null = os.open("/dev/null", os.O_RDWR)
        self.folder, group = "/tmp", ""  # the only one that a candidate may write to, or is made in
        root = os.getuid() == 0 and kernel.may_be_nobody()
        if level == "kernel":
            self.proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
            self.folder = next(f for f in ("/tmp", "/var/tmp") if not any(p.startswith(f + "/") for p in library))
            group = kernel.leave_host(self.proc, root)
            kernel.jail(library + [ZONES] * os.path.isdir(ZONES), self.folder)
        if level != "none":
            if root:
                kernel.become_nobody()
            if level == "kernel":  # with the one outside; a change of user would have cleared it
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        if level == "process":
            kernel.drop_rights()
            if all(os.access(path, os.X_OK) for path in library):
                kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
            else:  # below a home that is closed to nobody: by way of the descriptors
                for path, fd in zip(library, self.readable, strict=True):
                    sys.path[:] = [p.replace(path, f"/proc/self/fd/{fd}") for p in sys.path]
        if level != "none":
            kernel.seccomp("helper")
        self.limits = kernel.limits(level == "kernel")
        each = f"{kernel.SPACE >> 20} MiB a process" + f", {kernel.TASKS} processes" * (level == "kernel")
        self.memory = f"{kernel.TOTAL >> 20} MiB in all, by control group" if group else each

    def serve(self) -> None:
        while True:
            order, fds, _, _ = socket.recv_fds(self.control, 64, 2)
            if not order:
                return
            what, *seconds = order.decode().split()
            try:
                if what == "program":
                    self.program(*fds, float(*seconds))
                elif what == "judge":
                    self.judge(*fds)
                else:
                    codes, refused, self.refused = self.end(), self.refused, ""
                    self.control.send(json.dumps([codes, refused]).encode())
            except OSError as e:  # no more processes, memory or namespaces
                self.refused = said(e)
            for fd in fds:
                os.close(fd)

    def program(self, channel: int, seconds: float) -> None:
        """A candidate that waits for its program on ``channel``."""
        if self.level != "kernel":
            self.folders.append(f"{self.folder}/boostlib-{os.getpid()}-{time.monotonic_ns()}")
            os.mkdir(self.folders[-1], 0o700)
        pid = self.fork()
        if pid == 0:
            try:
                self.confine(channel, self.folders[-1] if self.folders else self.folder, seconds)
                candidate.main(socket.socket(fileno=3))
            finally:
                os._exit(1)
        self.children.append(pid)

    def judge(self, check: int, channel: int) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self.control.close()  # or our end would not be missed by the user's process
                judge.main(socket.socket(fileno=check), socket.socket(fileno=channel))
            finally:
                os._exit(0)
        self.children.append(pid)

    def fork(self) -> int:
        for attempt in range(100):
            try:
                return kernel.fork_into(kernel.OWN) if self.level == "kernel" else os.fork()
            except OSError as e:  # namespaces of earlier checks are still being taken down
                if attempt == 99 or e.errno not in (errno.EAGAIN, errno.ENOSPC, errno.ENOMEM):
                    raise
                time.sleep(0.02)

    def confine(self, channel: int, folder: str, seconds: float) -> None:
        """Everything a candidate may not do, given up here, before its program is even known."""
        os.setsid()  # or a signal to its process group would reach the helper
        if self.level == "kernel":
            kernel.map_user(self.proc, kernel.NOBODY, kernel.NOBODY)
            kernel.mount("tmp", folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, kernel.SMALL)
            kernel.drop_rights()
            kernel.seccomp("check")
        os.chdir(folder)
        if self.level == "process":
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            kernel.landlock(self.readable, folder)
        os.dup2(channel, 3)
        for fd in (0, 1, 2):
            os.dup2(self.null, fd)
        if not any(path.startswith("/proc/self/fd/") for path in sys.path):
            os.closerange(4, 1 << 20)
        for which, value in (*self.limits, (resource.RLIMIT_CPU, int(seconds) + 2)):
            resource.setrlimit(which, (value, value))
        if self.level == "process":
            kernel.seccomp("process")

    def end(self) -> list[int]:
        """Kill what was forked and all that it started; exit codes as `os.waitstatus_to_exitcode` has them."""
        codes = []
        for pid in self.children:
            try:
                os.kill(pid, signal.SIGKILL)  # at level kernel all of its PID namespace dies with it
                if self.level != "kernel":
                    os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        self.children.clear()
        while self.level == "process" and (orphans := _children()):  # they are ours: we are their subreaper
            for orphan in orphans:
                os.kill(orphan, signal.SIGKILL)
                os.waitpid(orphan, 0)
        while self.folders:
            importlib.import_module("shutil").rmtree(self.folders.pop(), ignore_errors=True)
        return codes


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as f:
        return list(map(int, f.read().split()))


class Rehearsal:
    """A judge's channel to a candidate in the same process."""

    def __init__(self) -> None:
        self.apart, self.reply = candidate.Apart(None, {}), b""

    def sendall(self, data: bytes) -> None:
        message = json.loads(data[4:])
        reply = self.apart.load(message[1], "") if message[0] == "apart" else self.apart.call(*message)
        candidate.codec.send(self.other, reply)

    def recv_into(self, view: memoryview) -> int:
        view[:] = self.reply[: len(view)]
        self.reply = self.reply[len(view) :]
        return len(view)

    @property
    def other(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(sendall=lambda data: setattr(self, "reply", data))


def rehearse() -> None:
    """Run checks in here, on a harmless program: the interpreter specialises its code now rather than in every child
    (2 ms a check)."""
    program, tests = "def f(x, y=1):\n    return [x, y]\n", ["assert f(2) == [2, 1]", "assert f('a', y={1: (2.5,)})"]
    for _ in range(20):
        candidate.together({}, program, "", tests)
        judge.run(judge.Judge(Rehearsal(), []), program, "", tests, {"functions": ["f"], "modules": {}, "imports": ""})


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
    try:
        helper.serve()
    except (EOFError, ConnectionError):
        pass
    finally:
        helper.end()  # the user's process has gone


main()
