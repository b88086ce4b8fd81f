"""The helper: a small clean Python (no boostlib, no torch, no site-packages) that starts and ends processes.

At level `kernel` it becomes nobody, the first process of a PID namespace, in a file system that holds Python's standard
library and nothing else. Then it forks a judge for each check, and candidates when the judge asks for one. What they are
sent and answer goes past it: what it forks has never seen a test.

Not covered: the verdict (pool, candidate, judge), starting and restarting helpers (pool).
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import select
import signal
import socket
import sys
import sysconfig
import time
import traceback

import candidate
import codec
import judge
import kernel

# Imported once, so that programs find them warm and need no shared library that the jail lacks. Not threading, nor what
# imports it: what it does after each fork takes 0.3 ms, three times a check.
WARM = """abc array bisect _bz2 calendar cmath collections.abc contextlib copy ctypes datetime decimal enum fractions functools
gc hashlib heapq io itertools json _lzma math numbers operator random re statistics string struct textwrap time traceback
typing unicodedata zlib"""
ZONES = "/usr/share/zoneinfo"


class Helper:
    """Takes this process to ``level``, then starts and ends others. Raises OSError for the step that is refused."""

    def __init__(self, control: socket.socket, level: str):
        self.control, self.alone = control, level == "kernel"
        self.children: dict[int, socket.socket] = {}  # the candidates of this check, and our ends of their channels
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
        """A judge for each check that is asked for; the request is the judge's to read."""
        while self.control.recv(1, socket.MSG_PEEK):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
                ours.close()
                judge.main(self.control, theirs)
            theirs.close()
            with ours:
                self.attend(ours)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self.end()
            if code:  # its alarm, or what the program had it take in
                late, ended = ("timeout", "timeout", ""), ("fail", "exception", "the program's answer ended the judge")
                codec.send(self.control, [*(late if code == -signal.SIGALRM else ended), 0, 0.0, False])
            codec.send(self.control, "ended")

    def attend(self, judge: socket.socket) -> None:
        """Do what a judge asks for, until it has gone: a new candidate, whose channel it gets, or an end to all."""
        watch = select.poll()
        watch.register(self.control, 0)
        watch.register(judge, select.POLLIN)
        while True:
            if any(fd == self.control.fileno() for fd, _ in watch.poll()):
                raise EOFError  # the user's process has gone
            asked = judge.recv(1)
            if asked == b"n":
                self.kill()  # reaped at the end: to wait for it now takes longer
                socket.send_fds(judge, [b"n"], [self.candidate().fileno()])
            elif asked == b"e":
                judge.send(b"%d" % self.end())
            else:
                return

    def candidate(self) -> socket.socket:
        """Start one; it waits on the channel whose other end this is."""
        ours, theirs = socket.socketpair()
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
                self.confine(theirs.fileno())
                candidate.main(socket.socket(fileno=3))
            finally:
                os._exit(1)
        theirs.close()
        self.children[pid] = ours  # held, as how a program ends must be its own doing
        return ours

    def kill(self) -> None:
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)  # at level kernel all of its PID namespace dies with it

    def end(self) -> int:
        """Kill every candidate; says how the last one ended, as `os.waitstatus_to_exitcode` has it."""
        self.kill()
        code = [0, *(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.children)][-1]
        self.children.clear()  # which closes their channels
        return code

    def confine(self, channel: int) -> None:
        """Everything a candidate may not do, given up here, before its program is even known."""
        os.setsid()  # or a signal to its process group would reach the helper
        limits, kept = dict(kernel.LIMITS), 4
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
    codec.receive(ours)
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
    sys.path.pop(0)  # where this file is
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
        codec.send(control, ["refused", said(e), getattr(e, "errno", 0)])
        return
    os.dup2(helper.null, 2)
    sys.modules["gc"].freeze()
    codec.send(control, ["ready", helper.memory])
    try:
        helper.serve()
    except (EOFError, ConnectionError):
        pass  # the user's process has gone
    except OSError as e:  # no more processes, memory or namespaces
        codec.send(control, ["error", "sandbox", f"no process could be started: {said(e)}"])


main()
