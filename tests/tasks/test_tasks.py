"""Tasks: loading, splits, references and corrupted references. No text of a data set stands here."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from boostlib.tasks import TASKS, Problem, Task, load_task, solutions
from boostlib.tasks.arithmetic import pretraining_pairs

EMBEDDED = ["arithmetic", "gsm_symbolic"]
real = pytest.param(
    "gsm8k",
    marks=pytest.mark.skipif(
        not os.environ.get("BOOSTLIB_DATA"), reason="BOOSTLIB_DATA is not set: no real GSM8K files"
    ),
)
THREE = [*EMBEDDED, real]


# -- loading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "gsm9k"}, "Unknown task 'gsm9k'; known: arithmetic, coins, gsm8k,"),
        ({"name": "arithmetic", "split": "dev"}, "Unknown split 'dev' of arithmetic; known: train, validation, test"),
        ({"name": "arithmetic", "depth": 3}, "Unknown option 'depth' of arithmetic; known: levels"),
        ({"name": "gsm_symbolic", "depth": 3}, "Unknown option 'depth' of gsm_symbolic; known: none"),
        ({"name": "arithmetic", "n": 0}, "at least 1"),
        ({"name": "arithmetic", "n": 2.5}, "whole number"),
        ({"name": "arithmetic", "n": True}, "whole number"),
        ({"name": "arithmetic", "levels": (7,)}, "terms from 2 to 6"),
        ({"name": "arithmetic", "levels": 3}, "terms from 2 to 6"),
        ({"name": "arithmetic", "levels": {2: -1}}, "terms from 2 to 6"),
        ({"name": "arithmetic", "split": "test", "n": 2100, "levels": [2]}, "1,966 problems of two terms in test"),
    ],
)
def test_bad_input_is_one_sentence_that_says_what_is_known(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_task(**arguments)
    assert "\n" not in str(caught.value)


def test_importing_tasks_loads_no_heavy_package():
    code = "import sys, boostlib.tasks; print([m for m in ('torch', 'datasets', 'reasoning_gym') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_task_of_ones_own_is_one_entry(monkeypatch):
    def load(split, n, seed, *, word="hello"):
        return Task("echo", split, (Problem("0", "Say: ", word, word),) * (n or 1))

    monkeypatch.setitem(TASKS, "echo", load)
    assert load_task("echo", n=2, word="bye").problems[1].answer == "bye"
    with pytest.raises(ValueError, match="known: word"):
        load_task("echo", words="bye")


@pytest.mark.parametrize("name", THREE)
def test_a_smaller_n_is_a_prefix_of_a_larger_one(name):
    big, small = load_task(name, "test", n=96, seed=3), load_task(name, "test", n=40, seed=3)
    assert small.problems == big.problems[:40]
    assert len({p.id for p in big.problems}) == len({p.prompt for p in big.problems}) == 96


@pytest.mark.parametrize("name", THREE)
def test_problems_depend_on_the_seed_alone(name):
    one, again, other = (load_task(name, "train", n=50, seed=s) for s in (1, 1, 2))
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    assert one.exemplars == other.exemplars


@pytest.mark.parametrize(
    "name, start",
    [("arithmetic", "6f49a62f89f5c8c5"), ("gsm_symbolic", "d2992850f0518440")],
)
def test_problems_are_the_same_on_every_machine(name, start):
    assert load_task(name, "test", n=60, seed=0).fingerprint().startswith(start)


def test_fingerprint_tells_any_change_of_content():
    base = Problem("0", "1+1=", "1+1=2#2", "2", {"level": 2})
    prints = {
        Task("t", "train", (p,)).fingerprint()
        for p in (
            base,
            Problem("0", "1+1=", "1+1=2#2", "2", {"level": 3}),
            Problem("0", "1+1=", "#2", "2", {"level": 2}),
        )
    }
    assert len(prints) == 3


# -- splits and prompts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THREE)
def test_splits_and_exemplars_share_no_prompt(name):
    n = {"train": 600, "validation": 300, "test": 300}
    prompts = [{p.prompt for p in load_task(name, split, n=n[split], seed=7).problems} for split in n]
    prompts.append({p.prompt for p in load_task(name, "train", n=1).exemplars})
    assert sum(map(len, prompts)) == len(set().union(*prompts))


@pytest.mark.parametrize("name", THREE)
def test_references_are_right_and_no_stop_string_cuts_them(name):
    task = load_task(name, "train", n=400, seed=5)
    for problem in (*task.problems, *task.exemplars):
        assert task.quality(problem, problem.reference)
        assert not any(stop in problem.reference for stop in task.stop)
        assert problem.reference == problem.reference.strip() and "<<" not in problem.reference


@pytest.mark.parametrize("name", THREE)
def test_prefix_is_the_exemplars_as_prompt_and_response(name):
    task = load_task(name, "validation", n=2)
    assert task.prefix(0) == ""
    shown = task.prefix(3)
    assert all(e.prompt + e.reference in shown for e in task.exemplars[:3])
    assert task.exemplars[3].prompt not in shown
    assert shown.endswith(task.stop[0])  # so a model that goes on as the examples do is stopped
    with pytest.raises(ValueError, match="shots must be between 0 and 8"):
        task.prefix(9)


def test_grade_keeps_the_order_and_reports_progress():
    task = load_task("arithmetic", "test", n=3)
    counted = []
    pairs = [(p, r) for p in task.problems for r in (p.reference, "#x")]
    assert task.grade(pairs, progress=counted.append) == ["pass", "fail"] * 3
    assert sum(counted) == 6


# -- arithmetic --------------------------------------------------------------------------------------------


def test_levels_come_in_the_shares_asked_for():
    task = load_task("arithmetic", "train", n=90, levels={"2": 2, "6": 1})
    levels = [p.meta["level"] for p in task.problems]
    assert levels.count(2) == 60 and levels.count(6) == 30
    assert levels[:30].count(2) == 20
    assert all(len(re.findall(r"\d+", p.prompt)) == p.meta["level"] for p in task.problems)


def test_worked_steps_are_right_and_lead_to_the_answer():
    for problem in load_task("arithmetic", "test", n=300, levels=(2, 3, 4, 5, 6)).problems:
        terms = [int(t) for t in re.findall(r"[+-]?\d+", problem.prompt)]
        steps, answer = problem.reference.split("#")
        total = terms[0]
        for step, term in zip(steps.split(";"), terms[1:], strict=True):
            assert step == f"{total}{term:+d}={total + term}"
            total += term
        assert int(answer) == int(problem.answer) == total == sum(terms)


@pytest.mark.parametrize("levels", [(2,), (2, 3, 4, 5, 6)])
def test_responses_fit_the_room_and_the_alphabet(levels):
    task = load_task("arithmetic", "train", n=300, levels=levels)
    rng = np.random.default_rng(0)
    for p in task.problems:
        for text in (p.reference, task.corrupt(p, rng)):
            assert len(text) <= task.max_new_tokens and set(p.prompt + text) <= set("0123456789+-=;#")


def test_pretraining_pairs_are_right_easy_and_outside_validation_and_test():
    pairs = pretraining_pairs(4000, seed=0)
    assert pairs == pretraining_pairs(4000, seed=0) != pretraining_pairs(4000, seed=1)
    terms = [len(re.findall(r"\d+", prompt)) for prompt, _ in pairs]
    assert set(terms) == {2, 3} and 0.88 < terms.count(2) / 4000 < 0.92
    prompts = {prompt for prompt, _ in pairs}
    for split in ("validation", "test"):
        held_out = load_task("arithmetic", split, n=1900, levels=(2,))  # nearly all there are
        assert not prompts & {p.prompt for p in held_out.problems}
    for prompt, response in pairs[:200]:
        assert int(response.split("#")[1]) == sum(int(t) for t in re.findall(r"[+-]?\d+", prompt))


# -- corrupted references ----------------------------------------------------------------------------------

_EQUATION = re.compile(r"(?<![\w.)(+*/-])(-?[\d.,]+(?: ?[-+*/x] ?\$?[\d.,]+)+) ?= ?\$?(-?[\d,]*\.?\d+)")


def wrong_equations(text):
    """How many plain equations in the text are wrong, by an evaluator of its own."""
    count = 0
    for left, right in _EQUATION.findall(text):
        left = re.sub(r"[$, ]", "", left).replace("x", "*")
        total = Fraction(0)
        for term in re.findall(r"[+-]?[\d.]+(?:[*/][\d.]+)*", left):
            numbers = re.findall(r"([*/]?)([+-]?[\d.]+)", term)
            value = Fraction(numbers[0][1])
            for operator, number in numbers[1:]:
                value = value * Fraction(number) if operator == "*" else value / Fraction(number)
            total += value
        right = right.replace(",", "")
        count += round(total, len(right.partition(".")[2])) != Fraction(right)
    return count


def test_wrong_equations_counts():
    assert wrong_equations("2+3=5;5-8=-3;10 * $2 - 4 = $16, 1/3 = 0.33") == 0
    assert wrong_equations("2+3=6;6-8=-2 and 2 x 3 + 1 = 8") == 2


@pytest.mark.parametrize("name", THREE)
def test_a_corrupted_reference_is_wrong_but_plausible(name):
    task = load_task(name, "train", n=200, seed=11)
    rng = np.random.default_rng(0)
    slips = 0
    for problem in task.problems:
        wrong = task.corrupt(problem, rng)
        assert not task.quality(problem, wrong)
        assert wrong != problem.reference
        assert wrong.count("\n") == problem.reference.count("\n")
        assert wrong.count(";") == problem.reference.count(";")
        assert "#" in wrong and not any(stop in wrong for stop in task.stop)
        more = wrong_equations(wrong) - wrong_equations(problem.reference)
        assert more <= 1, (problem.reference, wrong)
        slips += more
    assert 20 < slips < 130  # some are slips in a sum, others a wrong number or operator in a sum done right


@pytest.mark.parametrize("name", THREE)
def test_corrupted_references_vary_and_depend_on_the_generator_alone(name):
    task = load_task(name, "train", n=20, seed=1)
    for problem in task.problems:
        drawn = [task.corrupt(problem, np.random.default_rng(i)) for i in range(30)]
        assert len(set(drawn)) >= 4
        assert drawn[:5] == [task.corrupt(problem, np.random.default_rng(i)) for i in range(5)]


def test_a_change_is_kept_through_the_chain():
    text = "Ana bakes 3 * 4 = 12 rolls.\nShe keeps 12 - 5 = 7 of these 12 rolls.\n#### 7"
    steps = solutions.read_steps(text)
    assert len(steps) == 2
    drawn = {solutions.corrupt_solution(text, steps, "7", np.random.default_rng(i)) for i in range(300)}
    assert "Ana bakes 3 * 4 = 11 rolls.\nShe keeps 11 - 5 = 6 of these 11 rolls.\n#### 6" in drawn  # a slip
    assert "Ana bakes 3 * 3 = 9 rolls.\nShe keeps 9 - 5 = 4 of these 9 rolls.\n#### 4" in drawn  # a number
    assert "Ana bakes 3 + 4 = 7 rolls.\nShe keeps 7 - 5 = 2 of these 7 rolls.\n#### 2" in drawn  # an operator
    for wrong in drawn:
        (made,), (rest,) = re.findall(r"bakes .* = (\d+)", wrong), re.findall(r"of these (\d+)", wrong)
        assert made == rest and not wrong.endswith("#### 7")


def test_what_was_announced_before_the_sum_changes_too():
    text = "He needs 1,200 bricks because 40 x 30 = 1,200\n#### 1200"
    for i in range(50):
        wrong = solutions.corrupt_solution(text, solutions.read_steps(text), "1200", np.random.default_rng(i))
        announced, result, answer = re.fullmatch(
            r"He needs ([\d,.]+) bricks because .* = ([\d,.]+)\n#### ([\d,.]+)", wrong
        ).groups()
        assert announced == result and announced.replace(",", "") == answer.replace(",", "") != "1200"


@pytest.mark.parametrize(
    "text, steps",
    [
        ("A box holds 2(3+4) = 14 pens.", 1),
        ("That is 1 / 4 = 25% of them, and 20% * 50 = 10.", 2),
        ("   - So 3 pots x $2/pot = $6", 1),
        ("Then 5 + T = 9 + T = 12.", 0),
        ("x = 5", 0),
        ("10 / 3 = 3.33", 1),
        ("10 / 3 = 3.34", 0),
    ],
)
def test_steps_are_the_equations_that_hold(text, steps):
    assert len(solutions.read_steps(text)) == steps


def test_a_solution_with_no_step_gets_another_answer():
    text = "Half of them are red, so 9 are.\n#### 9"
    wrong = solutions.corrupt_solution(text, [], "9", np.random.default_rng(0))
    stated, answer = re.fullmatch(r"Half of them are red, so (\d+) are.\n#### (\d+)", wrong).groups()
    assert stated == answer != "9"


# -- gsm_symbolic ------------------------------------------------------------------------------------------


def test_test_split_alternates_between_templates_seen_and_held_out():
    test = load_task("gsm_symbolic", "test", n=200)
    seen = [p.meta["seen"] for p in test.problems]
    assert seen == [True, False] * 100
    held_out = {p.meta["template"] for p in test.problems if not p.meta["seen"]}
    assert len(held_out) == 15
    for split in ("train", "validation"):
        problems = load_task("gsm_symbolic", split, n=210).problems
        templates = {p.meta["template"] for p in problems}
        assert len(templates) == 70 and not templates & held_out
        assert all(p.meta["seen"] for p in problems)


def test_gsm_symbolic_leaves_the_global_generators_alone():
    code = """if True:
        import random, numpy
        from boostlib.tasks import load_task
        before = random.getstate(), repr(numpy.random.get_state())
        load_task("gsm_symbolic", n=20)
        print(before == (random.getstate(), repr(numpy.random.get_state())))"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "True"


