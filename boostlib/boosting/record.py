"""What a loop leaves on disk: one table a step, made once, sealed, and notes of how long it took.

Not covered: what is in the tables (loop), how a file is written (runs).
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from boostlib import runs
from boostlib.learners import Response
from boostlib.tasks import Problem, Task

TABLES = {  # <name>.jsonl of a round: its columns; ids: the tokens as sampled, null where there are none
    "test": ["id", "response", "tokens", "finished", "status"],
    "samples": ["id", "sample", "response", "tokens", "finished", "ids"],  # k rows a prompt
    "verdicts": ["id", "sample", "status", "accepted"],  # a row for each of samples
    "labels": ["id", "sample", "response", "status", "accepted", "ids"],
    "examples": ["id", "source", "weight", "response", "ids"],  # source: S+ or D
}


@dataclass
class Record:
    """The files of one arm and one seed. ``folder`` is its own, ``base`` is shared by all arms that sample f_0 alike."""

    folder: Path
    base: Path
    seed: int
    rounds: int

    SHARED = {"test": "evaluate", "samples": "sample"}  # tables of f_0 that arms share, and the steps that make them

    def at(self, t: int) -> Path:
        return self.folder / f"round-{t}"

    def mark(self, t: int) -> Path:
        """The file that ends round t."""
        return self.at(t) / ("final.json" if t == self.rounds else "round.json")

    def path(self, t: int, name: str) -> Path:
        """Where a table of round t lies: what f_0 answers is shared by all arms, and its test answers by all seeds."""
        shared = {"test": self.base, "samples": self.base / f"seed-{self.seed}"} if t == 0 else {}
        return shared.get(name, self.at(t)) / f"{name}.jsonl"

    def finished(self) -> int:
        """How many of its rounds are on disk."""
        return sum(self.mark(t).exists() for t in range(self.rounds + 1))

    def read(self, t: int, name: str) -> pd.DataFrame:
        table = pd.DataFrame(runs.read_rows(self.path(t, name)), columns=TABLES[name], dtype=object)
        return table.assign(accepted=table["accepted"].astype(bool)) if "accepted" in table else table

    def once(self, t: int, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table of round t, made where it is missing; what is used is always what stands on disk."""
        if not self.path(t, name).exists():
            start = time.perf_counter()
            rows = make()[TABLES[name]].itertuples(index=False, name=None)
            runs.write_rows(self.path(t, name), (dict(zip(TABLES[name], row, strict=True)) for row in rows))
            self.clock(t, name, start)
        return self.read(t, name)

    def clock(self, t: int, what: str, start: float) -> None:
        """Wall time of a step: a note beside the artefacts, no part of them; a full disk stops at the next artefact."""
        took = {"round": t, "what": what, "seconds": round(time.perf_counter() - start, 3)}
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "times.jsonl", "a") as file:
                file.write(json.dumps(took) + "\n")

    def seconds(self, t: int) -> float:
        """What the steps of round t took, over all processes that worked on it; a torn or damaged note is skipped."""
        notes, line = self.folder / "times.jsonl", rf'^{{"round": {t}, "what": "\w+", "seconds": (-?\d+\.\d+)}}$'
        text = notes.read_text(errors="replace") if notes.exists() else ""
        return sum(map(float, re.findall(line, text, re.MULTILINE)), 0.0)


def tabled(problems: Sequence[Problem], drawn: Sequence[Sequence[Response]]) -> pd.DataFrame:
    """A row a response, in the order of the problems."""
    numbered = ((p.id, j, r) for p, some in zip(problems, drawn, strict=True) for j, r in enumerate(some))
    rows = [(i, j, r.text, r.tokens, r.finished, r.ids) for i, j, r in numbered]
    return pd.DataFrame(rows, columns=TABLES["samples"], dtype=object)


def paired(task: Task, answers: pd.DataFrame) -> list[tuple[Problem, str]]:
    """(problem, response) of every row, as tasks grade them."""
    problems = {p.id: p for p in task.problems}
    return [(problems[i], response) for i, response in zip(answers["id"], answers["response"], strict=True)]
