"""Verdicts are Python's, and no attack is verified: 352 programs of our own, and what is around a check."""

import functools
import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from cases import ATTACKS, ERRORS, HONEST

from boostlib import sandbox
from boostlib.sandbox import POOL

pytestmark = pytest.mark.skipif(sandbox.level() != "kernel", reason="this machine grants no namespaces")
PACKAGE = Path(sandbox.__file__).parents[1]
RIGHT, WRONG, TESTS = "def f(x):\n    return x * x\n", "def f(x):\n    return 0\n", ["assert f(2) == 4"]


@pytest.mark.parametrize("name", ATTACKS | ERRORS)
def test_no_attack_is_verified_or_brings_about_an_error(name):
    program, tests, setup = (ATTACKS | ERRORS)[name]
    verdict = sandbox.check(program, tests, setup, timeout=1.0)
    assert verdict.status != "error" and not (verdict.status == "pass" and verdict.verified), verdict
    assert sandbox.check(program, tests, setup, timeout=1.0, unverified="fail").status in ("fail", "timeout")


@functools.cache
def honest(name):
    return sandbox.check(*HONEST[name], timeout=10.0)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_gets_the_verdict_that_python_gives(name):
    assert honest(name).status == "pass", honest(name)


def test_most_honest_programs_are_verified():
    verdicts = list(map(honest, HONEST))
    assert sum(v.verified for v in verdicts) >= 115
    assert all(v.detail and v.detail.isprintable() for v in verdicts if not v.verified)  # it says why


FORGES = """
import sys
def f(x): return 0
frame = sys._getframe()
while frame:
    for value in list(frame.f_locals.values()):
        if isinstance(value, list) and value and isinstance(value[0], str) and "assert" in value[0]: value.clear()
    frame = frame.f_back
"""


@pytest.mark.parametrize(
    "program",
    [
        FORGES,
        "import os, struct, json\nd = json.dumps(['', '', 1]).encode()\nos.write(3, struct.pack('!I', len(d)) + d)\nos._exit(0)",
        "import builtins\nclass A(AssertionError): pass\ndef f(x): return type('Y', (), {'__eq__': lambda s, o: True})()",
        "import sys\nseen = 'expected' in sys._getframe().f_globals\ndef f(x): return globals()['expected']",
        "import inspect\ndef f(x):\n    return [v for fr in inspect.stack() for k, v in fr.frame.f_globals.items() if k == 'expected'][0]",
    ],
)
def test_what_the_program_claims_of_the_first_verdict_is_not_believed(program):
    verdict = sandbox.check(program, ["assert f(2) == expected"], "expected = 4", timeout=1.0)
    assert verdict.status == "fail" and not verdict.verified, verdict


def test_a_program_that_tells_the_two_runs_apart_is_not_verified():
    program = "import sys\ntogether = any('tests' in f.f_locals for f in [sys._getframe(i) for i in range(3)])\ndef f(x): return x * x if together else 0"
    verdict = sandbox.check(program, TESTS)
    assert verdict.status == "fail" and verdict.reason == "wrong value"


def test_a_mapping_that_holds_itself_only_apart_is_not_verified():
    program = "import sys\nfrom collections import UserDict\ntogether = any('tests' in f.f_locals for f in [sys._getframe(i) for i in range(3)])\ndef f(x):\n    d = UserDict()\n    d.data = {} if together else d\n    return d"
    verdict = sandbox.check(program, ["assert dict(f(2)) == {}"])
    assert verdict.status == "fail" and verdict.reason == "exception", verdict


def test_arguments_changed_in_place_come_back_as_python_has_them():
    program = "def f(a, b=None, *, c=None):\n    a.append(b)\n    if b is not None: b.append(a)\n    if c: c['k'][0].clear()\n    return a"
    tests = [
        "x, y = [1], [2]\nz = f(x, y)\nassert x[1][0] == 2 and y[1][0] == 1 and len(z) == 2",
        "d = {'k': ([7], 1)}\nf([], c=d)\nassert d == {'k': ([], 1)}",
        "r = [0]\nx = [r, r]\nf(x)\nassert x == [[0], [0], None] and r == [0]",
    ]
    verdict = sandbox.check(program, tests)
    assert verdict.status == "pass" and verdict.verified, verdict
    liar = "def f(a): a[:] = [1, 2]\n"
    assert sandbox.check(liar, ["x = [3, 1]\nf(x)\nassert x == [1, 3]"]).status == "fail"


