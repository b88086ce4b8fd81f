"""Why programs fail, and which of the accepted ones are wrong all the same.

Answers of a run are judged once more, one check each: those that failed by the shown tests, for the reason; those that
passed by the challenge tests, which nothing was trained on. Where a problem has challenge tests, right means passing
both, and the shown tests are a filter whose error is measured.

Not covered: running programs (sandbox, tasks.programs), noise that is added to a filter (boosting).
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import pandas as pd

from boostlib.analysis.intervals import rate
from boostlib.tasks.programs import Programs

REASONS = ("syntax", "exception", "wrong value", "timeout", "exit")  # of a failure; the first three by how far it got


def explain(task: Programs, answers: pd.DataFrame, workers: int = 1) -> pd.DataFrame:
    """``answers`` (columns id, response, status among others) with three columns more: reason (of REASONS for what failed, ""
    for what passed; "unsteady" where it now passes, "sandbox" for an error), error (the exception's name where it is one
    of Python's own), challenge ("pass", or how it failed, for what passed and has challenge tests, else "")."""
    problems = {p.id: p for p in task.problems}
    passed = (answers.status == "pass").to_numpy()
    tested = passed & answers.id.map(lambda i: bool(problems[i].meta["challenge"])).to_numpy()
    columns = {name: [""] * len(answers) for name in ("reason", "error", "challenge")}
    for rows, challenge in ((~passed, False), (tested, True)):
        pairs = [(problems[i], response) for i, response in answers.loc[rows, ["id", "response"]].to_numpy()]
        verdicts = task.verdicts(pairs, None, workers, challenge) if pairs else []
        for place, verdict in zip(rows.nonzero()[0], verdicts, strict=True):
            if challenge:
                columns["challenge"][place] = verdict.reason or verdict.status
            else:
                columns["reason"][place] = verdict.reason or "unsteady"
                columns["error"][place] = _own(verdict.detail) if verdict.reason == "exception" else ""
    return answers.assign(**columns)


def shares(explained: pd.DataFrame, by: Sequence[str] = ("arm", "round")) -> pd.DataFrame:
    """Share of all answers that fail for each reason: columns by, reason, share, low, high, n (answers). Intervals are
    clustered by prompt (`intervals.rate`), seeds pooled: given the seeds that ran."""
    found = [
        r for r in (*REASONS, "unverified", "unsteady", "sandbox") if r in REASONS or (explained.reason == r).any()
    ]
    rows = []
    for key, group in explained.groupby(list(by), sort=False):
        size = group.groupby("id").size()
        for reason in found:
            one = rate((group.reason == reason).groupby(group.id).sum(), size)
            rows.append((*key, reason, one.value, one.low, one.high, one.n))
    return pd.DataFrame(rows, columns=[*by, "reason", "share", "low", "high", "n"])


def filter_error(task: Programs, explained: pd.DataFrame, by: Sequence[str] = ("arm", "round")) -> pd.DataFrame:
    """What the shown tests let through, on the problems that have challenge tests: shares with intervals clustered by
    prompt, ``measure`` "gamma_fp", wrong answers that pass the shown tests among all wrong ones, and "wrong in S+", the
    same among all that pass. Columns: by, measure, value, low, high, hits, n (answers), prompts; NaN where there is none
    to measure on. Answers on which a check failed are left out."""
    known = explained[explained.id.isin([p.id for p in task.problems if p.meta["challenge"]])]
    known = known[(known.reason != "sandbox") & (known.challenge != "sandbox")]
    passed = known.status == "pass"
    known = known.assign(passed=passed, slipped=passed & (known.challenge != "pass"), wrong=known.challenge != "pass")
    rows = []
    for key, group in known.groupby(list(by), sort=False):
        sums = group.groupby("id")[["passed", "slipped", "wrong"]].sum()
        for measure, among in (("gamma_fp", "wrong"), ("wrong in S+", "passed")):
            one = rate(sums.slipped, sums[among])
            prompts = int((sums[among] > 0).sum())
            rows.append((*key, measure, one.value, one.low, one.high, int(sums.slipped.sum()), one.n, prompts))
    return pd.DataFrame(rows, columns=[*by, "measure", "value", "low", "high", "hits", "n", "prompts"])


def _own(detail: str) -> str:
    """The exception's name, if it is Python's: a program may call its own what it likes."""
    name = detail.partition(":")[0]
    known = getattr(builtins, name, None)
    return name if isinstance(known, type) and issubclass(known, Exception) else ""
