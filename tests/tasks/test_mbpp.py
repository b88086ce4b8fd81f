"""Tasks judged by tests: MBPP and the small one made here. No text of the data set stands here."""

import ast
import json
import os
import re
import string
import subprocess
import sys
import types

import numpy as np
import pytest

from boostlib import sandbox
from boostlib.tasks import Problem, load_task, mutate, programs
from boostlib.tasks.mbpp_mini import pretraining_pairs
from boostlib.tasks.programs import Programs, extract_code

pytestmark = pytest.mark.skipif(sandbox.level() != "kernel", reason="this machine grants no namespaces")
real = pytest.mark.skipif(not os.environ.get("BOOSTLIB_DATA"), reason="BOOSTLIB_DATA is not set: no real MBPP file")
CODE = "def f(x):\n    return x + 1\n"


# -- extraction --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        CODE,
        CODE.rstrip(),
        "\n\n" + CODE,
        CODE + "[DONE]\nYou are an expert",
        "[BEGIN]\n" + CODE + "[DONE]",
        "Sure!\n[BEGIN]\n" + CODE + "[DONE] as asked",
        "```python\n" + CODE + "```",
        "```\n" + CODE + "```\nThis adds one.",
        "Here it is:\n\n```python\n" + CODE + "```\nUse it so:\n```python\nprint(f(1))\n```",
        "First:\n```\npip install x\n```\nthen\n```py\n" + CODE + "```",
        "```python\n" + CODE,
        "[BEGIN]\n```python\n" + CODE + "```\n[DONE]",
        "Here is the function you need.\n\n" + CODE,
        CODE + "```\n",
    ],
)
def test_code_is_found_fenced_tagged_or_bare(response):
    assert extract_code(response).strip() == CODE.strip()


# -- small wrong changes -----------------------------------------------------------------------------------


def test_an_edit_changes_one_place_and_keeps_the_rest():
    program = '"""Doc 1."""\n# a comment 2\ndef f(x, é="ä"):\n    if x >= 10 and x in é:\n        x *= 2\n    return max(x, 3) + len("ab")\n'
    found = mutate.edits(program)
    texts = set(found)
    assert len(texts) == len(found) >= 10 and program not in texts
    for text in texts:
        ast.parse(text)
        assert text.startswith('"""Doc 1."""\n# a comment 2\n')
    for wanted in (
        "x > 10",
        "x >= 9",
        "x >= 11",
        "10 or x",
        "x not in é",
        "x += 2",
        "min(x, 3)",
        '- len("ab")',
        'len("a")',
    ):
        assert any(wanted in text for text in texts), wanted
    assert mutate.edits("def f(x) return") == []


# -- grading -----------------------------------------------------------------------------------------------


def task_of(*problems, **options):
    return Programs("some", "test", problems, **options)


def problem(tests, reference=CODE, setup="", challenge=()):
    meta = {"tests": tests, "setup": setup, "challenge": list(challenge)}
    return Problem("p/" + reference[:30], "f\n", reference, "\n".join(tests), meta)


def test_grades_keep_their_order_and_equal_programs_run_once(monkeypatch):
    p, q = problem(["assert f(1) == 2"]), problem(["assert f(1) == 3"])
    ran, done = [], []
    real_check = sandbox.check_many
    monkeypatch.setattr(
        programs.sandbox, "check_many", lambda items, *a, **k: ran.extend(items) or real_check(items, *a, **k)
    )
    task = task_of(p, q)
    pairs = [(p, CODE), (q, CODE), (p, "def f(x): return"), (p, CODE), (p, "def f(x): x +"), (p, "while True: pass")]
    monkeypatch.setattr(programs, "FLOOR", 0.5)
    found = task.verdicts(pairs, progress=done.append)
    assert [v.status for v in found] == ["pass", "fail", "fail", "pass", "fail", "timeout"]
    assert [v.reason for v in found] == ["", "wrong value", "wrong value", "", "syntax", "timeout"]
    assert sum(done) == len(pairs) and len(ran) == 6  # five programs and the reference of the slow one
    assert task.grade(pairs[:2]) == ["pass", "fail"] and task.quality(p, CODE) and not task.quality(q, CODE)


