"""The sandbox's front: verdicts and reasons, faithful values, levels, lost helpers, and ten thousand checks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from boostlib import sandbox
from boostlib.sandbox import POOL, Helper

kernel = pytest.mark.skipif(sandbox.level() != "kernel", reason="this machine grants no namespaces")
pytestmark = kernel
ROOT = Path(sandbox.__file__).parent
RIGHT = "def f(x):\n    return x * x\n"


def status(program, *tests, **options):
    return sandbox.check(program, tests, **options).status


def test_a_right_program_passes_and_counts_its_tests():
    verdict = sandbox.check(RIGHT, ["assert f(2) == 4", "assert f(0) == 0"])
    assert (verdict.status, verdict.reason, verdict.passed) == ("pass", "", 2)
    assert 0 < verdict.seconds < 5


@pytest.mark.parametrize(
    "program, expected, reason, detail",
    [
        ("def f(x) return x", "fail", "syntax", "SyntaxError"),
        ("def f(x):\n    return y", "fail", "exception", "NameError"),
        ("def f(x):\n    raise KeyError(x)", "fail", "exception", "KeyError"),
        ("def g(x): return x", "fail", "exception", "NameError"),
        ("import numpy\ndef f(x): return 4", "fail", "exception", "ModuleNotFoundError"),
        ("class Odd(Exception): pass\ndef f(x): raise Odd('no')", "fail", "exception", "Odd: no"),
        ("def f(x): return 5", "fail", "wrong value", "test 1"),
        ("import os\nos._exit(3)", "fail", "exit", "exit code 3"),
        ("while True: pass", "timeout", "timeout", ""),
        ("import time\ntime.sleep(100)", "timeout", "timeout", ""),
    ],
)
def test_a_failure_says_why(program, expected, reason, detail):
    start = time.monotonic()
    verdict = sandbox.check(program, ["assert f(2) == 4"], timeout=0.4)
    assert (verdict.status, verdict.reason) == (expected, reason) and detail in verdict.detail, verdict
    assert time.monotonic() - start < 3


VALUES = """[
    None, True, 0, -7, 2**70, -(2**5000), 0.1, -0.0, float("inf"), 1 + 2j, "", "ä\\u20ac\\ud800", b"\\x00\\xff", bytearray(b"a"),
    [], [1, [2, [3]]], (), (1, (2,)), {}, {1: {2: 3}}, {(1, 2): [3]}, set(), {1, "a"}, frozenset({1}), range(2, 9, 3), Ellipsis, int,
    Decimal("1.50"), Fraction(1, 3), Counter("aab"), OrderedDict(a=1), deque([1, 2]), datetime(2020, 1, 2, 3), date(2020, 1, 2),
    {1: 2}.keys(), {1: [2]}.items(), {3: 4}.keys() & {3},
]"""
IMPORTS = (
    "from decimal import Decimal\nfrom fractions import Fraction\nfrom datetime import date, datetime\n"
    "from collections import Counter, OrderedDict, deque\n"
)


def test_plain_data_crosses_with_value_and_exact_type():
    test = f"{IMPORTS}for i, v in enumerate({VALUES}):\n    assert f(i) == v and type(f(i)) is type(v), v"
    assert status(f"{IMPORTS}VALUES = {VALUES}\ndef f(i): return VALUES[i]", test) == "pass"
    assert status("def f(x): return x", f"{IMPORTS}for v in {VALUES}:\n    assert f(v) == v") == "pass"
    assert status("def f(): return float('nan')", "x = f()\nassert x != x") == "pass"


def test_subclasses_of_plain_types_arrive_as_their_content():
    program = (
        "import collections, enum\nPoint = collections.namedtuple('Point', 'x y')\nclass E(enum.IntEnum):\n    a = 3\n"
        "def f(n):\n    d = collections.defaultdict(list)\n    d[1].append(2)\n    return [Point(1, 2), E.a, d][n]"
    )
    assert status(program, "assert f(0) == (1, 2)", "assert f(1) == 3", "assert f(2) == {1: [2]}") == "pass"


def test_iterators_keep_their_meaning():
    program = "import itertools\ndef f(n): return map(str, range(n))\ndef g(): return itertools.count(5)"
    assert (
        status(
            program, "assert list(f(3)) == ['0', '1', '2']", "assert next(g()) == 5", "assert sum(1 for _ in f(9)) == 9"
        )
        == "pass"
    )
    assert status(program, "assert f(1) == ['0']") == "fail"  # as in Python
    assert status("def f(x): return list(x)", "assert f(iter([1, 2])) == [1, 2]") == "pass"


def test_objects_of_the_program_can_be_used_through_their_handles():
    program = (
        "class Node:\n    def __init__(self, v):\n        self.v, self.left = v, None\n    def twice(self): return 2 * self.v\n"
        "    def __eq__(self, o): return self.v == o.v\n    def __len__(self): return 7\n"
        "def depth(n): return 0 if n is None else 1 + depth(n.left)\ndef make(v): return Node(v)"
    )
    setup = "root = Node(1)\nroot.left = Node(2)"
    tests = [
        "assert depth(root) == 2",
        "assert root.left.v == 2 and root.twice() == 2",
        "assert make(3) == Node(3) and make(3) != Node(4)",
        "assert isinstance(make(1), Node) and not isinstance(3, Node)",
        "n = make(5)\nn.left = make(6)\nassert depth(n) == 2 and len(n) == 7",
    ]
    assert sandbox.check(program, tests, setup).status == "pass"


def test_tests_are_ordinary_python():
    program = "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x * x\ndef sort(a): a.sort()\ndef app(g, x): return g(x)\ncalls = 0"
    tests = [
        "for i in range(9):\n    assert f(i) == i * i",
        "assert all(f(i) == i ** 2 for i in range(5))",
        "try:\n    f(-1)\nexcept ValueError as e:\n    assert str(e) == 'negative'\nelse:\n    assert False",
        "a = [3, 1, 2]\nsort(a)\nassert a == [1, 2, 3]",
        "b = {'k': [2, 1]}\nsort(b['k'])\nassert b == {'k': [1, 2]}",
        "assert app(lambda v: v + 1, 4) == 5 and app(len, [1, 2]) == 2 and app(str, 4) == '4'",
        "def check(g):\n    assert g(3) == 9\ncheck(f)",
        "import math\nassert math.isclose(f(0.1), 0.01)",
        "assert f(x=3) == 9, 'a message'",
    ]
    assert sandbox.check(program, tests).status == "pass"


def test_tests_may_use_the_library_as_the_program_imported_it():
    program = "import os\nfrom datetime import datetime\nfrom collections import Counter\ndef f(): return datetime(2020, 1, 2)\ndef g(): return 'a/b'"
    tests = [
        "assert f() == datetime(2020, 1, 2) == datetime.strptime('2020-01-02', '%Y-%m-%d')",
        "assert os.path.basename(g()) == 'b' and Counter(g())['a'] == 1",
    ]
    assert sandbox.check(program, tests).status == "pass"
    assert sandbox.check("def f(): return 3", ["assert math.floor(f()) == 3"]).detail.startswith("NameError")


def test_order_is_code_then_setup_then_tests():
    program = "def area(r):\n    return PI * r * r\nclass Box: pass"
    assert status(program, "assert area(2) == 12", setup="PI = 3\nbox = Box()") == "pass"
    helper = "import math\nstep = math.floor(2.5)\ndef twice(x):\n    return f(f(x)) * step"
    assert status(RIGHT, "assert twice(2) == 32", setup=helper) == "pass"
    assert status(RIGHT, "assert twice(2) == 32", setup="def twice(x): return g(x)") == "fail"


def test_a_global_is_read_anew_for_each_test():
    assert status("n = 0\ndef f():\n    global n\n    n += 1", "assert n == 0", "f()\nf()", "assert n == 2") == "pass"


def test_the_verdict_does_not_depend_on_the_hash_seed_or_on_random():
    program = "import random\ndef f(): return [list(set('abcdefgh')), random.random(), hash('a')]"
    told = set()
    for _ in range(3):
        POOL.close()  # a new helper
        told.add(sandbox.check(program, ["raise ValueError(str(f()))"]).detail)
    assert len(told) == 1 and "['" in told.pop()


def test_bad_requests_say_what_is_wrong():
    for arguments, words in [
        ((RIGHT, "assert f(2) == 4"), "list of assert statements"),
        ((RIGHT, ["assert f(2) =="]), r"tests\[0\] is no valid Python"),
        ((RIGHT, [], "x ="), "setup is no valid Python"),
        ((RIGHT, [], "", 0), "timeout must be a positive"),
        ((None, []), "A program is text"),
        ((RIGHT, [3]), "tests is a list of assert statements"),
    ]:
        with pytest.raises(ValueError, match=words):
            sandbox.check(*arguments)
    with pytest.raises(ValueError, match="known: kernel, process\\."):
        sandbox.check(RIGHT, [], allow="root")
    with pytest.raises(TypeError, match="status"):
        bool(sandbox.check(RIGHT, []))


def test_many_checks_keep_their_order_and_report_progress():
    items = [(RIGHT if i % 3 else "def f(x): return 0", [f"assert f({i + 1}) == {(i + 1) ** 2}"]) for i in range(30)]
    done = []
    verdicts = sandbox.check_many(items, workers=2, progress=done.append)
    assert [v.status for v in verdicts] == ["pass" if i % 3 else "fail" for i in range(30)]
    assert sum(done) == 30


def test_kill_9_of_a_helper_reports_error_and_loses_nothing():
    POOL.close()
    items = [("import time\ntime.sleep(0.02)\n" + RIGHT, ["assert f(2) == 4"])] * 40
    out = {}
    thread = threading.Thread(target=lambda: out.update(verdicts=sandbox.check_many(items, workers=1)))
    thread.start()
    for _ in range(2):
        time.sleep(0.25)
        mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        mine += [p for t in Path("/proc/self/task").iterdir() for p in (t / "children").read_text().split()]
        helpers = {int(p) for p in mine if b"helper.py" in Path(f"/proc/{p}/cmdline").read_bytes()}
        for pid in helpers:
            os.kill(pid, signal.SIGKILL)
    thread.join(30)
    found = [v.status for v in out["verdicts"]]
    assert len(found) == 40 and 1 <= found.count("error") <= 2 and found.count("pass") == 40 - found.count("error")
    assert status(RIGHT, "assert f(2) == 4") == "pass"


def test_helpers_end_with_the_users_process():
    code = "from boostlib import sandbox; sandbox.check('x = 1', []); from boostlib.sandbox import POOL; print(POOL.idle[0].process.pid, flush=True); import time; time.sleep(60)"
    user = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT.parents[1])
    pid = int(user.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    user.kill()
    user.wait()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]:
            return
        time.sleep(0.05)
    raise AssertionError("the helper outlived its user")


WITHOUT_NAMESPACES = """
import sys
sys.path.insert(0, {root!r} + "/sandbox")
import kernel
kernel.FILTERS["none"] = kernel._refusing("unshare:272")
kernel.seccomp("none")  # from here on, no process below us gets a namespace
sys.path[0] = {root!r}
import sandbox, json
out = {{"level": sandbox.level()}}
try:
    sandbox.check("x = 1", ["assert x == 1"])