def test_a_judge_is_new_for_each_check():
    assert sandbox.check(RIGHT, ["import math\nmath.isclose = lambda *a: True\nassert f(2) == 4"]).status == "pass"
    assert sandbox.check(WRONG, ["import math\nassert math.isclose(f(2), 4)"]).status == "fail"
    setup = "import decimal\ndecimal.getcontext().prec = 2"
    assert sandbox.check(RIGHT, TESTS, setup).status == "pass"
    assert (
        sandbox.check(RIGHT, ["import decimal\nassert decimal.getcontext().prec == 28 and f(1) == 1"]).status == "pass"
    )


def test_annotations_are_read_as_a_fresh_python_reads_them():
    assert sandbox.check("def f(x: List[int]): return x", ["assert f(1) == 1"]).detail.startswith("NameError")
    assert sandbox.check("def f(x: int): return x", ["assert f(f.__annotations__['x'](1)) == 1"]).status == "pass"


@pytest.mark.parametrize("flags, environment", [(["-O"], {}), (["-OO"], {}), ([], {"PYTHONOPTIMIZE": "1"})])
def test_asserts_count_whatever_flags_python_has(flags, environment):
    code = "from boostlib import sandbox; print([sandbox.check(f'def f(x): return {i}', ['assert f(2) == 4']).status for i in (4, 5)])"
    out = subprocess.run(
        [sys.executable, *flags, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == "['pass', 'fail']"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((RIGHT, TESTS, "", math.inf), "timeout must be a positive number of seconds, at most 86,400"),
        ((RIGHT, TESTS, "", math.nan), "timeout must be a positive"),
        ((RIGHT, TESTS, "", "5"), "timeout must be a positive"),
        ((RIGHT, ["return f(2)"]), r"tests\[0\] is no valid Python"),
        ((RIGHT, ["assert f(2) == 4", "break"]), r"tests\[1\] is no valid Python"),
        ((RIGHT, TESTS, "await x"), "setup is no valid Python"),
    ],
)
def test_a_bad_request_is_one_sentence_before_anything_runs(arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        sandbox.check(*arguments)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unverified must be"):
        sandbox.check(RIGHT, TESTS, unverified="maybe")


def test_eight_at_once_from_threads_and_from_processes():
    items = [(RIGHT, "pass"), (WRONG, "fail")] * 12
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(_status, [p for p, _ in items])) == [wanted for _, wanted in items]
    with ProcessPoolExecutor(8) as processes:
        assert list(processes.map(_status, [p for p, _ in items])) == [wanted for _, wanted in items]


def _status(program):
    return sandbox.check(program, TESTS, timeout=20.0).status


def test_kill_9_of_the_user_leaves_no_process_and_no_file():
    code = "from boostlib import sandbox\nfrom boostlib.sandbox import POOL\nsandbox.check('x = 1', [])\nprint(POOL.idle[0].process.pid, flush=True)\nsandbox.check('while True: pass', [], timeout=60.0, allow='ALLOW')"
    for allow in ("kernel", "process"):
        before = set(os.listdir("/tmp"))
        user = subprocess.Popen([sys.executable, "-c", code.replace("ALLOW", allow)], stdout=subprocess.PIPE, text=True)
        helper = int(user.stdout.readline())
        time.sleep(0.5)
        user.send_signal(signal.SIGKILL)
        user.wait()
        for _ in range(100):
            if not Path(f"/proc/{helper}").exists() or ") Z" in Path(f"/proc/{helper}/stat").read_text():
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the helper outlived its user")
        assert not [f for f in set(os.listdir("/tmp")) - before if f.startswith("boostlib-")]


PROBE = """
import json
from boostlib import sandbox as s
program = 'import os\\ndef f(): return [os.getuid(), os.getpid(), os.path.exists("/etc"), os.listdir("/tmp")]'
v = s.check(program, ['assert f() == [65534, 1, False, []]'])
print(json.dumps([s.level(), s.level().memory, v.status, v.verified]))
"""


