"""MBPP (Austin et al. 2021, arXiv 2108.07732): the real file, the paper's splits and prompt, three shots.

Splits by task number: few-shot 1-10, test 11-510, validation 511-600, train 601-974. Not covered: the sanitized subset;
running programs (programs, sandbox)."""

from collections.abc import Mapping

from boostlib.tasks import Problem, Task, subsample
from boostlib.tasks.official import Official
from boostlib.tasks.programs import Programs

FILE = Official(
    "MBPP",
    home="the folder mbpp of github.com/google-research/google-research",
    repository="google-research-datasets/mbpp",
    config="full",
    revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
    files={"": ("mbpp/mbpp.jsonl", "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f", 974)},
)
SPLITS = {"test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
STOP = ("[DONE]", "\nYou are an expert")


def load(split: str, n: int | None, seed: int, *, allow: str = "kernel") -> Task:
    """n of the 374 "train", 90 "validation" or 500 "test" problems; ``allow`` is the least isolation accepted."""
    rows = {row["task_id"]: row for row in FILE.rows()}
    problems = subsample([_problem(rows[i]) for i in SPLITS[split]], n, seed, f"mbpp {split}")
    exemplars = tuple(_problem(rows[i]) for i in (2, 3, 4))  # the tasks that the paper's prompt shows
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
