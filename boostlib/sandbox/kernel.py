"""What the sandbox asks of Linux, through ctypes: namespaces, a jail, dropped rights, seccomp and Landlock.

Runs inside the helper, which has no boostlib and no site-packages; a refused call raises OSError whose `filename`
names the step. Not covered: when each is applied (helper), which calls are allowed (calls).
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import platform
import resource
import signal
import socket
import struct

from calls import CLONE, FILTERS, PIVOT_ROOT

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
HELPERS = NEWNS | NEWPID | NEWUTS | NEWIPC | NEWNET  # for all checks of a helper: nothing outlives a check in them
OWN = NEWUSER | NEWPID | NEWNS  # of each check
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, SLAVE, RELATIME = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19, 1 << 21
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
NOBODY = 65534
SPACE, TASKS, TOTAL = 512 << 20, 32, 2 << 30  # bytes a process, processes and threads, bytes in all (control group)
LIMITS = {"AS": SPACE, "FSIZE": 16 << 20, "NOFILE": 64, "CORE": 0, "MEMLOCK": 0, "NPROC": TASKS}

_libc = ctypes.CDLL(None, use_errno=True)
_held = ctypes.PyDLL(None, use_errno=True)  # calls that do not let go of the interpreter lock


def _call(step: str, name: str, *args: object) -> int:
    result = getattr(_libc, name)(*args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), step)
    return result


def fork_into(flags: int) -> int:
    """`os.fork`, the child the first process of new namespaces: one process fewer than unshare and fork."""
    python = ctypes.pythonapi
    own = ctypes.c_void_p()  # where libc keeps the thread's number, for the child to write its own there
    if _held.prctl(40, ctypes.byref(own), 0, 0, 0) == 0 and own:
        flags |= 0x01000000 | 0x00200000  # CHILD_SETTID, CHILD_CLEARTID
    python.PyOS_BeforeFork()
    where = (own, None) if platform.machine() == "x86_64" else (None, own)
    pid = _held.syscall(CLONE, ctypes.c_ulong(flags | signal.SIGCHLD), None, None, *where)
    code = ctypes.get_errno()
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, os.strerror(code), "clone with user, pid, mount namespaces")
    return pid


def prctl(option: int, value: int = 0, extra: object = None) -> None:
    zero = ctypes.c_ulong(0)
    _call(f"prctl {option}", "prctl", option, ctypes.c_ulong(value), zero if extra is None else extra, zero, zero)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """``kind`` is "" where a mount is bound or changed."""
    given = [text.encode() or None for text in (source, target, kind)]
    _call(f"mount {target}", "mount", *given, ctypes.c_ulong(flags), data.encode() or None)


def map_user(proc: int, uid: int, gid: int) -> None:
    """In a new user namespace, be nobody: ``uid`` and ``gid`` are ours outside. ``proc``: a descriptor of /proc."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
        _write(f"self/{name}", text, proc)


