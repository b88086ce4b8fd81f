"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): the real files, the paper's split, an exact grader. Not covered:
re-annotated versions (GSM8K-Platinum)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from boostlib.tasks import Problem, Task, hashed, subsample
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
STOP = ("\n\n", "\nQuestion:")
_ANNOTATION = re.compile(r"<<([^<>=]*)=[^<>]*>>")


@dataclass(frozen=True)
class Worked(Task):
    """Worked solutions that end in '#### N'. ``hints``: by problem id, those of `solutions.read_steps`."""

    hints: Mapping[str, Mapping[tuple[int, int], str]] = field(default_factory=dict, hash=False, repr=False)

    def grade_one(self, problem: Problem, response: str) -> str:
        return "pass" if is_right(problem.answer, response) else "fail"

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        steps = read_steps(problem.reference, self.hints.get(problem.id))
        return corrupt_solution(problem.reference, steps, problem.answer, rng)


def load(split: str, n: int | None, seed: int) -> Task:
    """7,000 problems in "train"; of the other 473 rows of the train file, 8 are the few-shot exemplars and 465
    "validation"; "test" is the 1,319 of the test file. The rows held out are fixed, whatever the seed."""
    train = _read("train")
    held_out = sorted(train, key=lambda item: hashed(f"held out/{item[0].id}"))[TRAIN:]
    # A prefix is read with every prompt: the exemplars are short ones, and show their arithmetic.
    exemplars = tuple(p for p, hints in held_out if hints and len(p.prompt + p.reference) < 450)[:8]
    out, shown = {p.id for p, _ in held_out}, {p.id for p in exemplars}
    kept = {p.id for p, _ in train} - out if split == "train" else out - shown
    pool = _read("test") if split == "test" else [item for item in train if item[0].id in kept]
    problems = subsample([p for p, _ in pool], n, seed, f"gsm8k {split}")
    return Worked("gsm8k", split, problems, exemplars, STOP, 256, hints={p.id: hints for p, hints in pool})


def worked(id: str, question: str, solution: str, **meta: object) -> Problem:
    answer = format(extract_answer(solution), "f")
    return Problem(id, f"Question: {question.strip()}\nAnswer:\n", solution, answer, meta)


def tidy(solution: str) -> str:
    return re.sub(r"\n{2,}", "\n", solution.strip())  # a blank line ends a sample


def _read(file: str) -> list[tuple[Problem, dict[tuple[int, int], str]]]:
    """Problems, calculator annotations taken out; each with the expressions these held, by their results' places."""
    found = []
    for i, row in enumerate(FILES.rows(file)):
        solution, hints, taken = tidy(row["answer"]), {}, 0
        for match in _ANNOTATION.finditer(solution):
            taken += len(match[0])
            if result := NUMBER.match(solution, match.end()):  # what is written there may have commas, or no result
                hints[result.start() - taken, result.end() - taken] = match[1]
        text = _ANNOTATION.sub("", solution)
        found.append((worked(f"gsm8k/{file}/{i}", row["question"], text, steps=text.count("\n")), hints))
    return found