def _python_for_all():
    """A Python of 3.11 or later that every user may run."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    test = [python or "false", "-c", "import sys; assert sys.version_info >= (3, 11)"]
    if os.getuid() != 0 or subprocess.run(test, user=4321, group=4321, extra_groups=[], capture_output=True).returncode:
        pytest.skip("not root, or no Python of 3.11 or later that an ordinary user may run")
    return python


@pytest.fixture
def copy():
    home = Path("/tmp") / f"boostlib-copy-{os.getpid()}"
    shutil.copytree(PACKAGE / "sandbox", home / "boostlib" / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "boostlib" / "__init__.py").touch()
    yield home
    shutil.rmtree(home)


def test_an_ordinary_user_gets_level_kernel(copy):
    python = _python_for_all()
    environment = {"PYTHONPATH": str(copy)}
    run = subprocess.run(
        [python, "-B", "-c", PROBE],
        cwd=copy,
        env=environment,
        user=4321,
        group=4321,
        extra_groups=[],
        capture_output=True,
        text=True,
    )
    assert json.loads(run.stdout)[::2] == ["kernel", "pass"] and "MiB" in run.stdout, run


def test_root_of_a_user_namespace_without_nobody_gets_level_kernel(copy):
    unshare = shutil.which("unshare")
    if not unshare:
        pytest.skip("no unshare")
    run = subprocess.run(
        [unshare, "-Ur", sys.executable, "-B", "-c", PROBE],
        cwd=copy,
        env={"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert json.loads(run.stdout)[::2] == ["kernel", "pass"], run


def test_low_limits_are_named_and_leave_nothing(copy):
    before = set(os.listdir("/tmp"))
    code = "from boostlib import sandbox\ntry: print(sandbox.check('x = 1', []))\nexcept sandbox.Unavailable as e: print(e)"
    for limit in ("-v 60000", "-v 30000"):
        command = ["/bin/sh", "-c", f'ulimit {limit}; exec {sys.executable} -c "{code}"']
        out = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(copy)})
        assert (
            "ulimit -v" in out.stdout
            or "Verdict(status='pass'" in out.stdout
            or "MemoryError" in out.stderr + out.stdout
            or out.returncode
        ), out
        assert "max_user_namespaces" not in out.stdout
    assert not [f for f in set(os.listdir("/tmp")) - before if f.startswith("boostlib-")]


@pytest.mark.parametrize("place", ["/tmp", "/root"])
def test_a_python_below_tmp_or_a_closed_home_keeps_its_library(copy, place):
    """A copy of the standard library's text below ``place``, with the same interpreter."""
    if os.getuid() != 0:
        pytest.skip("only root may write there")
    home = Path(place) / f"boostlib-python-{os.getpid()}"
    library = Path(os.__file__).parent
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        (home / "bin").mkdir(parents=True)
        shutil.copy2(os.path.realpath(sys.executable), home / "bin" / "python3")
        shutil.copytree(
            library,
            home / "lib" / version,
            ignore=shutil.ignore_patterns("site-packages", "test", "idlelib", "__pycache__", "*.a", "config-*"),
        )
        shared = [p for p in library.parent.glob("libpython*.so*")]
        for path in shared:
            shutil.copy2(path, home / "lib" / path.name, follow_symlinks=False)
        program = "import colorsys, wave, sndhdr\ndef f(): return [colorsys.rgb_to_hsv(0, 0, 0)[0], wave.__name__]"
        code = f"import os, sys; assert os.__file__.startswith({str(home)!r})\nfrom boostlib import sandbox as s\nfrom boostlib.sandbox import Helper\nfrom boostlib.sandbox.reading import read\ntests = ['assert f() == [0.0, \"wave\"]']\nprint([Helper(l).check({program!r}, '', tests, read('', tuple(tests)), 20.0)[:3] for l in ('kernel', 'process')])"
        environment = {"PYTHONPATH": str(copy), "LD_LIBRARY_PATH": str(home / "lib")}
        out = subprocess.run(
            [home / "bin" / "python3", "-B", "-c", code], capture_output=True, text=True, env=environment
        )
        assert out.stdout.strip() == "[('pass', '', ''), ('pass', '', '')]", out
    finally:
        shutil.rmtree(home)