except sandbox.Unavailable as e:
    out["refusal"] = str(e)
programs = {{"right": "def f(x): return x * x", "forged": {forged!r}, "loop": "def f(x):\\n    while True: pass"}}
for name, program in programs.items():
    out[name] = sandbox.check(program, ["assert f(2) == 4"], timeout=1.0, allow="process").status
print(json.dumps(out))
"""
FORGED = "import os, signal\ndef f(x):\n    for p in [os.getppid(), 0, -1]:\n        try: os.kill(p, signal.SIGKILL)\n        except OSError: pass\n    open('/tmp/boostlib-x', 'w')"


def test_without_namespaces_it_refuses_says_what_to_do_and_takes_less_only_by_name(tmp_path):
    shutil.copytree(ROOT, tmp_path / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    code = WITHOUT_NAMESPACES.format(root=str(tmp_path), forged=FORGED)
    out = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert out["level"] == "process"
    for words in ("unshare", "user.max_user_namespaces", "docker", "seccomp=unconfined", "allow='process'"):
        assert words.lower() in out["refusal"].lower()
    assert (out["right"], out["forged"], out["loop"]) == ("pass", "fail", "timeout")
    assert not Path("/tmp/boostlib-x").exists()


def test_ten_thousand_checks_leave_nothing_and_do_not_slow_down():
    """BOOSTLIB_SOAK sets another number."""
    n = int(os.environ.get("BOOSTLIB_SOAK", 10_000))
    programs = [RIGHT, "def f(x): return 0", "import threading, os\nthreading.Thread(target=print).start()\nif os.fork() == 0: os._exit(0)\n" + RIGHT,
                "open('/tmp/a', 'w').write('x' * 9999)\n" + RIGHT, "import os\nos._exit(1)"]  # fmt: skip
    wanted = ["pass", "fail", "pass", "pass", "fail"]
    sandbox.check_many([(RIGHT, [])] * 8, workers=2)
    files, helpers = len(os.listdir("/proc/self/fd")), len(POOL.idle)
    memory = [_memory(h) for h in POOL.idle]
    seconds = []

    def timed(_):
        seconds.append(time.perf_counter())

    items = [(programs[i % 5], ["assert f(3) == 9"]) for i in range(n)]
    verdicts = sandbox.check_many(items, workers=2, progress=timed)
    assert [v.status for v in verdicts] == [wanted[i % 5] for i in range(n)]
    assert len(os.listdir("/proc/self/fd")) == files and len(POOL.idle) == helpers
    assert all(_memory(h) < m + 4096 for h, m in zip(POOL.idle, memory, strict=False))
    steps = np.diff(seconds)
    first, last = np.median(steps[: n // 5]), np.median(steps[-n // 5 :])
    assert last < 2.5 * first, f"{first * 1e3:.1f} ms a check grew to {last * 1e3:.1f} ms"


def _memory(helper: Helper) -> int:
    """KiB resident in a helper's serving process."""
    pid = helper.process.pid
    child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
    return int(Path(f"/proc/{child}/status").read_text().split("VmRSS:")[1].split()[0])
