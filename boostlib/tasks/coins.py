"""Coins: problems with no content, for the tabular learner. A response is right if it is the word "right".

Nothing generalises from one coin to another, so all splits hold the same coins: accuracy is measured on the prompts
that were trained on, as in the theory. Not covered: how often a learner is right (learners.tabular), language."""

import numpy as np

from boostlib.tasks import Problem, Task


class Coins(Task):
    def grade_one(self, problem: Problem, response: str) -> str:
        return "pass" if response == "right" else "fail"

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        return "wrong"


def load(split: str, n: int | None, seed: int) -> Task:
    """n coins (64 if None), the same ones in every split and for every seed."""
    coins = range(n or 64)
    problems = tuple(Problem(f"coin-{i}", f"coin {i}:", "right", "right", {"coin": i}) for i in coins)
    return Coins("coins", split, problems, max_new_tokens=1)