HARM = """
import ctypes, os, socket
def f():
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(os.__file__, os.O_RDONLY)
    import fcntl
    done = []
    def may(what, do):
        try: do()
        except (OSError, ValueError): return
        done.append(what)
    may("lease", lambda: fcntl.fcntl(fd, 1024, fcntl.F_RDLCK))
    may("flock", lambda: fcntl.flock(fd, fcntl.LOCK_SH))
    may("lockf", lambda: fcntl.lockf(fd, fcntl.LOCK_SH))
    may("owner", lambda: fcntl.fcntl(3, fcntl.F_SETOWN, 1))
    may("memfd", lambda: os.memfd_create("x"))
    for family in (2, 10, 16, 17, 38):
        may(f"family {family}", lambda: socket.socket(family))
        may(f"pair {family}", lambda: socket.socketpair(family))
    for number in (29, 64, 68, 206, 240, 253, 294, 300, 425, 457, 101, 59, 322, 155, 272, 308, 105, 447):
        if libc.syscall(number, 0, 4096, 0o600, 0) >= 0: done.append(number)
    return done
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_calls_that_reach_beyond_the_check_are_not_allowed():
    got = sandbox.check(HARM, ["found = f()\nassert found == [], found"])
    assert got.status == "pass", got
    assert sandbox.check("import os\ndef f(): return os.uname().nodename", ["assert f() == 'sandbox'"]).status == "pass"


def _answer(program, number, argument=0):
    """What a filter of system calls says to one, as Linux evaluates it."""
    data, at, got = struct.pack("IIQ6Q", number, 0xC000003E, 0, *[argument] * 6), 0, 0
    while True:
        (code, yes, no, k), at = struct.unpack_from("HBBI", program, 8 * at), at + 1
        if code == 0x06:
            return k
        if code == 0x20:
            (got,) = struct.unpack_from("I", data, k)
        else:
            at += yes if {0x15: got == k, 0x35: got >= k, 0x45: got & k}[code] else no


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86_64")
def test_the_filter_answers_every_call_as_the_list_says():
    from boostlib.sandbox import kernel

    listed = {int(n) for n in re.findall(r":(\d+)", kernel.ALLOWED + kernel.ALONE + kernel.SETUP)} | {56}
    told = {call: values for call, _, values in kernel.ONLY}
    for number in range(1024):
        other = 0x7FFF0000 if number in listed else 0x50000 | (1 if number < 424 else 38)
        assert _answer(kernel.FILTERS["helper"], number, 99) == (0x50001 if number in told else other)
    assert all(_answer(kernel.FILTERS["helper"], n, v) == 0x7FFF0000 for n, values in told.items() for v in values)
    for name, call, argument in [("check", 165, 0), ("check", 56, 0x10000000), ("process", 57, 0), ("process", 56, 17)]:
        assert _answer(kernel.FILTERS[name], call, argument) == 0x50001


def test_memory_is_bounded_in_all_and_the_level_says_how():
    assert "MiB" in sandbox.level().memory
    hungry = "import os, time\ndef f(x):\n    for _ in range(6):\n        if os.fork() == 0:\n            a = bytearray(b'x') * (450 << 20)\n            time.sleep(9)\n    time.sleep(1.5)\n    return x * x"
    start, most = time.monotonic(), 0
    with ThreadPoolExecutor(1) as thread:
        verdict = thread.submit(sandbox.check, hungry, TESTS, timeout=3.0)
        free = _free()
        while not verdict.done():
            most = max(most, free - _free())
            time.sleep(0.05)
    assert verdict.result().status in ("pass", "fail", "timeout") and time.monotonic() - start < 30
    if "in all" in sandbox.level().memory:
        assert most < 3000, f"{most} MiB"
    assert sandbox.check(RIGHT, TESTS).status == "pass"


def _free():
    """MiB that the machine has left."""
    text = Path("/proc/meminfo").read_text()
    return int(text.split("MemAvailable:")[1].split()[0]) >> 10


def test_a_forked_copy_of_the_user_starts_helpers_of_its_own():
    sandbox.check(RIGHT, TESTS)
    assert POOL.idle
    pid = os.fork()
    if pid == 0:
        os._exit(0 if sandbox.check(RIGHT, TESTS).status == "pass" else 1)
    assert os.waitpid(pid, 0)[1] == 0 and sandbox.check(RIGHT, TESTS).status == "pass"
