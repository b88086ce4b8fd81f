"""The rows of a round's artefacts: plain dictionaries made from samples, verdicts and labels.

Not covered: when they are made (boosting), how they are written (runs).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from boostlib.learners import Response
from boostlib.tasks import Problem


def is_status(status: Sequence[str], which: str) -> np.ndarray:
    return np.array([s == which for s in status], dtype=bool)


def packed(problem: Problem, responses: list[Response]) -> dict:
    return {
        "id": problem.id,
        "responses": [r.text for r in responses],
        "tokens": [r.tokens for r in responses],
        "finished": [r.finished for r in responses],
    }


def judged(rows: list[dict], status: list[str], accepted: np.ndarray) -> list[dict]:
    """The verdicts laid beside their rows; labels keep their text, samples have it in their own file."""
    laid, start = [], 0
    for row in rows:
        stop = start + len(row["responses"])
        text = {} if "tokens" in row else {"responses": row["responses"]}
        laid.append(
            {
                "id": row["id"],
                **text,
                "status": status[start:stop],
                "accepted": [bool(a) for a in accepted[start:stop]],
            }
        )
        start = stop
    return laid


def matrices(verdicts: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    status = np.array([row["status"] for row in verdicts])
    return status == "pass", np.array([row["accepted"] for row in verdicts], dtype=bool), status != "error"


def capped(pairs: list[tuple[str, str]], dedup: bool, most: int | None) -> list[tuple[str, str]]:
    """The first ``most`` responses of each prompt, equal ones once where ``dedup`` (RFT)."""
    pairs = list(dict.fromkeys(pairs)) if dedup else pairs
    if most is None:
        return pairs
    seen: dict[str, int] = {}
    kept = []
    for pair in pairs:
        seen[pair[0]] = seen.get(pair[0], 0) + 1
        if seen[pair[0]] <= most:
            kept.append(pair)
    return kept
