"""Word problems from templates (GSM-Symbolic, Mirzadeh et al. 2024, arXiv 2410.05229), by way of reasoning-gym.

Always there, without end, with worked solutions; 15 of the 85 templates are seen in "test" alone, so that
memory of a template and skill can be told apart. Graded as GSM8K is (reasoning-gym's own scorer reads the first
number it finds, and misreads '-5' and '1,234').

Not covered: harder variants (the package has one difficulty).
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from random import Random

from boostlib.tasks import Problem, Task
from boostlib.tasks.answers import extract_answer
from boostlib.tasks.gsm8k import STOP, Worked
from boostlib.tasks.solutions import read_steps

_state = random.getstate()  # something in reasoning-gym draws from the global generator when imported
from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import (  # noqa: E402
    GSMSymbolicDataset,
    GSMSymbolicDatasetConfig,
    tasks_ok,
)

random.setstate(_state)
_GENERATORS = GSMSymbolicDataset(GSMSymbolicDatasetConfig(seed=0, size=1)).generators


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


# The package calls an item's number its "source_index"; the template is the generator that made it.
TEMPLATES = tuple(sorted(tasks_ok, key=lambda template: _hash(f"template/{template}")))
SEEN, UNSEEN = TEMPLATES[:70], TEMPLATES[70:]
_TRIES = 2000


def load(split: str, n: int | None, seed: int) -> Task:
    """n (1,000 if None) different problems, templates in turn; "test" alternates between the 70 templates of
    "train" and the 15 others. ``meta`` is {"template": its number, "seen": whether "train" has it}.

    For the 70, a hash of the question decides the split, so that no question is in two of them.
    """
    count = 1000 if n is None else n
    key = f"{split}/{seed}"
    streams = [_stream(SEEN, split, key)] + ([_stream(UNSEEN, split, key)] if split == "test" else [])
    problems = []
    for i in range(count):
        problem = next(streams[i % len(streams)], None)
        if problem is None:
            raise ValueError(f"gsm_symbolic has no more than {i:,} different problems in {split}; lower n.")
        problems.append(problem)
    pool = _stream(SEEN, "exemplars", "exemplars")
    short = (p for p in pool if len(p.prompt + p.reference) < 450 and len(read_steps(p.reference)) > 1)
    exemplars = tuple(next(short) for _ in range(8))
    return Worked("gsm_symbolic", split, tuple(problems), exemplars, STOP, 256)


def _stream(templates: Sequence[int], split: str, key: str) -> Iterator[Problem]:
    """Different problems of a split, one template after the other in an order set by ``key``; a template that
    gives nothing new in many tries is left out from there on."""
    rngs = {template: Random(f"{key}/{template}") for template in templates}
    turns = sorted(templates, key=lambda template: _hash(f"{key}/{template}"))
    met: set[str] = set()
    while turns:
        for template in tuple(turns):
            for _ in range(_TRIES):
                problem = _draw(template, rngs[template])
                if problem.id not in met and split == ("test" if template in UNSEEN else _split_of(problem)):
                    break
            else:
                turns.remove(template)
                continue
            met.add(problem.id)
            yield problem


def _draw(template: int, rng: Random) -> Problem:
    item = _GENERATORS[template](rng, 1.0)
    question = item["question"].strip()
    reference = re.sub(r"\n{2,}", "\n", item["metadata"]["answer_cot"].strip())  # a blank line ends a sample
    return Problem(
        id=f"gsm_symbolic/{template}/{_hash(question):016x}",
        prompt=f"Question: {question}\nAnswer:\n",
        reference=reference,
        answer=format(extract_answer(reference), "f"),
        meta={"template": template, "seen": template not in UNSEEN},
    )


def _split_of(problem: Problem) -> str:
    bucket = _hash(problem.prompt) % 100
    return "exemplars" if bucket < 2 else "test" if bucket < 15 else "validation" if bucket < 28 else "train"
