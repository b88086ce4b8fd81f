"""Programs judged again for the reason, and the tests as a filter with a measured error."""

import pandas as pd
import pytest

from boostlib import sandbox
from boostlib.analysis import failures
from boostlib.tasks import Problem, programs
from boostlib.tasks.programs import Programs

kernel = pytest.mark.skipif(sandbox.level() != "kernel", reason="this machine grants no namespaces")

RIGHT = "def f(x):\n    return abs(x)\n"
ANSWERS = {  # text -> reason and challenge on a problem with challenge tests
    RIGHT: ("", "pass"),
    "def f(x):\n    return x\n": ("", "wrong value"),  # the tests hold, the challenge does not
    "def f(x):\n    return 10 // (x + 3) and x\n": ("", "exception"),
    "def f(x) return x\n": ("syntax", ""),
    "def g(x):\n    return x\n": ("exception", ""),
    "def f(x):\n    return -x\n": ("wrong value", ""),
    "import os\nos._exit(0)\n": ("exit", ""),
}


def task(challenge=("assert f(-3) == 3",)):
    problems = [
        Problem("hard", "", RIGHT, "", {"tests": ["assert f(2) == 2"], "challenge": list(challenge), "setup": ""}),
        Problem("easy", "", RIGHT, "", {"tests": ["assert f(2) == 2"], "challenge": [], "setup": ""}),
    ]
    return Programs("small", "train", tuple(problems))


def answers(problem="hard"):
    rows = [
        {"arm": "a", "round": 0, "id": problem, "response": text, "status": "fail" if reason else "pass"}
        for text, (reason, _) in ANSWERS.items()
    ]
    return pd.DataFrame(rows)


@kernel
def test_every_answer_gets_its_reason_and_passing_ones_their_challenge():
    found = failures.explain(task(), answers())
    assert list(zip(found.reason, found.challenge, strict=True)) == list(ANSWERS.values())
    assert found.error.tolist().count("NameError") == 1
    untested = failures.explain(task(), answers("easy"))
    assert (untested.reason == found.reason).all() and (untested.challenge == "").all()


@kernel
def test_an_exception_that_the_program_named_itself_is_not_reported_by_that_name():
    text = "class Secret(Exception): pass\ndef f(x): raise Secret('text')\n"
    rows = pd.DataFrame([{"id": "hard", "response": text, "status": "fail"}])
    found = failures.explain(task(), rows)
    assert found.reason.item() == "exception" and found.error.item() == ""


@kernel
def test_a_verdict_that_does_not_repeat_is_named():
    rows = pd.DataFrame([{"id": "hard", "response": RIGHT, "status": "fail"}])
    assert failures.explain(task(), rows).reason.item() == "unsteady"


def judged():
    """Two challenged prompts, one that is not; 4 answers each: (status, reason, challenge)."""
    ok, slip, bad, lost = (
        ("pass", "", "pass"),
        ("pass", "", "wrong value"),
        ("fail", "syntax", ""),
        ("error", "sandbox", ""),
    )
    kinds = {"hard": [ok, slip, bad, bad], "hard too": [ok, ok, bad, lost], "easy": [("pass", "", ""), bad, bad, bad]}
    rows = [
        {"arm": "a", "round": 1, "id": i, "status": s, "reason": r, "challenge": c}
        for i, four in kinds.items()
        for s, r, c in four
    ]
    return pd.DataFrame(rows)


class Meta:
    problems = [
        Problem(i, "", "", "", {"challenge": c}) for i, c in (("hard", ["x"]), ("hard too", ["x"]), ("easy", []))
    ]


def test_the_error_of_the_tests_is_measured_on_problems_with_challenge_tests_alone():
    found = failures.filter_error(Meta, judged()).set_index("measure")
    gamma, share = found.loc["gamma_fp"], found.loc["wrong in S+"]
    assert (gamma.hits, gamma.n, gamma.prompts) == (1, 4, 2) and gamma.value == pytest.approx(1 / 4)
    assert (share.hits, share.n) == (1, 4) and share.value == pytest.approx(1 / 4)
    assert 0 <= gamma.low < gamma.value < gamma.high <= 1
    nothing = failures.filter_error(Meta, judged()[lambda t: t.id == "easy"])
    assert nothing.empty and "value" in nothing


def test_shares_of_the_reasons_sum_to_the_share_that_does_not_pass():
    found = failures.shares(judged())
    assert found.share.sum() == pytest.approx(7 / 12) and set(found.n) == {12}
    assert found.set_index("reason").share["sandbox"] == pytest.approx(1 / 12)
    assert "unsteady" not in set(found.reason)


@kernel
def test_checks_use_the_share_of_the_cores_that_a_worker_has(monkeypatch):
    asked = []
    real = programs.sandbox.check_many
    monkeypatch.setattr(programs.sandbox, "check_many", lambda items, workers=1, *a, **o: asked.append(workers) or real(items, workers, *a, **o))  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    task().verdicts([(task().problems[0], RIGHT)])
    monkeypatch.delenv("OMP_NUM_THREADS")
    task().verdicts([(task().problems[0], RIGHT)], workers=5)
    assert asked[0] == 3 and asked[2] == 5
