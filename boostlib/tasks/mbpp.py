"""MBPP (Austin et al. 2021, arXiv 2108.07732): the real file, the paper's splits and prompt, three shots.

The rows come from the folder BOOSTLIB_DATA (mbpp/mbpp.jsonl, checked by SHA-256) or, if that is not set, from
the hub at a pinned revision (checked by row count). Splits by task number: few-shot 1-10, test 11-510,
validation 511-600, train 601-974.

Not covered: the sanitized subset; running programs (programs, sandbox).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from boostlib.tasks import Problem, Task, subsample
from boostlib.tasks.programs import Programs, extract_code

__all__ = ["extract_code", "load"]

REVISION = "4bb6404fdc6cacfda99d4ac4205087b89d32030c"  # of google-research-datasets/mbpp on the hub
ROWS = 974
SHA256 = "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"
SPLITS = {"test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
SHOTS = (2, 3, 4)  # the tasks the paper's prompt shows
STOP = ("[DONE]", "\nYou are an expert")
_BOTH_WAYS = (
    "Either set BOOSTLIB_DATA to a folder with mbpp/mbpp.jsonl, the file of the folder mbpp of "
    "github.com/google-research/google-research, or unset it and have the hub's google-research-datasets/mbpp in reach or in its cache."
)


def load(split: str, n: int | None, seed: int, *, allow: str = "kernel") -> Task:
    """n of the 374 "train", 90 "validation" or 500 "test" problems; ``allow`` is the least isolation accepted."""
    rows = {row["task_id"]: row for row in _rows()}
    problems = subsample([_problem(rows[i]) for i in SPLITS[split]], n, seed, f"mbpp {split}")
    exemplars = tuple(_problem(rows[i]) for i in SHOTS)
    return Programs("mbpp", split, problems, exemplars, STOP, 256, separator="\n[DONE]\n\n", allow=allow)


def _problem(row: Mapping) -> Problem:
    code, setup = (row[key].replace("\r\n", "\n").strip() for key in ("code", "test_setup_code"))
    tests, challenge = ([t.strip() for t in row[key]] for key in ("test_list", "challenge_test_list"))
    shown = "\n".join(tests)
    prompt = (
        f"You are an expert Python programmer, and here is your task: {row['text'].strip()} "
        f"Your code should pass these tests:\n\n{shown}\n[BEGIN]\n"
    )
    meta = {"lines": code.count("\n") + 1, "tests": tests, "setup": setup, "challenge": challenge}
    return Problem(f"mbpp/{row['task_id']}", prompt, code, shown, meta)


def _rows() -> list[Mapping]:
    folder = os.environ.get("BOOSTLIB_DATA")
    if not folder:
        return _hub_rows()
    path = Path(folder) / "mbpp" / "mbpp.jsonl"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"MBPP: {path} cannot be read ({error.strerror}). {_BOTH_WAYS}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"MBPP: {path} is not the official file (its SHA-256 differs). {_BOTH_WAYS}")
    return [json.loads(line) for line in content.decode().splitlines()]


def _hub_rows() -> list[Mapping]:
    from datasets import load_dataset

    try:
        parts = load_dataset("google-research-datasets/mbpp", "full", revision=REVISION)
        rows = [row for part in parts.values() for row in part]
    except Exception as error:  # of many kinds: no network, no such revision, a broken cache
        raise ValueError(
            f"MBPP: BOOSTLIB_DATA is not set and the hub gave nothing ({type(error).__name__}). {_BOTH_WAYS}"
        ) from error
    if len(rows) != ROWS:
        raise ValueError(f"MBPP: the hub gave {len(rows):,} rows, not {ROWS:,}. {_BOTH_WAYS}")
    return rows
