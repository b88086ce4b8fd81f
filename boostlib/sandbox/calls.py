"""The system calls a program may make: a list of what is allowed, as seccomp filters (man 2 seccomp, BPF).

All else fails: calls newer than 423 with ENOSYS, so that libc falls back to older ones, others with EPERM. Not in the
list, as they reach beyond a check or could: leases, locks and signals of files, System V and POSIX objects, memfd,
inotify, AIO, io_uring, other families of sockets, keys, bpf, ptrace, exec, ids, mounts, statmount.

Not covered: when a filter is applied (kernel, helper).
"""

from __future__ import annotations

import platform
import struct

# name:x86_64[:aarch64]
_ALLOWED = """
read:0:63 write:1:64 open:2 close:3:57 stat:4 fstat:5:80 lstat:6 poll:7 lseek:8:62 mmap:9:222 mprotect:10:226
munmap:11:215 brk:12:214 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 pread64:17:67 pwrite64:18:68
readv:19:65 writev:20:66 access:21 pipe:22 select:23 sched_yield:24:124 mremap:25:216 msync:26:227 madvise:28:233
dup:32:23 dup2:33 pause:34 nanosleep:35:101 getitimer:36:102 alarm:37 setitimer:38:103 getpid:39:172 sendfile:40:71
connect:42:203 accept:43:202 sendto:44:206 recvfrom:45:207 sendmsg:46:211 recvmsg:47:212 shutdown:48:210 bind:49:200
listen:50:201 getsockname:51:204 getpeername:52:205 setsockopt:54:208 getsockopt:55:209 fork:57 exit:60:93 wait4:61:260
kill:62:129 fsync:74:82 fdatasync:75:83 truncate:76:45 ftruncate:77:46 getcwd:79:17 chdir:80:49 fchdir:81:50 rename:82
mkdir:83 rmdir:84 link:86 unlink:87 symlink:88 readlink:89 chmod:90 fchmod:91:52 umask:95:166 gettimeofday:96:169
getrlimit:97:163 getrusage:98:165 sysinfo:99:179 times:100:153 getuid:102:174 getgid:104:176 geteuid:107:175
getegid:108:177 setpgid:109:154 getppid:110:173 getpgrp:111 setsid:112:157 getgroups:115:158 getresuid:118:148
getresgid:120:150 getpgid:121:155 getsid:124:156 rt_sigtimedwait:128:137 rt_sigqueueinfo:129:138 rt_sigsuspend:130:133
sigaltstack:131:132 statfs:137:43 fstatfs:138:44 getpriority:140:141 setpriority:141:140 sched_getscheduler:145:120
sched_get_priority_max:146:125 sched_get_priority_min:147:126 prctl:157:167 arch_prctl:158 setrlimit:160:164
gettid:186:178 getxattr:191:8 lgetxattr:192:9 fgetxattr:193:10 listxattr:194:11 llistxattr:195:12 flistxattr:196:13
setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7 tkill:200:130 time:201 futex:202:98 sched_setaffinity:203:122
sched_getaffinity:204:123 getdents64:217:61 set_tid_address:218:96 timer_create:222:107 timer_settime:223:110
timer_gettime:224:108 timer_delete:226:111 clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115
exit_group:231:94 epoll_wait:232 epoll_ctl:233:21 tgkill:234:131 waitid:247:95 openat:257:56 mkdirat:258:34
newfstatat:262:79 unlinkat:263:35 renameat:264:38 linkat:265:37 symlinkat:266:36 readlinkat:267:78 fchmodat:268:53
faccessat:269:48 pselect6:270:72 ppoll:271:73 set_robust_list:273:99 splice:275:76 utimensat:280:88 epoll_pwait:281:22
timerfd_create:283:85 fallocate:285:47 timerfd_settime:286:86 timerfd_gettime:287:87 accept4:288:242 signalfd4:289:74
eventfd2:290:19 epoll_create1:291:20 dup3:292:24 pipe2:293:59 prlimit64:302:261 renameat2:316:276 getrandom:318:278 uname:63:160
membarrier:324:283 copy_file_range:326:285 statx:332:291 rseq:334:293 close_range:436:436
landlock_create_ruleset:444:444 landlock_add_rule:445:445 landlock_restrict_self:446:446 faccessat2:439:439
"""
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # as BPF sees them
if platform.machine() not in _MACHINES:
    raise OSError(f"no list of system calls for {platform.machine()}")