def test_time_allowed_grows_with_the_reference(monkeypatch):
    monkeypatch.setattr(programs, "FLOOR", 0.1)
    slow = "import time\ndef f(x):\n    time.sleep(0.3)\n    return x + 1\n"
    p = problem(["assert f(1) == 2"], reference=slow)
    assert task_of(p).grade([(p, slow.replace("0.3", "0.6")), (p, slow.replace("0.3", "60"))]) == ["pass", "timeout"]


def test_challenge_tests_are_apart():
    p = problem(["assert f(1) == 2"], challenge=["assert f(-1) == 0"])
    weak = "def f(x): return 2"
    task = task_of(p)
    assert task.grade([(p, weak)]) == ["pass"]
    assert task.verdicts([(p, weak), (p, CODE)], challenge=True)[0].status == "fail"


def test_a_corrupted_reference_runs_and_is_wrong():
    p = problem(["assert f(1) == 2", "assert f(5) == 6"])
    task = task_of(p)
    wrong = {task.corrupt(p, np.random.default_rng(i)) for i in range(8)}
    assert len(wrong) >= 2 and set(task.grade([(p, w) for w in wrong])) == {"fail"}
    plain = problem(["assert f(1) == 1"], reference="def f(x):\n    return x\n")
    assert task.corrupt(plain, np.random.default_rng(0)) == 'def f(x):\n    return "?"\n'


# -- the small task ----------------------------------------------------------------------------------------


def test_mini_has_hundreds_of_short_distinct_problems_with_right_references():
    symbols = "\n " + string.digits + string.ascii_letters + string.punctuation  # what a model must know
    task = load_task("mbpp_mini", "train", n=300, seed=1)
    assert len({p.prompt for p in task.problems}) == len({p.id for p in task.problems}) == 300
    for p in (*task.problems, *task.exemplars):
        assert len(p.prompt) <= 80 and len(p.reference) <= task.max_new_tokens - 5 and len(p.meta["tests"]) == 3
        assert set(p.prompt + p.reference) <= set(symbols) and not re.search(r"\bx\b|K", p.reference)
    assert np.median([len(p.prompt) for p in task.problems]) < 40
    assert set(task.grade([(p, p.reference) for p in task.problems])) == {"pass"}
    assert {v.status for v in task.verdicts([(p, p.reference) for p in task.problems[:100]], challenge=True)} == {
        "pass"
    }
    rng = np.random.default_rng(0)
    assert set(task.grade([(p, task.corrupt(p, rng)) for p in task.problems[:100]])) <= {"fail", "timeout"}


def test_mini_levels_are_counts_of_operations_in_the_shares_asked_for():
    task = load_task("mbpp_mini", "test", n=60, levels={2: 2, 4: 1})
    assert [p.meta["level"] for p in task.problems].count(4) == 20
    assert all(p.meta["level"] == p.prompt.count(",") + 1 == p.reference.count("\n") - 1 for p in task.problems)
    assert load_task("mbpp_mini", "test", n=30, levels={2: 2, 4: 1}).problems == task.problems[:30]
    with pytest.raises(ValueError, match="operations from 1 to 5"):
        load_task("mbpp_mini", levels=(6,))
    with pytest.raises(ValueError, match="lower n or add a level"):
        load_task("mbpp_mini", "test", n=500, levels=(1,))


def test_mini_splits_and_pretraining_are_disjoint():
    parts = [load_task("mbpp_mini", s, n=400, seed=i) for i, s in enumerate(("train", "validation", "test"))]
    prompts = [{p.prompt for p in part.problems} for part in parts] + [{p.prompt for p in parts[0].exemplars}]
    assert sum(map(len, prompts)) == len(set().union(*prompts))
    pairs = pretraining_pairs(3000, 0)
    assert not {prompt for prompt, _ in pairs} & (prompts[1] | prompts[2] | prompts[3])
    known = {p.prompt: p.reference for p in parts[0].problems}
    assert all(known.get(prompt, response) == response for prompt, response in pairs)
    assert pairs == pretraining_pairs(3000, 0) != pretraining_pairs(3000, 1)


# -- the real file -----------------------------------------------------------------------------------------


