"""What the sandbox asks of Linux: namespaces, a jail, dropped rights, limits, Landlock, and which system calls are left.

Runs inside the helper, which has no boostlib and no site-packages; a refused call raises OSError whose `filename` names
the step. Not covered: when each is applied (helper); machines other than x86_64.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct

if os.uname().machine != "x86_64":
    raise OSError(f"no list of system calls for {os.uname().machine}")
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
HELPERS = NEWNS | NEWPID | NEWUTS | NEWIPC | NEWNET  # for all checks of a helper: nothing outlives a check in them
OWN = NEWUSER | NEWPID | NEWNS  # of each check
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, SLAVE, RELATIME = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19, 1 << 21
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
NOBODY = 65534
SPACE, TASKS, TOTAL = 512 << 20, 32, 2 << 30  # bytes a process, processes and threads, bytes in all (control group)
LIMITS = {"AS": SPACE, "FSIZE": 16 << 20, "NOFILE": 64, "CORE": 0, "MEMLOCK": 0, "NPROC": TASKS}

# System calls a program may make, by number on x86_64. All else fails: calls newer than 423 with ENOSYS, so that libc
# falls back to older ones, others with EPERM. Not in the list, as they reach beyond a check or could: leases, locks and
# signals of files, System V and POSIX objects, memfd, inotify, AIO, io_uring, keys, bpf, ptrace, exec, ids, statmount.
ALLOWED = """
read:0 write:1 open:2 close:3 stat:4 fstat:5 lstat:6 poll:7 lseek:8 mmap:9 mprotect:10 munmap:11 brk:12
rt_sigaction:13 rt_sigprocmask:14 rt_sigreturn:15 pread64:17 pwrite64:18 readv:19 writev:20 access:21 pipe:22
select:23 sched_yield:24 mremap:25 msync:26 madvise:28 dup:32 dup2:33 pause:34 nanosleep:35 getitimer:36 alarm:37
setitimer:38 getpid:39 sendfile:40 accept:43 sendto:44 recvfrom:45 sendmsg:46 recvmsg:47 shutdown:48 listen:50
getsockname:51 getpeername:52 setsockopt:54 getsockopt:55 exit:60 wait4:61 uname:63 fsync:74 fdatasync:75 truncate:76
ftruncate:77 getcwd:79 chdir:80 fchdir:81 rename:82 mkdir:83 rmdir:84 link:86 unlink:87 symlink:88 readlink:89
chmod:90 fchmod:91 umask:95 gettimeofday:96 getrlimit:97 getrusage:98 sysinfo:99 times:100 getuid:102 getgid:104
geteuid:107 getegid:108 setpgid:109 getppid:110 getpgrp:111 setsid:112 getgroups:115 getresuid:118 getresgid:120
getpgid:121 getsid:124 rt_sigtimedwait:128 rt_sigsuspend:130 sigaltstack:131 statfs:137 fstatfs:138 getpriority:140
setpriority:141 sched_getscheduler:145 sched_get_priority_max:146 sched_get_priority_min:147 prctl:157 arch_prctl:158
setrlimit:160 gettid:186 setxattr:188 lsetxattr:189 fsetxattr:190 getxattr:191 lgetxattr:192 fgetxattr:193
listxattr:194 llistxattr:195 flistxattr:196 time:201 futex:202 sched_setaffinity:203 sched_getaffinity:204
getdents64:217 set_tid_address:218 timer_create:222 timer_settime:223 timer_gettime:224 timer_delete:226
clock_gettime:228 clock_getres:229 clock_nanosleep:230 exit_group:231 epoll_wait:232 epoll_ctl:233 waitid:247
openat:257 mkdirat:258 newfstatat:262 unlinkat:263 renameat:264 linkat:265 symlinkat:266 readlinkat:267 fchmodat:268
faccessat:269 pselect6:270 ppoll:271 set_robust_list:273 splice:275 utimensat:280 epoll_pwait:281 timerfd_create:283
fallocate:285 timerfd_settime:286 timerfd_gettime:287 accept4:288 signalfd4:289 eventfd2:290 epoll_create1:291
dup3:292 pipe2:293 renameat2:316 getrandom:318 membarrier:324 copy_file_range:326 statx:332 rseq:334 close_range:436
faccessat2:439 landlock_create_ruleset:444 landlock_add_rule:445 landlock_restrict_self:446
"""
# Where a PID namespace hides other processes: signal some, start some, name a socket.
ALONE = "connect:42 bind:49 fork:57 kill:62 rt_sigqueueinfo:129 tkill:200 tgkill:234 prlimit64:302"
SETUP = "capset:126 mount:165"  # until a check's own filter
ONLY = (  # calls whose argument, by its place, is one of these
    (41, 0, (1,)),  # socket and
    (53, 0, (1,)),  # socketpair, of the family unix
    (72, 1, (0, 1, 2, 3, 4, 1030, 1032)),  # fcntl: copies, flags, size of a pipe
    (16, 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # ioctl: is it a terminal, bytes to read, flags
)
_CLONE, _THREAD = 56, 0x10000
_LOAD, _EQUAL, _FROM, _ANY, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | 1, 0x50000 | 38


def _numbers(words: str) -> list[int]:
    return [int(word.split(":")[1]) for word in words.split()]


def _each(calls: list[int], answer: int) -> list:
    return [line for call in calls for line in ((_EQUAL, 0, 1, call), (_ANSWER, 0, 0, answer))]


def _program(lines: list) -> bytes:
    """Calls of another architecture kill; the x32 ones are refused."""
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, 0xC000003E), (_ANSWER, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_FROM, 0, 1, 0x40000000), (_ANSWER, 0, 0, _EPERM), *lines]
    return b"".join(struct.pack("HBBI", *line) for line in code)


def _allowing() -> bytes:
    lines = []
    for call, argument, values in ONLY:
        tests = [(_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
        rest = [(_LOAD, 0, 0, 16 + 8 * argument), *tests, (_ANSWER, 0, 0, _EPERM), (_ANSWER, 0, 0, _ALLOW)]
        lines += [(_EQUAL, 0, len(rest), call), *rest]
    lines += _each([*_numbers(f"{ALLOWED} {ALONE} {SETUP}"), _CLONE], _ALLOW)  # one by one: Linux keeps the answers
    # clone3 is among what is not there: libc then uses clone, whose flags can be seen
    return _program([*lines, (_FROM, 0, 1, 424), (_ANSWER, 0, 0, _ENOSYS), (_ANSWER, 0, 0, _EPERM)])


def _refusing(calls: str, least: int = 0) -> bytes:
    """None of ``calls``, no more namespaces, and no clone without one of the flags ``least``."""
    flags = [(_LOAD, 0, 0, 16), (_ANY, 0, 1, 0x7E020000), (_ANSWER, 0, 0, _EPERM)]
    flags += [(_ANY, 1, 0, least), (_ANSWER, 0, 0, _EPERM)] if least else []
    return _program([*_each(_numbers(calls), _EPERM), (_EQUAL, 0, len(flags), _CLONE), *flags, (_ANSWER, 0, 0, _ALLOW)])


# Two for a check, because one that tells many calls apart takes long to set: the helper's, which its children inherit,
# and a check's own, when it has its namespaces; "process" where there are none.
FILTERS = {"helper": _allowing(), "check": _refusing(SETUP), "process": _refusing(f"{SETUP} {ALONE}", _THREAD)}
_libc = ctypes.PyDLL(None, use_errno=True)


def _call(step: str, name: str, *args: object) -> int:
    result = getattr(_libc, name)(*args)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), step)
    return result


def fork_into(flags: int) -> int:
    """`os.fork`, the child the first process of new namespaces: one process fewer than unshare and fork."""
    python, own = ctypes.pythonapi, ctypes.c_void_p()  # where libc keeps the thread's number: the child writes its own
    if _libc.prctl(40, ctypes.byref(own), 0, 0, 0) == 0 and own:
        flags |= 0x01000000 | 0x00200000  # CHILD_SETTID, CHILD_CLEARTID
    python.PyOS_BeforeFork()
    pid = _libc.syscall(_CLONE, ctypes.c_ulong(flags | signal.SIGCHLD), None, None, own, None)
    code = ctypes.get_errno()
    python.PyOS_AfterFork_Parent() if pid else python.PyOS_AfterFork_Child()
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
    for (place, limit), path in ((files[which], path) for which, path in groups if which in files):
        group = f"/sys/fs/cgroup{place}{path.rstrip('/')}/boostlib-{os.getpid()}"
        try:
            if not os.path.isdir(group):  # of a helper that was killed
                os.mkdir(group)
            _write(f"{group}/{limit}", str(TOTAL))
            return group
        except OSError:
            if os.path.isdir(group):
                os.rmdir(group)
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
    _call("pivot_root", "syscall", 155, b".", b"old")
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
    """Where there is no mount namespace: reads only below ``readable`` (open directories), writes only to /dev/null
    (docs.kernel.org, Landlock)."""
    abi = _call("landlock", "syscall", 444, None, 0, 1)
    files = (1 << {1: 13, 2: 14}.get(abi, 15)) - 1
    rules = _call("landlock", "syscall", 444, struct.pack("Q", files), ctypes.c_size_t(8), 0)
    null = os.open("/dev/null", os.O_PATH)
    for fd, rights in [(fd, 0b1101) for fd in readable] + [(null, files & 0x4006)]:
        _call("landlock", "syscall", 445, rules, 1, struct.pack("=Qi", rights, fd), 0)
    _call("landlock", "syscall", 446, rules, 0)