# -- gsm8k -------------------------------------------------------------------------------------------------


def own_rows(n):
    """Rows in GSM8K's format, of our own making."""
    return [
        {
            "question": f"Ana has {i + 5} boxes of 6 pens and gives away 4 pens. How many pens are left?",
            "answer": f"She has {i + 5}*6=<<{i + 5}*6={(i + 5) * 6}>>{(i + 5) * 6} pens.\n\n"
            f"So {(i + 5) * 6}-4=<<{(i + 5) * 6}-4={(i + 5) * 6 - 4}>>{(i + 5) * 6 - 4} are left.\n"
            f"#### {(i + 5) * 6 - 4:,}",
        }
        for i in range(n)
    ]


@pytest.fixture
def hub(monkeypatch):
    """A hub with 240 train and 40 test rows of our own; its answers can be replaced."""
    from boostlib.tasks import gsm8k

    hub = types.SimpleNamespace(rows={"train": own_rows(240), "test": own_rows(280)[240:]}, asked=[])

    def load_dataset(path, name, *, split, revision):
        hub.asked.append((path, name, revision))
        if isinstance(hub.rows, Exception):
            raise hub.rows
        return hub.rows[split]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("BOOSTLIB_DATA", raising=False)
    files = {"train": ("train.jsonl", "", 240), "test": ("test.jsonl", "", 40)}
    monkeypatch.setattr(gsm8k, "FILES", dataclasses.replace(gsm8k.FILES, files=files))
    monkeypatch.setattr(gsm8k, "TRAIN", 200)
    return hub