def test_a_missing_or_altered_file_is_one_sentence_that_says_both_ways(monkeypatch, tmp_path):
    monkeypatch.setenv("BOOSTLIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="cannot be read.*BOOSTLIB_DATA.*hub"):
        load_task("mbpp")
    (tmp_path / "mbpp").mkdir()
    (tmp_path / "mbpp" / "mbpp.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="not the official file.*BOOSTLIB_DATA.*hub") as caught:
        load_task("mbpp")
    assert "\n" not in str(caught.value)


def _row(i):
    return {"task_id": i, "text": f"Add {i}.", "code": f"def f(x):\r\n  return x+{i}\r\n", "test_setup_code": "",
            "test_list": [f"assert f(1) == {i + 1}"] * 3, "challenge_test_list": []}  # fmt: skip


def test_the_hub_is_asked_at_a_pinned_revision(monkeypatch):
    asked = {}

    def load_dataset(*args, **kwargs):
        asked.update(kwargs, args=args)
        return {"prompt": [_row(i) for i in range(1, 11)], "rest": [_row(i) for i in range(11, 975)]}

    monkeypatch.delenv("BOOSTLIB_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    task = load_task("mbpp", "validation")
    assert asked["args"] == ("google-research-datasets/mbpp", "full") and len(asked["revision"]) == 40
    assert len(task.problems) == 90 and "\r" not in task.problems[0].reference
    assert task.problems[0].prompt == (
        "You are an expert Python programmer, and here is your task: Add 511. Your code should pass these tests:\n\n"
        "assert f(1) == 512\nassert f(1) == 512\nassert f(1) == 512\n[BEGIN]\n"
    )
    assert task.prefix(3).count("[BEGIN]\ndef f(x):\n  return x+") == task.prefix(3).count("\n[DONE]\n\n") == 3
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=lambda *a, **k: {"all": [_row(1)]}))
    with pytest.raises(ValueError, match="the hub gave 1 rows, not 974.*BOOSTLIB_DATA"):
        load_task("mbpp")


def test_importing_the_task_loads_no_heavy_package():
    code = "import sys, boostlib.tasks.mbpp; print([m for m in ('torch', 'datasets', 'pandas') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def everything():
    with open(os.path.join(os.environ["BOOSTLIB_DATA"], "mbpp", "mbpp.jsonl")) as f:
        return [json.loads(line) for line in f]


@real
def test_all_974_references_pass_and_all_with_a_mutated_return_value_fail():
    rows = everything()
    right, wrong = [], []
    for row in rows:
        tests = (*row["test_list"], *row["challenge_test_list"])
        right.append((row["code"], tests, row["test_setup_code"], 60.0))
        names = re.findall(r"^def (\w+)", row["code"], re.M)
        wrapped = "".join(
            f"\ndef _mutated(g):\n    return lambda *a, **k: ('mutated', g(*a, **k))\n{n} = _mutated({n})\n"
            for n in names
        )
        wrong += [
            (row["code"].replace("\r", "") + wrapped, (t,), row["test_setup_code"], 2.0) for t in row["test_list"][:1]
        ]
    found = sandbox.check_many(right, workers=2)
    assert len(found) == 974 and [r["task_id"] for r, v in zip(rows, found, strict=True) if v.status != "pass"] == []
    found = sandbox.check_many(wrong, workers=2)
    assert [r["task_id"] for r, v in zip(rows, found, strict=True) if v.status not in ("fail", "timeout")] == []


@real
def test_the_paper_splits_and_a_corrupted_reference_of_each_kind():
    sizes = {"train": 374, "validation": 90, "test": 500}
    parts = {s: load_task("mbpp", s) for s in sizes}
    assert {s: len(t.problems) for s, t in parts.items()} == sizes
    assert parts["test"].problems[0].id == "mbpp/11" and parts["train"].problems[-1].id == "mbpp/974"
    assert [e.id for e in parts["train"].exemplars] == ["mbpp/2", "mbpp/3", "mbpp/4"]
    task = load_task("mbpp", "validation", n=40)
    rng = np.random.default_rng(0)
    wrong = [(p, task.corrupt(p, rng)) for p in task.problems]
    assert set(task.grade(wrong)) <= {"fail", "timeout"} and sum('return "?"' in w for _, w in wrong) < 10
    assert set(task.grade([(p, f"```python\n{p.reference}\n```") for p in task.problems])) == {"pass"}
