"""The helper: a small clean Python (no boostlib, no torch, no site-packages) that starts and ends candidates.

Started by exec with an empty environment. At level ``kernel`` it becomes nobody, the first process of a PID
namespace, in a file system that holds Python's standard library and nothing else, and forks a judge. Then,
for each descriptor that arrives, it forks a candidate in namespaces of its own, hands both ends to the judge,
and when the judge is done, or its time is up, kills the candidate and all that it started. Requests go past
it unread: what it forks has never seen a test.

Not covered: the verdict (judge), starting and restarting helpers (pool).
"""

from __future__ import annotations

import dataclasses
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
import candidate  # noqa: E402
import judge  # noqa: E402
import kernel  # noqa: E402
import plan  # noqa: E402
from place import Place  # noqa: E402

sys.path.pop(0)

# Imported once, so that programs find them warm and need no shared library that the jail lacks.
WARM = (
    "abc array bisect bz2 calendar cmath collections.abc contextlib copy ctypes datetime decimal enum fractions functools gc "
    "hashlib heapq inspect io itertools json lzma math numbers operator queue random re statistics string struct textwrap "
    "threading time traceback typing unicodedata zlib"
)
GRACE = 1.0  # seconds a judge has beyond the check's timeout before it is killed too


def prepare(level: str) -> Place:
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
        kernel.first_victim(proc)
        kernel.jail(library)
    if level != "none":
        kernel.drop_user()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user would have cleared it
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        uid, gid = os.getuid(), os.getgid()
        kernel.seccomp("helper")
    if level == "process":
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    return Place(level, uid, gid, proc, null, readable, kernel.limits(level == "kernel"), folder)


def rehearse() -> None:
    """Run a check in here, on a harmless program: the interpreter specialises its code now rather than in every
    child (2 ms a check)."""
    modules = dict(sys.modules)
    program = "def f(x, y=1):\n    return [x, y]\n"
    tests = plan.plan("", ("assert f(2) == [2, 1]", "assert f('a', y={1: (2.5,)}) == 0"))
    for _ in range(20):
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=candidate.Candidate(theirs).serve_quietly)
        thread.start()
        judge.judge(judge.Peer(ours, time.monotonic() + 60), program, "", tests)
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


def start_judge(control: socket.socket) -> tuple[int, socket.socket]:
    """A judge forked from here, where no test has ever been: its pid and our end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            control.close()  # or our end would not be missed by the user's process
            ours.close()
            judge.serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return pid, ours


def watch(control: socket.socket, judging: socket.socket, seconds: float) -> str:
    """Wait for a judge: "done", "late", or "lost" if it died. Exits when the user's process is gone."""
    poll = select.poll()
    poll.register(judging, select.POLLIN)
    poll.register(control, select.POLLHUP)
    events = poll.poll((seconds + GRACE) * 1000)
    if any(fd == control.fileno() for fd, _ in events):
        raise EOFError
    if not events:
        return "late"
    return "done" if judging.recv(16) else "lost"


def end(pid: int, level: str, judge_pid: int) -> int:
    """Kill a candidate and all that it started; its exit code as `os.waitstatus_to_exitcode` has it."""
    try:
        os.kill(pid, signal.SIGKILL)  # at level kernel all of its PID namespace dies with it
        if level != "kernel":
            os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    while level == "process":  # orphans are ours: we are their subreaper
        with open(f"/proc/self/task/{os.getpid()}/children") as f:
            orphans = [int(p) for p in f.read().split() if int(p) != judge_pid]
        if not orphans:
            break
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)
    return code


def serve(control: socket.socket, place: Place) -> None:
    judge_pid, judging = start_judge(control)
    while True:
        data, fds, _, _ = socket.recv_fds(control, 64, 1)
        if not data:
            return
        if place.level != "kernel":
            place = dataclasses.replace(place, folder=tempfile.mkdtemp(prefix="boostlib-"))
        try:
            pid, channel = place.spawn(float(data))
        except OSError as e:
            os.close(fds[0])
            control.send(f"refused {e.filename}: {e.strerror}".encode())
            continue
        with channel:
            socket.send_fds(judging, [data], [fds[0], channel.fileno()])
        os.close(fds[0])
        state = watch(control, judging, float(data))
        code = end(pid, place.level, judge_pid)
        if place.level != "kernel":
            shutil.rmtree(place.folder, ignore_errors=True)
        if state != "done":
            os.kill(judge_pid, signal.SIGKILL)
            os.waitpid(judge_pid, 0)
            judging.close()
            judge_pid, judging = start_judge(control)
        control.send(f"{state} {code}".encode())


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    level = sys.argv[2]
    for name in WARM.split():
        __import__(name)
    os.environ.clear()
    sys.argv[:] = [""]
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
        pass  # the judge and the candidate end with this process, or soon after: their channels close


main()