_COLUMN = list(_MACHINES).index(platform.machine())
_WORDS = [word.split(":") for word in _ALLOWED.split()]
_NUMBERS = {name: int(numbers[_COLUMN]) for name, *numbers in _WORDS if len(numbers) > _COLUMN}
CLONE, _CLONE3, PIVOT_ROOT, UNSHARE = (56, 220)[_COLUMN], 435, (155, 41)[_COLUMN], (272, 97)[_COLUMN]
_SETUP = [(165, 40)[_COLUMN], (126, 91)[_COLUMN]]  # mount, capset: what children need before a check's filter
# Where no PID namespace hides other processes a candidate signals none, and names no socket.
_OUTSIDE = [_NUMBERS[name] for name in "kill tkill tgkill rt_sigqueueinfo prlimit64 connect bind".split()]
_ONLY = (  # calls that are allowed where one of their arguments, by number, is one of these
    ((41, 198), 0, (1,)),  # socket and
    ((53, 199), 0, (1,)),  # socketpair: of the family unix
    ((72, 25), 1, (0, 1, 2, 3, 4, 1030, 1032)),  # fcntl: copies, flags, size of a pipe
    ((16, 29), 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # ioctl: is it a terminal, bytes to read, flags
)
_LOAD, _EQUAL, _FROM, _ANY, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | 1, 0x50000 | 38


def _tree(steps: list[tuple[int, int]]) -> list:
    """(first number, answer), ascending: a search by halves, as the kernel tries each number when a filter is set."""
    if len(steps) == 1:
        return [(_ANSWER, 0, 0, steps[0][1])]
    low, high = _tree(steps[: len(steps) // 2]), _tree(steps[len(steps) // 2 :])
    return [(_FROM, len(low), 0, steps[len(steps) // 2][0]), *low, *high]


def _program(lines: list) -> bytes:
    """Calls of another architecture kill; the x32 ones are refused."""
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _MACHINES[platform.machine()]), (_ANSWER, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, 0), (_FROM, 0, 1, 0x40000000), (_ANSWER, 0, 0, _EPERM), *lines]
    return b"".join(struct.pack("HBBI", *line) for line in code)


def _allowing() -> bytes:
    numbers = {*_NUMBERS.values(), CLONE, *_SETUP}
    answers = [_ALLOW if n in numbers else _EPERM if n < 424 else _ENOSYS for n in range(512)]
    steps = [(n, answer) for n, answer in enumerate(answers) if n == 0 or answer != answers[n - 1]]
    lines = [(_EQUAL, 0, 1, _CLONE3), (_ANSWER, 0, 0, _ENOSYS)]  # libc then uses clone, whose flags can be seen
    for call, argument, values in _ONLY:
        tests = [(_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
        rest = [(_LOAD, 0, 0, 16 + 8 * argument), *tests, (_ANSWER, 0, 0, _EPERM), (_ANSWER, 0, 0, _ALLOW)]
        lines += [(_EQUAL, 0, len(rest), call[_COLUMN]), *rest]
    return _program(lines + _tree(steps))


def refusing(calls: list[int]) -> bytes:
    """No more namespaces, and none of ``calls``."""
    lines = [line for call in calls for line in ((_EQUAL, 0, 1, call), (_ANSWER, 0, 0, _EPERM))]
    lines += [(_EQUAL, 0, 3, CLONE), (_LOAD, 0, 0, 16), (_ANY, 0, 1, 0x7E020000), (_ANSWER, 0, 0, _EPERM)]
    return _program([*lines, (_ANSWER, 0, 0, _ALLOW)])


# Two for a check, because one that tells many calls apart takes long to set: the helper's, which its children inherit,
# and a check's own, when it has its namespaces; "process" where there are none.
FILTERS = {"helper": _allowing(), "check": refusing(_SETUP), "process": refusing(_SETUP + _OUTSIDE)}
