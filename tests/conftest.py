"""Shared pieces of the tests: a learner that costs nothing, small tasks, one thread for torch."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest

from boostlib.learners.tabular import TabularLearner
from boostlib.tasks import load_task


@pytest.fixture(scope="session")
def chains():
    """Train and test chains of the arithmetic task."""
    return load_task("arithmetic", "train", n=24, seed=0), load_task("arithmetic", "test", n=8, seed=0)


@pytest.fixture
def tabular(chains):
    """Knows half of the train prompts half of the time, the others never; one test problem in two."""
    table = {}
    for task in chains:
        for i, problem in enumerate(task.problems):
            p = 0.5 if i % 2 else 0.0
            table[problem.prompt] = {problem.reference: p, "0#0.5": 1 - p}
    return TabularLearner(table)
