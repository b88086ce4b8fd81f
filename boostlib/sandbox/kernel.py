"""What the sandbox asks of Linux, through ctypes: namespaces, a jail, dropped rights, seccomp and Landlock.

Runs inside the helper, which has no boostlib and no site-packages; a refused call raises OSError whose
``filename`` names the step. Not covered: when each is applied (helper, judge).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
MS_RELATIME = 1 << 21
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38
ALL = NEWUSER | NEWPID | NEWNET | NEWNS | NEWIPC
NOBODY = 65534
SMALL = b"size=16m,nr_inodes=2k,mode=0700"  # a check's own /tmp

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_held = ctypes.PyDLL(None, use_errno=True)  # calls that do not let go of the interpreter lock


def _call(step: str, name: str, *args: object) -> int:
    result = getattr(_libc, name)(*args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), step)
    return result


def unshare(flags: int, step: str) -> None:
    _call(step, "unshare", flags)


def fork_into(flags: int) -> int:
    """`os.fork`, the child the first process of new namespaces: one process fewer than unshare and fork."""
    python, libc = ctypes.pythonapi, _held
    own = ctypes.c_void_p()  # where libc keeps the thread's number, for the child to write its own there
    if libc.prctl(40, ctypes.byref(own), 0, 0, 0) == 0 and own:
        flags |= 0x01000000 | 0x00200000  # CHILD_SETTID, CHILD_CLEARTID
    x86 = platform.machine() == "x86_64"
    python.PyOS_BeforeFork()
    where = (own, None) if x86 else (None, own)
    pid = libc.syscall(_CLONE[not x86], ctypes.c_ulong(flags | signal.SIGCHLD), None, None, *where)
    code = ctypes.get_errno()
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, os.strerror(code), "clone with user, pid, net, mount, ipc namespaces")
    return pid


def prctl(option: int, value: int = 0, extra: object = None) -> None:
    zero = ctypes.c_ulong(0)
    _call(f"prctl {option}", "prctl", option, ctypes.c_ulong(value), zero if extra is None else extra, zero, zero)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: bytes | None = None) -> None:
    encode = lambda text: None if text is None else text.encode()  # noqa: E731
    _call(f"mount {target}", "mount", encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), data)


def map_user(proc: int, uid: int, gid: int) -> None:
    """In a new user namespace, keep the ids we had: no one in it is root. ``proc``: a descriptor of /proc."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        fd = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        try:
            os.write(fd, text.encode())
        except OSError as e:
            raise OSError(e.errno, e.strerror, f"write {name}") from None
        finally:
            os.close(fd)


def first_victim(proc: int) -> None:
    """Should memory run out, the kernel kills this process and its children before anything of the user's."""
    fd = os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=proc)
    os.write(fd, b"1000")
    os.close(fd)


def jail(readable: list[str]) -> None:
    """Replace the root of this mount namespace by an empty one: the directories ``readable``, read-only, at
    their own paths; /dev/null; an empty /tmp for others to mount on. Nothing else of the host remains."""
    mount(None, "/", None, MS_REC | MS_SLAVE)
    root = "/proc"  # any directory that surely exists and holds no Python
    mount("jail", root, "tmpfs", MS_NOSUID | MS_NODEV, b"size=1m,mode=0755")
    for path in readable:
        os.makedirs(root + path, exist_ok=True)
        mount(path, root + path, None, MS_BIND | MS_REC)
        held = os.statvfs(root + path).f_flag  # flags of the host's mount that may not be dropped
        keep = held & (MS_NOEXEC | 1024 | 2048) | (MS_RELATIME if held & 4096 else 0)
        mount(None, root + path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | keep)
        packages = os.path.join(root + path, "site-packages")
        if os.path.isdir(packages):
            mount("none", packages, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, b"size=4k,mode=0755")
    for folder in ("/tmp", "/dev", "/old"):
        os.makedirs(root + folder, exist_ok=True)
    open(root + "/dev/null", "w").close()
    mount("/dev/null", root + "/dev/null", None, MS_BIND)
    os.chdir(root)
    number = {"x86_64": 155, "aarch64": 41}[platform.machine()]
    _call("pivot_root", "syscall", number, b".", b"old")
    os.chdir("/")
    _call("umount /old", "umount2", b"/old", MNT_DETACH)
    os.rmdir("/old")
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def drop_user() -> None:
    """Root becomes nobody for good; an ordinary user stays as it is."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        prctl(PR_SET_DUMPABLE, 1)  # or /proc/self would belong to root, and no namespace could be mapped


def drop_rights() -> None:
    """No capability; no way to gain one remains once a filter is on."""
    header = struct.pack("Ii", 0x20080522, 0)
    _call("capset", "capset", header, bytes(24))


def limits(alone: bool) -> list[tuple[int, int]]:
    """rlimits of a candidate: memory, file size, processes, open files, no core. ``alone``: its user namespace
    is its own; otherwise the user's other processes count too, and no number would be right."""
    wanted = {"AS": 512 << 20, "FSIZE": 16 << 20, "NOFILE": 64, "CORE": 0, "MEMLOCK": 0}
    if alone:
        wanted["NPROC"] = 16
    found = []
    for name, value in wanted.items():
        which = getattr(resource, "RLIMIT_" + name, None)
        if which is not None:
            hard = resource.getrlimit(which)[1]
            found.append((which, value if hard == resource.RLIM_INFINITY else min(value, hard)))
    return found