def test_gsm8k_comes_from_the_hub_at_a_pinned_revision(hub):
    sizes = [len(load_task("gsm8k", split).problems) for split in ("train", "validation", "test")]
    assert sizes == [200, 32, 40]
    assert {(path, name, len(revision)) for path, name, revision in hub.asked} == {("openai/gsm8k", "main", 40)}


def test_gsm8k_references_lose_annotations_and_blank_lines(hub):
    problem = load_task("gsm8k", "test").problems[0]
    assert problem.reference == "She has 245*6=1470 pens.\nSo 1470-4=1466 are left.\n#### 1,466"
    assert problem.answer == "1466" and problem.prompt.startswith("Question: Ana") and problem.prompt.endswith(":\n")


@pytest.mark.parametrize("rows", [ConnectionError("no network"), {"train": own_rows(239), "test": own_rows(40)}])
def test_a_hub_that_fails_is_one_sentence_with_both_ways(hub, rows):
    hub.rows = rows
    with pytest.raises(ValueError, match="BOOSTLIB_DATA.*openai/grade-school-math.*hub's openai/gsm8k") as caught:
        load_task("gsm8k", "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content, message", [(None, "cannot be read"), (b'{"question"', "not the official file")])
def test_a_missing_or_altered_file_is_one_sentence_with_both_ways(monkeypatch, tmp_path, content, message):
    monkeypatch.setenv("BOOSTLIB_DATA", str(tmp_path))
    if content:
        (tmp_path / "gsm8k").mkdir()
        (tmp_path / "gsm8k" / "train.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=f"train.jsonl.*{message}.*Either set BOOSTLIB_DATA.*hub"):
        load_task("gsm8k", "train")


@pytest.mark.parametrize("name", [real])
def test_gsm8k_has_the_papers_split(name):
    train, validation, test = (load_task(name, split) for split in ("train", "validation", "test"))
    assert [len(t.problems) for t in (train, validation, test)] == [7000, 465, 1319]
    assert len({p.id for t in (train, validation, test) for p in (*t.problems, *t.exemplars)}) == 7473 + 1319
    with pytest.raises(ValueError, match="1,319 problems, and 1,320 were asked for"):
        load_task(name, "test", n=1320)


@pytest.mark.parametrize("name", [real])
def test_every_gsm8k_reference_is_right_by_the_number_that_ends_it(name):
    raw = Path(os.environ["BOOSTLIB_DATA"]) / "gsm8k" / "test.jsonl"
    finals = [json.loads(line)["answer"].rsplit("#### ", 1)[1] for line in raw.read_text().splitlines()]
    task = load_task(name, "test")
    for problem, final in zip(task.problems, finals, strict=True):
        assert Fraction(problem.answer) == Fraction(final.replace(",", ""))
        assert task.quality(problem, problem.reference) and task.quality(problem, f"#### {final}")
        assert not task.quality(problem, f"#### {final}1")


@pytest.mark.parametrize("name", [real])
def test_few_gsm8k_solutions_change_in_the_answer_alone(name, monkeypatch):
    task = load_task(name, "train", n=400)
    fallbacks = []
    other_answer = solutions._other_answer
    monkeypatch.setattr(solutions, "_other_answer", lambda *a: fallbacks.append(1) or other_answer(*a))
    rng = np.random.default_rng(0)
    for problem in task.problems:
        task.corrupt(problem, rng)
    assert len(fallbacks) < 30


def test_smaller_numbers_make_an_easier_arithmetic():
    task = load_task("arithmetic", "test", n=100, largest=12, levels=(3, 4))
    assert all(1 <= int(t) <= 12 for p in task.problems for t in re.findall(r"\d+", p.prompt))
    with pytest.raises(ValueError, match="largest of arithmetic must be a whole number from 9 to 99, not 500"):
        load_task("arithmetic", "test", n=10, largest=500)
    with pytest.raises(ValueError, match="arithmetic has 276 problems of 3 terms in validation"):
        load_task("arithmetic", "validation", n=300, largest=9, levels=(3,))
