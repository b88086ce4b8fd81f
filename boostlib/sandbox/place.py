"""Where a candidate runs, and how it gets there: fork, confine, hand over.

Not covered: what the helper does once, for all candidates (helper); the calls themselves (kernel).
"""

from __future__ import annotations

import dataclasses
import errno
import os
import resource
import signal
import socket
import time

import candidate
import kernel


@dataclasses.dataclass(frozen=True)
class Place:
    """What the helper set up. ``folder`` is the only writable one; the rest are ids and open descriptors."""

    level: str
    uid: int
    gid: int
    proc: int  # /proc, -1 below level kernel
    null: int  # /dev/null
    readable: list[int]  # the standard library's directories
    limits: list[tuple[int, int]]  # resource, most
    folder: str

    def spawn(self, seconds: float) -> tuple[int, socket.socket]:
        """A candidate that waits for its program: its pid and our end of its channel."""
        ours, theirs = socket.socketpair()
        pid = self._fork()
        if pid == 0:
            try:
                self.confine(theirs.fileno(), seconds)
                candidate.main(socket.socket(fileno=3))
            finally:
                os._exit(1)
        theirs.close()
        return pid, ours

    def _fork(self) -> int:
        if self.level != "kernel":
            return os.fork()
        for _ in range(100):
            try:
                return kernel.fork_into(kernel.ALL)
            except OSError as e:  # namespaces of earlier checks are still being taken down
                if e.errno not in (errno.EAGAIN, errno.ENOSPC, errno.ENOMEM):
                    raise
                time.sleep(0.02)
        return kernel.fork_into(kernel.ALL)

    def confine(self, channel: int, seconds: float) -> None:
        """Everything a candidate may not do, given up here, before its program is even known."""
        os.setsid()  # or a signal to its process group would reach the helper
        if self.level == "kernel":
            kernel.map_user(self.proc, self.uid, self.gid)
            kernel.mount("tmp", self.folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, kernel.SMALL)
            kernel.drop_rights()
            kernel.seccomp("check")
        os.chdir(self.folder)
        if self.level == "process":
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            kernel.landlock(self.readable, self.folder)
        os.dup2(channel, 3)
        for fd in (0, 1, 2):
            os.dup2(self.null, fd)
        os.closerange(4, 1 << 20)
        for which, value in (*self.limits, (resource.RLIMIT_CPU, int(seconds) + 2)):
            resource.setrlimit(which, (value, value))
        if self.level == "process":
            kernel.seccomp("process")
