"""A learner can sample responses and be fine-tuned on weighted examples; it knows nothing of tasks.

Not covered: what a right response is (tasks), which examples to train on (boosting)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Options of a learner that say where and how it computes, not what: they are no part of a run's identity.
PLACE = ("device", "threads", "slots", "micro_tokens", "gradient_checkpointing", "cache", "ray", "python")


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn: ``temperature`` 0 is greedy; ``top_p`` below 1 keeps the likeliest tokens that have this
    share together; ``prefix`` is the few-shot text before every prompt; a response ends at the end token, before any
    string of ``stop``, or after ``max_new_tokens``. Raises ValueError for what can't be meant."""

    temperature: float = 1.0
    max_new_tokens: int = 256
    prefix: str = ""
    stop: tuple[str, ...] = ()
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not self.temperature >= 0 or not 0 < self.top_p <= 1:
            given = f"max_new_tokens {self.max_new_tokens}, temperature {self.temperature}, top_p {self.top_p}"
            raise ValueError(f"{given}: they are at least 1, at least 0, and in (0, 1]")
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(f"stop = {self.stop!r}: give a tuple of strings that are not empty, such as ('\\n\\n',)")


@dataclass(frozen=True)
class Response:
    """One sampled response: its text without stop string and end token."""

    text: str
    tokens: int  # how many were sampled for it
    finished: bool = True  # by itself; False: cut at ``max_new_tokens``
    ids: tuple[int, ...] | None = None  # the text's tokens as sampled; None: the learner has none


@dataclass(frozen=True)
class Example:
    """One training example. Weights are relative: only their ratios within a training set matter. ``ids`` are the
    response's tokens as they were sampled; None: the text is tokenized where it stands, behind its prompt."""

    prompt: str
    response: str
    weight: float = 1.0
    ids: tuple[int, ...] | None = None


class Learner(Protocol):
    name: str

    def sample(
        self, prompts: Sequence[str], k: int, *, keys: Sequence[tuple[int, ...]], sampling: Sampling = Sampling(),
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Response]]:  # fmt: skip
        """k responses to each prompt, in order. ``keys[i]`` are small integers of at least 0 (seed, round, stream,
        prompt number); sample j of prompt i is drawn with randomness from ``(*keys[i], j)`` alone: order, batch and
        sharding do not matter. ``progress(samples, tokens)`` is called with increments."""

    def fine_tune(
        self, examples: Sequence[Example], *, steps: int, batch_size: int, lr: float, seed: int,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Cross-entropy on the response tokens, in place, a fresh optimiser; returns loss, tokens, seconds."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path | None) -> None:
        """Put the weights of ``folder`` in place; None: those the learner began with."""

    def fingerprint(self) -> str:
        """SHA-256 of the current weights: part of a run's identity."""
