"""The boosting loop: Algorithm 2 of the paper, for any task, learner, filter, labeler and policy.

The arms of the comparison are settings of this one loop. Every artefact of a round is a file; what is there is not computed again.
Not covered: statistics of the result (stats), figures, running many loops side by side (fleet).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boostlib import runs
from boostlib.allocation import Statistics, allocate
from boostlib.boosting import labelers
from boostlib.boosting.artefacts import capped, is_status, judged, matrices, packed
from boostlib.boosting.filters import NoisyFilter
from boostlib.boosting.settings import Settings
from boostlib.learners import Example, Learner, Response, Sampling
from boostlib.progress import bar
from boostlib.tasks import Problem, Task

SAMPLES, LABELS, FILTER, LABEL_FILTER, ALLOCATION, TRAINING = range(6)  # streams of randomness within (seed, round)


@dataclass
class Loop:
    """One arm and one seed. ``folder`` is its own, ``base`` is shared by all arms that sample f_0 alike."""

    task: Task
    test: Task
    learner: Learner
    settings: Settings
    seed: int
    rounds: int
    folder: Path
    base: Path
    keep_models: bool = False
    show: bool = True

    def run(self) -> list[dict]:
        """One row a round t = 0..rounds: what f_t is worth, and the data that made f_{t+1} of it."""
        with runs.locked(self.folder):
            return [self.round(t) for t in range(self.rounds + 1)]

    def round(self, t: int) -> dict:
        last = t == self.rounds
        done = self.at(t) / ("final.json" if last else "round.json")
        if done.exists():
            self.forget(t)
            return runs.read_json(done) | self.seconds(t)

        row = {"seed": self.seed, "round": t, **self.evaluate(t)}
        right, accepted, facts = self.sample_and_filter(t)  # steps 1, 2
        row |= facts
        if not last:
            labels, facts = self.label(t, right, accepted)  # step 3
            row |= facts
            examples = self.mixture(t, labels)  # step 4
            row |= self.fine_tune(t, examples)  # step 5: f_{t+1}
        runs.write_json(done, row)
        self.forget(t)
        return row | self.seconds(t)

    def forget(self, t: int) -> None:
        """Drop the weights of f_t once f_{t+1} is safe: nothing resumes from them."""
        if t < self.rounds and not self.keep_models:
            shutil.rmtree(self.at(t) / "model", ignore_errors=True)

    # --- the steps of a round -----------------------------------------------------------------------------------------

    def evaluate(self, t: int) -> dict:
        """Greedy accuracy of f_t on the test problems."""

        def make() -> list[dict]:
            drawn = self.draw(t, self.test, 1, temperature=0.0, what="test")
            status = self.grade(self.test, [(p, r[0].text) for p, r in zip(self.test.problems, drawn, strict=True)])
            return [
                {
                    "id": p.id,
                    "response": r[0].text,
                    "tokens": r[0].tokens,
                    "finished": r[0].finished,
                    "status": s,
                }
                for p, r, s in zip(self.test.problems, drawn, status, strict=True)
            ]

        status = [row["status"] for row in self.once((self.base if t == 0 else self.at(t)) / "test.jsonl", make)]
        judged = [s for s in status if s != "error"]
        return {"test_accuracy": float(np.mean([s == "pass" for s in judged])), "n_test": len(judged)}

    def sample(self, t: int) -> list[dict]:
        """k responses to each training prompt; those of f_0 are shared by all arms."""

        def make() -> list[dict]:
            drawn = self.draw(t, self.task, self.settings.k, temperature=self.settings.temperature, what="samples")
            return [packed(p, r) for p, r in zip(self.task.problems, drawn, strict=True)]

        return self.once((self.base / f"seed-{self.seed}" if t == 0 else self.at(t)) / "samples.jsonl", make)

    def sample_and_filter(self, t: int) -> tuple[np.ndarray, np.ndarray, dict]:
        """k responses a prompt, their true quality and what the noisy filter made of it: bool arrays (n, k)."""
        s, samples = self.settings, self.sample(t)

        def verdict() -> list[dict]:
            status = self.grade(self.task, self.pairs(samples))
            right = is_status(status, "pass").reshape(len(samples), -1)
            accepted = NoisyFilter(s.gamma_fp, s.gamma_fn).accept(right, self.rng(t, FILTER))
            accepted &= ~is_status(status, "error").reshape(right.shape)  # a failed check is no verdict
            return judged(samples, status, accepted.ravel())

        verdicts = self.once(self.at(t) / "verdicts.jsonl", verdict)
        right, accepted, known = matrices(verdicts)
        return (
            right,
            accepted,
            {
                "train_accuracy": float(right.sum() / max(1, known.sum())),
                "train_accuracy_at_k": float(right.any(1).mean()),
                "n_train": len(samples),
                "k": s.k,
                "accepted": int(accepted.sum()),
                "false_accepts": int((accepted & ~right).sum()),
                "false_rejects": int((~accepted & right).sum()),
                "failed": int((~accepted.any(1)).sum()),
                "errors": int((~known).sum()),
                "tokens_sampled": sum(sum(row["tokens"]) for row in samples),
            },
        )

    def label(self, t: int, right: np.ndarray, accepted: np.ndarray) -> tuple[list[dict], dict]:
        """Spend the budget where the policy says; weak data (A) is what the filter accepts of the labeler's answers."""
        s, problems = self.settings, self.task.problems
        budget = s.round_budget(len(problems), int((~accepted.any(1)).sum()))

        def make() -> list[dict]:
            if not budget:
                return []
            counts = allocate(s.policy, self.statistics(t, right), budget, self.rng(t, ALLOCATION))
            asked = np.flatnonzero(counts)
            chosen = [problems[i] for i in asked]
            keys = [(self.seed, t, LABELS, int(i)) for i in asked]
            answers = self.labeler(t)(chosen, counts[asked], keys)
            rows = [{"id": p.id, "responses": a} for p, a in zip(chosen, answers, strict=True)]
            status = self.grade(self.task, [(p, a) for p, some in zip(chosen, answers, strict=True) for a in some])
            correct, rng = is_status(status, "pass"), self.rng(t, LABEL_FILTER)
            kept = (
                NoisyFilter(s.gamma_fp, s.gamma_fn).accept(correct, rng)
                if s.weak_data == "A"
                else np.full(len(status), True)
            )
            return judged(rows, status, kept & ~is_status(status, "error"))

        labels = self.once(self.at(t) / "labels.jsonl", make)
        status = [x for row in labels for x in row["status"]]
        return labels, {
            "budget": budget,
            "labels": len(status),
            "labels_right": sum(x == "pass" for x in status),
            "labels_kept": sum(sum(row["accepted"]) for row in labels),
            "labels_kept_right": sum(
                x == "pass" and a for row in labels for x, a in zip(row["status"], row["accepted"], strict=True)
            ),
        }

    def mixture(self, t: int, labels: list[dict]) -> list[Example]:
        """S+ at total weight 1 - alpha and D at total weight alpha, evenly within each (Algorithm 2: alpha / |D| an example)."""
        s = self.settings

        def make() -> list[dict]:
            strong = self.strong(t)
            weak = [
                (row["id"], r) for row in labels for r, a in zip(row["responses"], row["accepted"], strict=True) if a
            ]
            if s.accumulate and t:
                earlier = runs.read_rows(self.at(t - 1) / "examples.jsonl")
                strong = [(e["id"], e["response"]) for e in earlier if e["source"] == "S+"] + strong
                weak = [(e["id"], e["response"]) for e in earlier if e["source"] == "D"] + weak
            strong = capped(strong, s.dedup, s.max_per_prompt)
            weights = s.weights(len(strong), len(weak))
            return [
                {"id": i, "source": source, "weight": w, "response": r}
                for source, w, pairs in zip(("S+", "D"), weights, (strong, weak), strict=True)
                for i, r in pairs
            ]

        prompts = {p.id: p.prompt for p in self.task.problems}
        rows = self.once(self.at(t) / "examples.jsonl", make)
        return [Example(prompts[e["id"]], e["response"], e["weight"]) for e in rows if e["weight"] > 0]

    def fine_tune(self, t: int, examples: list[Example]) -> dict:
        """f_{t+1}, saved before anything counts on it. No example at all: f_{t+1} = f_t, and the row says 0 steps."""
        s, after = self.settings, self.at(t + 1)
        facts = after / "training.json"
        if not facts.exists():
            start = time.perf_counter()
            self.place(0 if s.init_from == "base" else t)
            measured = {"loss_first": None, "loss_last": None, "tokens": 0}
            steps = s.steps if examples else 0
            if examples:
                seed = int(np.random.SeedSequence((self.seed, t, TRAINING)).generate_state(1)[0])
                with self.bar(f"round {t} training", steps, "step") as progress:
                    measured = self.learner.fine_tune(
                        examples,
                        steps=steps,
                        batch_size=s.batch_size,
                        lr=s.lr,
                        seed=seed,
                        progress=progress.update,
                    )
            self.learner.save(after / "model")
            self._placed = t + 1
            keep = {name: measured[name] for name in ("loss_first", "loss_last")} | {
                "tokens_trained": int(measured["tokens"])
            }
            runs.write_json(facts, keep | {"steps": steps, "examples": len(examples)})
            self.clock(t, "training", start)
        return runs.read_json(facts)

    # --- parts --------------------------------------------------------------------------------------------------------

    def at(self, t: int) -> Path:
        return self.folder / f"round-{t}"

    def rng(self, t: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, t, stream))

    _placed: int | None = None

    def place(self, t: int) -> Learner:
        """The learner with the weights of f_t, read only when something has to be computed with them."""
        if self._placed != t:
            if t and not (self.at(t) / "model").exists():
                raise RuntimeError(
                    f"{self.at(t) / 'model'}, the checkpoint that round {t} goes on from, was removed; to compute "
                    f"this seed anew, delete {self.folder} and start again"
                )
            self.learner.load(None if t == 0 else self.at(t) / "model")
            self._placed = t
        return self.learner

    def draw(self, t: int, task: Task, k: int, *, temperature: float, what: str) -> list[list[Response]]:
        with self.bar(f"round {t} {what}", len(task.problems) * k, "response") as progress:
            return self.place(t).sample(
                [p.prompt for p in task.problems],
                k,
                keys=[(self.seed, t, SAMPLES, i) for i in range(len(task.problems))],
                sampling=self.sampling(temperature),
                progress=_with_rate(progress),
            )

    def sampling(self, temperature: float) -> Sampling:
        tokens = self.settings.max_new_tokens or self.task.max_new_tokens
        return Sampling(temperature, tokens, self.task.prefix(self.settings.shots), self.task.stop)

    def labeler(self, t: int) -> labelers.Labeler:
        choice = self.settings.labeler
        if callable(choice):
            return labelers.from_callable(choice)
        if choice in ("corrupted", "systematic"):
            return labelers.corrupted_reference(self.task, self.settings.beta, choice == "systematic")
        return labelers.model(self.place(t if choice == "self" else 0), self.sampling(self.settings.temperature))

    def statistics(self, t: int, right: np.ndarray) -> Statistics:
        """What the filter saw so far, a row a round; the true share of right samples is for the oracle alone."""
        ids = [p.id for p in self.task.problems]
        asked, kept = np.zeros((2, t, len(ids)), dtype=int)
        for r in range(t):
            for row in runs.read_rows(self.at(r) / "labels.jsonl"):
                i = ids.index(row["id"])
                asked[r, i], kept[r, i] = len(row["accepted"]), sum(row["accepted"])
        accepted = [
            [sum(row["accepted"]) for row in runs.read_rows(self.at(r) / "verdicts.jsonl")] for r in range(t + 1)
        ]
        return Statistics(np.array(accepted), self.settings.k, asked, kept, right.mean(1))

    def grade(self, task: Task, pairs: Sequence[tuple[Problem, str]]) -> list[str]:
        status = task.grade(pairs)
        share = status.count("error") / max(1, len(status))
        if share > self.settings.max_error_rate:
            raise RuntimeError(
                f"{share:.1%} of {len(status)} checks of {task.name} failed in the checker itself (allowed: "
                f"{self.settings.max_error_rate:.1%}); nothing was trained on them; see boostlib.sandbox.level() and start again"
            )
        return status

    def pairs(self, samples: list[dict]) -> list[tuple[Problem, str]]:
        return [(p, r) for p, row in zip(self.task.problems, samples, strict=True) for r in row["responses"]]

    def strong(self, t: int) -> list[tuple[str, str]]:
        """S+ of the round: (prompt id, response) of every accepted sample."""
        return [
            (row["id"], r)
            for row, verdict in zip(self.sample(t), runs.read_rows(self.at(t) / "verdicts.jsonl"), strict=True)
            for r, a in zip(row["responses"], verdict["accepted"], strict=True)
            if a
        ]

    def once(self, path: Path, make: Callable[[], list[dict]]) -> list[dict]:
        if not path.exists():
            start = time.perf_counter()
            runs.write_rows(path, make())
            self.clock(
                int(path.parent.name.removeprefix("round-")) if "round-" in path.parent.name else 0,
                path.stem,
                start,
            )
        return runs.read_rows(path)

    def clock(self, t: int, what: str, start: float) -> None:
        """Wall time of a step: a note beside the artefacts, no part of them; a full disk stops at the next artefact."""
        with contextlib.suppress(OSError), open(self.folder / "times.jsonl", "a") as file:
            file.write(json.dumps({"round": t, "what": what, "seconds": round(time.perf_counter() - start, 3)}) + "\n")

    def seconds(self, t: int) -> dict:
        path, total = self.folder / "times.jsonl", 0.0
        for line in path.read_text().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):  # a line that a killed process left half-written
                row = json.loads(line)
                total += row["seconds"] * (row["round"] == t)
        return {"seconds": total}

    def bar(self, what: str, total: int, unit: str):
        name = f"{self.folder.parent.name.rpartition('-')[0]} seed {self.seed} {what}"
        return bar(desc=name, total=total, unit=unit, leave=False, disable=not self.show)


def _with_rate(progress) -> Callable[[int, int], None]:
    tokens, start = 0, time.perf_counter()

    def update(samples: int, new: int) -> None:
        nonlocal tokens
        tokens += new
        progress.set_postfix_str(f"{tokens / (time.perf_counter() - start):.0f} tokens/s", refresh=False)
        progress.update(samples)

    return update
