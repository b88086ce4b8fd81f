"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): the real files, the paper's split, an exact grader.

Not covered: re-annotated versions (GSM8K-Platinum), other prompt formats.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from boostlib.tasks import Problem, Task, subsample
from boostlib.tasks.answers import extract_answer, is_right
from boostlib.tasks.official import Official
from boostlib.tasks.solutions import NUMBER, corrupt_solution, read_steps

FILES = Official(
    "GSM8K",
    home="github.com/openai/grade-school-math",
    repository="openai/gsm8k",
    config="main",
    revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
    files={
        "train": ("gsm8k/train.jsonl", "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465", 7473),
        "test": ("gsm8k/test.jsonl", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14", 1319),
    },
)
TRAIN = 7000
EXEMPLARS = 8
STOP = ("\n\n", "\nQuestion:")
_ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")


@dataclass(frozen=True)
class Worked(Task):
    """Worked solutions that end in '#### N'. ``hints`` maps a problem's id to the expressions behind the
    results in its reference, by their place (see `solutions.read_steps`)."""

    hints: Mapping[str, Mapping[tuple[int, int], str]] = field(default_factory=dict, hash=False, repr=False)

    def grade_one(self, problem: Problem, response: str) -> str:
        return "pass" if is_right(problem.answer, response) else "fail"

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        steps = read_steps(problem.reference, self.hints.get(problem.id))
        return corrupt_solution(problem.reference, steps, problem.answer, rng)


def load(split: str, n: int | None, seed: int) -> Task:
    """7,000 problems in "train"; of the other 473 rows of the train file, 8 are the few-shot exemplars and 465
    "validation"; "test" is the 1,319 of the test file. The rows held out are fixed, whatever the seed."""
    file = "test" if split == "test" else "train"
    pool = [_problem(f"gsm8k/{file}/{i}", row) for i, row in enumerate(FILES.rows(file))]
    train = (
        pool if file == "train" else [_problem(f"gsm8k/train/{i}", row) for i, row in enumerate(FILES.rows("train"))]
    )
    order = sorted(train, key=lambda item: hashlib.sha256(f"held out/{item[0].id}".encode()).digest())
    # A prefix is read with every prompt: the exemplars are short ones, and show their arithmetic.
    fit = [p for p, hints in order[TRAIN:] if hints and len(p.prompt + p.reference) < 450]
    exemplars = tuple(fit[:EXEMPLARS])
    if split != "test":
        held_out = {p.id for p, _ in order[TRAIN:]}
        shown = {p.id for p in exemplars}
        keep = (lambda p: p.id not in held_out) if split == "train" else (lambda p: p.id in held_out - shown)
        pool = [(p, hints) for p, hints in pool if keep(p)]
    problems = subsample([p for p, _ in pool], n, seed, f"gsm8k {split}")
    return Worked("gsm8k", split, problems, exemplars, STOP, 256, hints={p.id: hints for p, hints in pool})


def _problem(id: str, row: Mapping[str, str]) -> tuple[Problem, dict[tuple[int, int], str]]:
    """The problem, its calculator annotations taken out, and the expressions they held by where their results
    stand in the reference."""
    solution = re.sub(r"\n{2,}", "\n", row["answer"].strip())  # a blank line ends a sample
    pieces, hints, at, length = [], {}, 0, 0
    for match in _ANNOTATION.finditer(solution):
        pieces.append(solution[at : match.start()])
        length += len(pieces[-1])
        at = match.end()
        result = NUMBER.match(solution, at)  # what is written there may have commas, or no result
        if result:
            hints[length, length + len(result[0])] = match[1]
    reference = "".join(pieces) + solution[at:]
    answer = extract_answer(reference)
    steps = reference.count("\n")
    prompt = f"Question: {row['question'].strip()}\nAnswer:\n"
    return Problem(id, prompt, reference, format(answer, "f"), {"steps": steps}), hints
