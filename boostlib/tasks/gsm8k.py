"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): the real files, the paper's split, an exact grader.

The rows come from the folder BOOSTLIB_DATA (gsm8k/train.jsonl, test.jsonl, checked by SHA-256) or, if that is
not set, from the hub at a pinned revision (checked by row count).

Not covered: re-annotated versions (GSM8K-Platinum), other prompt formats.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boostlib.tasks import Problem, Task, chains, subsample
from boostlib.tasks.answers import extract_answer, is_right, last_number

__all__ = ["Worked", "extract_answer", "is_right", "last_number", "load"]

REVISION = "e53f048856ff4f594e959d75785d2c2d37b678ee"  # of openai/gsm8k on the hub
ROWS = {"train": 7473, "test": 1319}
SHA256 = {
    "train": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
    "test": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
}
TRAIN = 7000
EXEMPLARS = 8
STOP = ("\n\n", "\nQuestion:")
_ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
_BOTH_WAYS = (
    "Either set BOOSTLIB_DATA to a folder with gsm8k/train.jsonl and gsm8k/test.jsonl, the files of "
    "github.com/openai/grade-school-math, or unset it and have the hub's openai/gsm8k in reach or in its cache."
)


@dataclass(frozen=True)
class Worked(Task):
    """Worked solutions that end in '#### N'. ``hints`` maps a problem's id to the expressions behind the
    results in its reference, by their place (see `chains.read_steps`)."""

    hints: Mapping[str, Mapping[tuple[int, int], str]] = field(default_factory=dict, hash=False, repr=False)

    def grade_one(self, problem: Problem, response: str) -> str:
        return "pass" if is_right(problem.answer, response) else "fail"

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        steps = chains.read_steps(problem.reference, self.hints.get(problem.id))
        return chains.corrupt(problem.reference, steps, problem.answer, rng)


def load(split: str, n: int | None, seed: int) -> Task:
    """7,000 problems in "train"; of the other 473 rows of the train file, 8 are the few-shot exemplars and 465
    "validation"; "test" is the 1,319 of the test file. The rows held out are fixed, whatever the seed."""
    file = "test" if split == "test" else "train"
    pool = [_problem(f"gsm8k/{file}/{i}", row) for i, row in enumerate(_rows(file))]
    train = pool if file == "train" else [_problem(f"gsm8k/train/{i}", row) for i, row in enumerate(_rows("train"))]
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
        result = chains.NUMBER.match(solution, at)  # what is written there may have commas, or no result
        if result:
            hints[length, length + len(result[0])] = match[1]
    reference = "".join(pieces) + solution[at:]
    answer = extract_answer(reference)
    steps = reference.count("\n")
    prompt = f"Question: {row['question'].strip()}\nAnswer:\n"
    return Problem(id, prompt, reference, format(answer, "f"), {"steps": steps}), hints


def _rows(file: str) -> list[dict[str, str]]:
    folder = os.environ.get("BOOSTLIB_DATA")
    if not folder:
        return _hub_rows(file)
    path = Path(folder) / "gsm8k" / f"{file}.jsonl"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"GSM8K: {path} cannot be read ({error.strerror}). {_BOTH_WAYS}") from None
    if hashlib.sha256(content).hexdigest() != SHA256[file]:
        raise ValueError(f"GSM8K: {path} is not the official file (its SHA-256 differs). {_BOTH_WAYS}")
    return [json.loads(line) for line in content.decode().splitlines()]


def _hub_rows(file: str) -> list[dict[str, str]]:
    from datasets import load_dataset

    try:
        rows = list(load_dataset("openai/gsm8k", "main", split=file, revision=REVISION))
    except Exception as error:  # of many kinds: no network, no such revision, a broken cache
        raise ValueError(
            f"GSM8K: BOOSTLIB_DATA is not set and the hub gave nothing ({type(error).__name__}). {_BOTH_WAYS}"
        ) from error
    if len(rows) != ROWS[file]:
        raise ValueError(f"GSM8K: the hub gave {len(rows):,} {file} rows, not {ROWS[file]:,}. {_BOTH_WAYS}")
    return rows
