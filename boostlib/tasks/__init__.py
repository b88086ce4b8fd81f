"""A task is prompts, references and a quality function. `load_task` is the only door. Not covered: sampling, training,
noise on the verdict (boosting)."""

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Problem:
    """One problem. ``prompt`` ends where a response begins and holds no few-shot text; ``reference`` is a
    right response; ``answer`` is what the grader compares with; ``meta`` is what results are split by."""

    id: str
    prompt: str
    reference: str
    answer: str
    meta: dict = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Task:
    """Problems of one split, how to prompt for them and how to judge a response. Tasks override ``grade_one``
    (or ``grade``, where many are judged at once) and ``corrupt``. ``exemplars`` are the few-shot examples, in no split;
    sampling stops at the learner's end token, at any string of ``stop``, or after ``max_new_tokens``."""

    name: str
    split: str
    problems: tuple[Problem, ...]
    exemplars: tuple[Problem, ...] = ()
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 256
    separator: str = "\n\n"

    def prefix(self, shots: int) -> str:
        """The few-shot text that goes before a prompt; "" for 0 shots."""
        if not 0 <= shots <= len(self.exemplars):
            raise ValueError(f"shots must be between 0 and {len(self.exemplars)} for {self.name}, not {shots}.")
        return "".join(e.prompt + e.reference + self.separator for e in self.exemplars[:shots])

    def quality(self, problem: Problem, response: str) -> bool:
        """Whether the response is right: the q(x, y) of the paper, before any noise."""
        return self.grade([(problem, response)])[0] == "pass"

    def grade(self, pairs: Sequence[tuple], progress: Callable | None = None, workers: int = 1) -> list[str]:
        """A verdict for each (problem, response), in order: "pass", "fail", "timeout" or "error". ``progress`` is
        called with increments; ``workers`` matters only to tasks that execute programs."""
        verdicts = []
        for problem, response in pairs:
            verdicts.append(self.grade_one(problem, response))
            if progress:
                progress(1)
        return verdicts

    def grade_one(self, problem: Problem, response: str) -> str:
        raise NotImplementedError(f"{type(self).__name__} defines neither grade_one nor grade.")

    def corrupt(self, problem: Problem, rng: np.random.Generator) -> str:
        """A plausible wrong response: one changed number or operator, kept through what follows."""
        raise NotImplementedError(f"{type(self).__name__} has no corrupted references.")

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON of the problems and exemplars: part of a run's identity."""
        content = {key: [asdict(p) for p in getattr(self, key)] for key in ("problems", "exemplars")}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


#: A new task is one more entry: a callable (split, n, seed, *, options) -> Task, or the module whose ``load`` is one,
#: imported when its task is first asked for: datasets and reasoning-gym take seconds.
TASKS: dict[str, str | Callable[..., Task]] = {
    name: f"boostlib.tasks.{name}" for name in ("arithmetic", "gsm8k", "gsm_symbolic", "coins", "mbpp", "mbpp_mini")
}


def load_task(name: str, split: str = "train", n: int | None = None, seed: int = 0, **options) -> Task:
    """The task ``name``: n problems of a split, chosen by ``seed`` (a smaller n gives a prefix); n=None for all of
    them. "train" is for sampled prompts, "validation" for any tuning, "test" only for reporting. Raises ValueError for
    an unknown name, split or option, and for more problems than there are."""
    if name not in TASKS:
        raise ValueError(f"Unknown task {name!r}; known: {', '.join(sorted(TASKS))}.")
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r} of {name}; known: {', '.join(SPLITS)}.")
    if n is not None and (not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1):
        raise ValueError(f"n must be a whole number of problems of at least 1, or None, not {n!r}.")
    loader = TASKS[name]
    loader = importlib.import_module(loader).load if isinstance(loader, str) else loader
    known = list(inspect.signature(loader).parameters)[3:]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"Unknown option {unknown[0]!r} of {name}; known: {', '.join(known) or 'none'}.")
    return loader(split, n, seed, **options)


def hashed(text: str) -> int:
    """64 bits of the text, the same on any platform."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def subsample(problems: Sequence[Problem], n: int | None, seed: int, what: str) -> tuple[Problem, ...]:
    """n of the problems, named ``what``, in the order of the hashes of (seed, id), so a smaller n is a prefix of a
    larger one on any platform. n=None: all, as they come."""
    if n is None:
        return tuple(problems)
    if n > len(problems):
        raise ValueError(f"{what} has {len(problems):,} problems, and {n:,} were asked for; lower n.")
    return tuple(sorted(problems, key=lambda p: hashed(f"{seed}/{p.id}"))[:n])