def _write(path: str, text: str, folder: int | None = None) -> None:
    fd = os.open(path, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(fd, text.encode())
    except OSError as e:
        raise OSError(e.errno, e.strerror, f"write {path}") from None
    finally:
        os.close(fd)


def may_be_nobody() -> bool:
    """Whether this is a root that can become nobody: in a user namespace of its own there may be no such user."""
    maps = [open(f"/proc/self/{name}").read().split() for name in ("uid_map", "gid_map")]
    there = [any(int(a) <= NOBODY < int(a) + int(n) for a, n in zip(m[::3], m[2::3], strict=True)) for m in maps]
    return os.getuid() == 0 and all(there)


def leave_host(proc: int, root: bool) -> str:
    """New namespaces, and in them a first process, which goes on; the parent only lends it its life. ``root``: may
    become nobody, so it needs no user namespace for it. Returns the control group that holds it, "" for none."""
    uid, gid = os.getuid(), os.getgid()
    _call("unshare user, mount, pid, net, ipc, uts", "unshare", HELPERS if root else HELPERS | NEWUSER)
    if not root:
        map_user(proc, uid, gid)
    group = _memory_group()
    os.chdir(os.path.dirname(group) or "/")  # from where the parent still comes by it, when the root is another
    if pid := os.fork():
        os.closerange(0, 1 << 16)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            os.rmdir(os.path.basename(group))
        finally:
            os._exit(code & 0xFF)
    if group:
        _write(f"{group}/cgroup.procs", "0")
    _write("self/oom_score_adj", "1000", proc)  # should memory run out, nothing of the user's goes first
    socket.sethostname("sandbox")
    return group


def _memory_group() -> str:
    """A new control group below ours with room for TOTAL bytes: its folder, or "" where none is granted."""
    files = {"memory": ("/memory", "memory.limit_in_bytes"), "": ("", "memory.max")}  # version 1, version 2
    groups = [line.split(":", 2)[1:] for line in open("/proc/self/cgroup").read().splitlines()]
    for (place, limit), path in ((files[c], path) for c, path in groups if c in files):
        ours = f"/sys/fs/cgroup{place}{path.rstrip('/')}/boostlib-"
        for left in glob.glob(f"{ours}*"):  # by a helper that was killed
            if not os.path.exists(f"/proc/{left.removeprefix(ours)}"):
                with contextlib.suppress(OSError):
                    os.rmdir(left)
        with contextlib.suppress(OSError):
            os.mkdir(f"{ours}{os.getpid()}")
            _write(f"{ours}{os.getpid()}/{limit}", str(TOTAL))
            return f"{ours}{os.getpid()}"
    return ""


def jail(readable: list[str], folder: str) -> None:
    """Replace the root of this mount namespace by an empty one: the directories ``readable``, read-only, at
    their own paths; /dev/null; an empty ``folder`` for others to mount on. Nothing else of the host remains."""
    mount("", "/", "", REC | SLAVE)
    root = "/proc"  # any directory that surely exists and holds no Python
    mount("jail", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=0755")
    for path in readable:
        os.makedirs(root + path, exist_ok=True)
        mount(path, root + path, "", BIND | REC)
        held = os.statvfs(root + path).f_flag  # flags of the host's mount that may not be dropped
        keep = held & (NOEXEC | 1024 | 2048) | (RELATIME if held & 4096 else 0)
        mount("", root + path, "", REMOUNT | BIND | RDONLY | NOSUID | NODEV | keep)
        packages = os.path.join(root + path, "site-packages")
        if os.path.isdir(packages):
            mount("none", packages, "tmpfs", RDONLY | NOSUID | NODEV, "size=4k,mode=0755")
    for path in (folder, "/dev", "/old"):
        os.makedirs(root + path, exist_ok=True)
    os.symlink(folder, root + "/dev/shm")  # where libc keeps semaphores
    open(root + "/dev/null", "w").close()
    mount("/dev/null", root + "/dev/null", "", BIND)
    os.chdir(root)
    _call("pivot_root", "syscall", PIVOT_ROOT, b".", b"old")
    os.chdir("/")
    _call("umount /old", "umount2", b"/old", 2)  # MNT_DETACH
    os.rmdir("/old")
    mount("", "/", "", REMOUNT | BIND | RDONLY | NOSUID | NODEV)


def become_nobody() -> None:
    """Root becomes nobody for good."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(PR_SET_DUMPABLE, 1)  # or /proc/self would belong to root, and no namespace could be mapped


def drop_rights() -> None:
    """No capability; no way to gain one remains once a filter is on."""
    _call("capset", "capset", struct.pack("Ii", 0x20080522, 0), bytes(24))


def limit(**wanted: int) -> None:
    """Set rlimits for good, none above what is granted."""
    for name, value in wanted.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def seccomp(name: str) -> None:
    """Apply one of FILTERS to this process and all it will fork (man 2 seccomp)."""
    program = ctypes.create_string_buffer(FILTERS[name])
    head = struct.pack("HxxxxxxP", len(FILTERS[name]) // 8, ctypes.addressof(program))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(head))


def landlock(readable: list[int]) -> None:
    """Where there is no mount namespace: reads only below ``readable`` (open directories), no writes, no TCP, no
    signals out (docs.kernel.org, Landlock)."""
    abi = _call("landlock", "syscall", 444, None, 0, 1)
    files = (1 << {1: 13, 2: 14}.get(abi, 15)) - 1
    attributes = struct.pack("QQQ", files, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    attributes = attributes[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    rules = _call("landlock", "syscall", 444, attributes, ctypes.c_size_t(len(attributes)), 0)
    null = os.open("/dev/null", os.O_PATH)
    for fd, rights in [(fd, 0b1101) for fd in readable] + [(null, files & 0x4006)]:
        _call("landlock", "syscall", 445, rules, 1, struct.pack("=Qi", rights, fd), 0)
    _call("landlock", "syscall", 446, rules, 0)
