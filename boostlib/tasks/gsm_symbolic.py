"""Word problems from templates (GSM-Symbolic, Mirzadeh et al. 2024, arXiv 2410.05229), by way of reasoning-gym.

Always there, with worked solutions; 15 of the 85 templates are seen in "test" alone, so that memory of a template and
skill can be told apart. Graded as GSM8K is (reasoning-gym's own scorer misreads '-5' and '1,234'). Not covered: harder
variants (the package has one difficulty)."""

import random
from collections.abc import Iterator, Sequence
from itertools import islice

from boostlib.tasks import Problem, Task, hashed
from boostlib.tasks.gsm8k import STOP, Worked, tidy, worked
from boostlib.tasks.solutions import read_steps

_state = random.getstate()  # something in reasoning-gym draws from the global generator when imported
from reasoning_gym.arithmetic.gsm_symbolic import gsm_symbolic as package  # noqa: E402

random.setstate(_state)
_GENERATORS = package.GSMSymbolicDataset(package.GSMSymbolicDatasetConfig(seed=0, size=1)).generators


# The package calls an item's number its "source_index"; the template is the generator that made it.
_TEMPLATES = sorted(package.tasks_ok, key=lambda template: hashed(f"template/{template}"))
SEEN, UNSEEN = _TEMPLATES[:70], _TEMPLATES[70:]


def load(split: str, n: int | None, seed: int) -> Task:
    """n (1,000 if None) different problems, templates in turn; "test" alternates between the 70 templates of
    "train" and the 15 others. ``meta`` is {"template": its number, "seen": whether "train" has it}."""
    streams = [_stream(some, split, f"{split}/{seed}") for some in ((SEEN, UNSEEN) if split == "test" else (SEEN,))]
    problems = tuple(next(streams[i % len(streams)]) for i in range(n or 1000))
    pool = _stream(SEEN, "exemplars", "exemplars")
    short = (p for p in pool if len(p.prompt + p.reference) < 450 and len(read_steps(p.reference)) > 1)
    return Worked("gsm_symbolic", split, problems, tuple(islice(short, 8)), STOP, 256)


def _stream(templates: Sequence[int], split: str, key: str) -> Iterator[Problem]:
    """Different problems of a split, template after template in an order by ``key``; one with nothing new drops out."""
    turns = sorted(templates, key=lambda template: hashed(f"{key}/{template}"))
    rngs = {template: random.Random(f"{key}/{template}") for template in turns}
    met: set[str] = set()
    while rngs:
        for template, rng in tuple(rngs.items()):
            draws = (_draw(template, rng) for _ in range(2000))
            problem = next((p for p in draws if p.id not in met and split == _split_of(p)), None)
            if problem:
                met.add(problem.id)
                yield problem
            else:
                del rngs[template]
    raise ValueError(f"gsm_symbolic has {len(met):,} problems of {len(templates)} templates in {split}; lower n.")


def _draw(template: int, rng: random.Random) -> Problem:
    item = _GENERATORS[template](rng, 1.0)
    question, solution = item["question"].strip(), tidy(item["metadata"]["answer_cot"])
    id = f"gsm_symbolic/{template}/{hashed(question):016x}"
    return worked(id, question, solution, template=template, seen=template not in UNSEEN)


def _split_of(problem: Problem) -> str:
    """By a hash of the question, so that no question is in two splits; unseen templates are all for "test"."""
    if not problem.meta["seen"]:
        return "test"
    bucket = hashed(problem.prompt) % 100
    return "exemplars" if bucket < 2 else "test" if bucket < 15 else "validation" if bucket < 28 else "train"