# System calls a candidate has no use for and kernels have had holes in: (x86_64, aarch64).
_DENIED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "setns": (308, 268), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "pidfd_getfd": (438, 438),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "acct": (163, 89), "quotactl": (179, 60),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "personality": (135, 92), "syslog": (103, 116),
}  # fmt: skip
# What a candidate needs before its program runs, and then no more.
_NAMESPACES = {"unshare": (272, 97), "mount": (165, 40)}
# Where no PID namespace hides other processes, a candidate may signal none.
_SIGNALS = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261),
}  # fmt: skip
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)
_LOAD, _EQUAL, _ABOVE, _ANY, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | 1, 0x50000 | 38


def _filter(denied: list[tuple[int, int]], more: Callable[[int], list]) -> bytes:
    """A BPF program: calls of another architecture kill, ``denied`` fail with EPERM, then ``more``, then allow."""
    if platform.machine() not in ("x86_64", "aarch64"):
        return b""
    column = ("x86_64", "aarch64").index(platform.machine())
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, (0xC000003E, 0xC00000B7)[column]), (_ANSWER, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_ABOVE, 0, 1, 0x40000000), (_ANSWER, 0, 0, _EPERM)]  # the x32 calls
    for numbers in denied:
        code += [(_EQUAL, 0, 1, numbers[column]), (_ANSWER, 0, 0, _EPERM)]
    code += [*more(column), (_ANSWER, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *line) for line in code)


def _no_clone3_no_network(column: int) -> list:
    return [
        (_EQUAL, 0, 1, _CLONE3[column]),
        (_ANSWER, 0, 0, _ENOSYS),  # libc then uses clone, whose flags can be seen
        (_EQUAL, 0, 3, _SOCKET[column]),
        (_LOAD, 0, 0, 16),
        (_EQUAL, 1, 0, 1),  # AF_UNIX
        (_ANSWER, 0, 0, _EPERM),
    ]


def _no_namespaces(column: int) -> list:
    return [(_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, 16), (_ANY, 0, 1, 0x7E020000), (_ANSWER, 0, 0, _EPERM)]


# Two filters, because checking a long one costs a millisecond: the first is the helper's, once and for all; the
# second a check's own, after it has its namespaces. The third, at level process, is the candidate's.
FILTERS = {
    "helper": _filter([*_DENIED.values()], _no_clone3_no_network),
    "check": _filter([*_NAMESPACES.values()], _no_namespaces),
    "process": _filter([*_NAMESPACES.values(), *_SIGNALS.values()], _no_namespaces),
}


def seccomp(name: str) -> None:
    """Apply one of FILTERS to this process and all it will fork (man 2 seccomp)."""
    code = FILTERS[name]
    if code:
        program = ctypes.create_string_buffer(code)
        head = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program))
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(head))


def landlock(readable: list[int], writable: str) -> None:
    """Where there is no mount namespace: reads only below ``readable`` (open directories), writes only below
    ``writable``, no TCP, no signals out. Does nothing where the kernel has no Landlock (docs.kernel.org, Landlock)."""
    abi = _libc.syscall(444, None, 0, 1)
    if abi < 1:
        return
    files = (1 << {1: 13, 2: 14}.get(abi, 15)) - 1
    attributes = struct.pack("QQQ", files, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    attributes = attributes[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    rules = _call("landlock", "syscall", 444, attributes, ctypes.c_size_t(len(attributes)), 0)
    own, null = (os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (writable, "/dev/null"))
    for fd, rights in [(fd, 0b1101) for fd in readable] + [(own, files), (null, files & 0x4006)]:
        _call("landlock", "syscall", 445, rules, 1, struct.pack("=Qi", rights, fd), 0)
    _call("landlock", "syscall", 446, rules, 0)
    for fd in (own, null, rules):
        os.close(fd)
