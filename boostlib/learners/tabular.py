"""The strong learner of the theory: a table of prompts, each with a law over responses, fitted exactly.

Run by `boostlib.boosting` on the task `coins` it lands on the exact curve of `boostlib.theory`. Not covered: any
generalisation from prompt to prompt; prefix, stop strings and token limits play no role."""

import hashlib
import json
import math
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from boostlib import runs
from boostlib.learners import Example, Response, Sampling

FILE = "table.json"
FLOOR = 1e-12  # a response without a chance costs 28 nats, so that the loss stays a number


class TabularLearner:
    """``initial``: prompt -> response -> chance, each law summing to 1. ``fine_tune`` replaces the law of every prompt
    that has examples by their weighted shares, keeps the others, then moves the share ``eta`` of every law to the
    response "wrong" (the learner error of `boostlib.theory`)."""

    name = "tabular"

    def __init__(self, initial: Mapping[str, Mapping[str, float]], eta: float = 0.0) -> None:
        if not initial:
            raise ValueError("initial is empty; give at least one prompt with its law over responses.")
        if not 0 <= eta < 1:
            raise ValueError(f"eta = {eta!r} is outside [0, 1).")
        for prompt, law in initial.items():
            if any(not 0 <= p <= 1 for p in law.values()) or abs(math.fsum(law.values()) - 1) > 1e-9:
                raise ValueError(f"the law of prompt {prompt!r} must have chances in [0, 1] that sum to 1.")
        self.eta, self._initial = eta, {prompt: dict(law) for prompt, law in initial.items()}
        self.load(None)

    def law(self, prompt: str) -> dict[str, float]:
        """Response -> chance, the current law of one prompt."""
        if prompt not in self._laws:
            raise ValueError(f"the table has no prompt {prompt!r}; it was built from {len(self._laws)} prompts.")
        return dict(self._laws[prompt])

    def sample(self, prompts, k, *, keys, sampling=Sampling(), progress=None) -> list[list[Response]]:
        """As `Learner.sample`; a response counts as one token. Greedy ties go to the first in the alphabet."""
        drawn = []
        for prompt, key in zip(prompts, keys, strict=True):
            law = self.law(prompt)
            possible = sorted(r for r in law if law[r] > 0)
            if sampling.temperature == 0:
                possible = [min(law, key=lambda r: (-law[r], r))]
            ends = np.cumsum([law[r] ** (1 / (sampling.temperature or 1)) for r in possible])
            places = [bisect_right(ends, u * ends[-1]) for u in _uniforms(key, k)]
            drawn.append([Response(possible[min(place, len(possible) - 1)], 1) for place in places])
            if progress:
                progress(k, k)
        return drawn

    def fine_tune(self, examples: Sequence[Example], *, steps: int = 1, progress=None, **_) -> dict[str, float]:
        """As `Learner.fine_tune`, but exact: of the options none plays a role. Losses: weighted nats a response."""
        start, weights = time.perf_counter(), defaultdict(lambda: defaultdict(list))
        for e in examples:
            if e.weight < 0 or not math.isfinite(e.weight):
                raise ValueError(f"an example of prompt {e.prompt!r} has weight {e.weight}; weights are at least 0.")
            if e.weight > 0:
                self.law(e.prompt)
                weights[e.prompt][e.response].append(e.weight)
        sums = {p: {r: math.fsum(w) for r, w in responses.items()} for p, responses in weights.items()}
        before = self._loss(sums)
        for prompt, responses in sums.items():
            self._laws[prompt] = {r: w / math.fsum(responses.values()) for r, w in responses.items()}
        after = self._loss(sums)
        if self.eta > 0:
            for prompt, law in self._laws.items():
                kept = {r: (1 - self.eta) * p for r, p in law.items()}
                self._laws[prompt] = kept | {"wrong": kept.get("wrong", 0.0) + self.eta}
        if progress:
            progress(steps)
        facts = {"loss": after, "loss_first": before, "loss_last": after, "tokens": len(examples)}
        return facts | {"seconds": time.perf_counter() - start}

    def _loss(self, sums: Mapping[str, Mapping[str, float]]) -> float:
        terms = [(w, self._laws[p].get(r, 0.0)) for p, responses in sums.items() for r, w in responses.items()]
        total = math.fsum(w for w, _ in terms)
        return -math.fsum(w * math.log(max(chance, FLOOR)) for w, chance in terms) / total if total else 0.0

    def save(self, folder: Path) -> None:
        runs.write_text(Path(folder) / FILE, self._text())

    def load(self, folder: Path | None) -> None:
        if folder is None:
            self._laws = {prompt: dict(law) for prompt, law in self._initial.items()}
        elif (path := Path(folder) / FILE).is_file():
            table = json.loads(path.read_text())
            self._laws = {p: {r: float.fromhex(x) for r, x in law.items()} for p, law in table.items()}
        else:
            raise ValueError(f"{folder} is not a saved tabular learner: it has no {FILE}.")

    def fingerprint(self) -> str:
        """SHA-256 of the table and of eta, which is part of what the learner does."""
        return hashlib.sha256(f"{self.eta.hex()} 'wrong' {self._text()}".encode()).hexdigest()

    def _text(self) -> str:
        table = {p: {r: float(x).hex() for r, x in law.items()} for p, law in self._laws.items()}  # exact floats
        return json.dumps(table, sort_keys=True, indent=0)


def _uniforms(key: tuple[int, ...], k: int) -> list[float]:
    """k numbers in [0, 1); number j depends on (*key, j) alone: eight to a hash, 53 bits each."""
    text = ",".join(map(str, map(int, key)))
    hashes = b"".join(hashlib.blake2b(f"{text}/{block}".encode()).digest() for block in range(-(-k // 8)))
    return ((np.frombuffer(hashes, dtype="<u8") >> np.uint64(11)) * 2.0**-53).tolist()[:k]


def coins_learner(task, p0: float | Sequence[float], eta: float = 0.0) -> TabularLearner:
    """A tabular learner that answers problem i of a task such as `coins` rightly with chance ``p0[i]`` (or ``p0``)."""
    n, p = len(task.problems), np.asarray(p0, float)
    if p.ndim > 1 or p.ndim == 1 and p.size != n or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p0 has shape {p.shape} for {n} coins; give a number in [0, 1] or one a coin.")
    chances = zip(task.problems, np.broadcast_to(p, n).tolist(), strict=True)
    return TabularLearner({problem.prompt: {problem.reference: c, "wrong": 1 - c} for problem, c in chances}, eta)
