"""The helper: a small clean Python (no boostlib, no torch, no site-packages) that forks a judge a check.

Started by exec with an empty environment. At level ``kernel`` it becomes nobody, the first process of a PID
namespace, in a file system that holds Python's standard library and nothing else; then, for each descriptor that arrives,
it forks a judge, waits for it until its time is up, and kills whatever is left. Requests go past it unread:
what it forks later has never seen an earlier check's tests.

Not covered: the verdict (judge), starting and restarting helpers (pool).
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import judge  # noqa: E402
import kernel  # noqa: E402
import plan  # noqa: E402

sys.path.pop(0)

# Imported once, so that programs find them warm and need no shared library that the jail lacks.
WARM = (
    "abc array bisect bz2 calendar cmath collections.abc contextlib copy ctypes datetime decimal enum fractions functools gc "
    "hashlib heapq inspect io itertools json lzma math numbers operator queue random re statistics string struct textwrap "
    "threading time traceback typing unicodedata zlib"
)
GRACE = 1.0  # seconds a judge has beyond the check's timeout before it is killed too


def prepare(level: str) -> judge.Place:
    """Take this process to ``level``. Raises OSError naming the step that the machine refused."""
    library = sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
    readable = [os.open(path, os.O_PATH) for path in library]  # as nobody we may not come by their parents
    null = os.open("/dev/null", os.O_RDWR)
    proc, folder = -1, "/tmp"
    uid, gid = os.getuid(), os.getgid()
    if level == "kernel":
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        if uid == 0:
            kernel.unshare(kernel.NEWNS | kernel.NEWPID, "unshare mount, pid as root")
        else:
            kernel.unshare(kernel.NEWUSER | kernel.NEWNS | kernel.NEWPID, "unshare user, mount, pid")
            kernel.map_user(proc, uid, gid)
        become_first()
        kernel.jail(library)
    if level != "none":
        kernel.drop_user()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user would have cleared it
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        uid, gid = os.getuid(), os.getgid()
        kernel.seccomp("helper")
    if level == "process":
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return judge.Place(level, uid, gid, proc, null, readable, folder)


def rehearse() -> None:
    """Run a check in here, on a harmless program: the interpreter specialises its code now rather than in every
    child (2 ms a check)."""
    modules = dict(sys.modules)
    program = "def f(x, y=1):\n    return [x, y]\n"
    tests = plan.plan("", ("assert f(2) == [2, 1]", "assert f('a', y={1: (2.5,)}) == 0"))
    for _ in range(20):
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=judge.candidate.Candidate(theirs).serve_quietly)
        thread.start()
        peer = judge.Peer(ours, 0)
        peer.deadline = time.monotonic() + 60
        judge.judge(peer, program, "", tests)
        ours.close()
        thread.join()
        theirs.close()
    sys.modules.update(modules)


def become_first() -> None:
    """Fork; the child is the first process of the new PID namespace and goes on, the parent lends it its life."""
    pid = os.fork()
    if pid:
        os.closerange(0, 1 << 16)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)


def descendants() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as f:
        return [int(pid) for pid in f.read().split()]


def sweep(level: str) -> None:
    """Kill and reap whatever outlived its judge; returns when none is left."""
    while True:
        try:
            if level == "kernel":
                os.kill(-1, signal.SIGKILL)  # all of our PID namespace but us
            elif level == "process":
                for pid in descendants():  # orphans are ours: we are their subreaper
                    os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def watch(control: socket.socket, pid: int, seconds: float) -> str:
    """Wait for a judge: "done", or "late" if it had to be killed. Exits when the user's process is gone."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(control, select.POLLHUP)
    events = poll.poll((seconds + GRACE) * 1000)
    os.close(pidfd)
    if any(fd == control.fileno() for fd, _ in events):
        raise EOFError
    if not events:
        os.kill(pid, signal.SIGKILL)
    return "done" if events else "late"


def serve(control: socket.socket, place: judge.Place) -> None:
    while True:
        data, fds, _, _ = socket.recv_fds(control, 64, 1)
        if not data:
            return
        seconds = float(data)
        if place.level != "kernel":
            place = judge.dataclasses.replace(place, folder=tempfile.mkdtemp(prefix="boostlib-"))
        pid = os.fork()
        if pid == 0:
            try:
                control.close()
                judge.main(socket.socket(fileno=fds[0]), place, seconds)
            finally:
                os._exit(0)
        os.close(fds[0])
        state = watch(control, pid, seconds)
        sweep(place.level)
        if place.level != "kernel":
            shutil.rmtree(place.folder, ignore_errors=True)
        control.send(state.encode())


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    level = sys.argv[2]
    for name in WARM.split():
        __import__(name)
    os.environ.clear()
    try:
        rehearse()
        place = prepare(level)
    except OSError as e:
        control.send(json.dumps([e.filename or "?", e.errno, e.strerror]).encode())
        return
    sys.modules["gc"].freeze()
    control.send(b"[]")
    try:
        serve(control, place)
    except (EOFError, ConnectionError):
        pass
    finally:
        sweep(level)


main()
