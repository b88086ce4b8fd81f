"""The boosting loop: Algorithm 2 of the paper, for any task, learner, filter, labeler and policy.

The arms of the comparison are settings of this one loop. Each step of a round leaves one table, a row a response; what is
there is not computed again. Not covered: how a file is written (runs), many loops (many), statistics (analysis).
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from boostlib import runs
from boostlib.allocation import Statistics, allocate
from boostlib.boosting import labelers
from boostlib.boosting.settings import Settings
from boostlib.learners import Example, Learner, Response, Sampling
from boostlib.progress import bar
from boostlib.tasks import Problem, Task

SAMPLES, LABELS, FILTER, LABEL_FILTER, ALLOCATION, TRAINING = range(6)  # streams of randomness within (seed, round)

TABLES = {  # <name>.jsonl of a round: its columns; ids: the tokens as sampled, null where there are none
    "test": ["id", "response", "tokens", "finished", "status"],
    "samples": ["id", "sample", "response", "tokens", "finished", "ids"],  # k rows a prompt
    "verdicts": ["id", "sample", "status", "accepted"],  # a row for each of samples
    "labels": ["id", "sample", "response", "status", "accepted", "ids"],
    "examples": ["id", "source", "weight", "response", "ids"],  # source: S+ or D
}


@dataclass
class Loop:
    """One arm and one seed. ``folder`` is its own, ``base`` is shared by all arms that sample f_0 alike."""

    folder: Path
    base: Path
    seed: int
    rounds: int
    task: Task
    test: Task
    learner: Learner
    arm: str
    settings: Settings
    keep_models: bool = False
    show: bool = True
    _placed: int | None = None  # the round whose weights the learner has

    SHARED = {"test": "evaluate", "samples": "sample"}  # tables of f_0 that arms share, and the steps that make them

    def run(self) -> list[dict]:
        """One row a round t = 0..rounds: what f_t is worth, and the data that made f_{t+1} of it."""
        with runs.locked(self.folder):
            return [self.round(t) for t in range(self.rounds + 1)]

    def round(self, t: int) -> dict:
        """Round t of Algorithm 2, as a row; the last round only looks at f_t."""
        last, done = t == self.rounds, self.mark(t)
        if not done.exists():
            row = {"seed": self.seed, "round": t} | self.evaluate(t)
            samples = self.sample(t)  # step 1: k responses a prompt
            verdicts, facts = self.filter(t, samples)  # step 2: S+ and P-
            row |= facts
            if not last:
                labels, facts = self.label(t, verdicts)  # step 3: weak labels, where the policy says
                examples = self.mixture(t, samples, verdicts, labels)  # step 4: 1 - alpha on S+, alpha on D
                row |= facts | self.fine_tune(t, examples)  # step 5: f_{t+1}
            runs.write_json(done, row)
        if not last and not self.keep_models:  # f_{t+1} is safe: nothing resumes from f_t
            shutil.rmtree(self.at(t) / "model", ignore_errors=True)
        where = {"arm": self.arm, "folder": str(self.folder), "base": str(self.base)}
        return runs.read_json(done, sealed=True) | where | {"seconds": self.seconds(t)}

    # --- the steps of a round -----------------------------------------------------------------------------------------

    def evaluate(self, t: int) -> dict:
        """Greedy accuracy of f_t on the test problems."""
        answers = self.once(t, "test", lambda: self.graded(self.test, self.draw(t, "test", self.test, 1, 0.0)))
        judged = answers["status"][answers["status"] != "error"]
        return {"test_accuracy": float(np.mean(judged == "pass")), "n_test": len(judged)}

    def sample(self, t: int) -> pd.DataFrame:
        """k responses of f_t to each training prompt."""
        s = self.settings
        return self.once(t, "samples", lambda: self.draw(t, "samples", self.task, s.k, s.temperature))

    def filter(self, t: int, samples: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
        """The true quality of every sample, and what the noisy filter makes of it."""
        verdicts = self.once(t, "verdicts", lambda: self.filtered(self.graded(self.task, samples), self.rng(t, FILTER)))
        status, accepted = verdicts["status"].to_numpy(), verdicts["accepted"].to_numpy()
        right, known, failed = status == "pass", status != "error", ~self.by_prompt(accepted).any(1)
        facts = sums(accepted=accepted, false_accepts=accepted & ~right, false_rejects=~accepted & right)
        facts |= sums(failed=failed, errors=~known, tokens_sampled=samples["tokens"])
        facts |= {"n_train": len(self.task.problems), "k": self.settings.k}
        facts |= {"train_accuracy": float(right.sum() / max(1, known.sum()))}
        return verdicts, facts | {"train_accuracy_at_k": float(self.by_prompt(right).any(1).mean())}

    def label(self, t: int, verdicts: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
        """Spend the budget where the policy says; weak data (A) is what the filter accepts of the labeler's answers."""
        s, problems = self.settings, self.task.problems
        failed = ~self.by_prompt(verdicts["accepted"]).any(1)
        budget = s.round_budget(len(problems), int(failed.sum()))

        def make() -> pd.DataFrame:
            if not budget:
                return tabled([], []).assign(status=[], accepted=[])
            counts = allocate(s.policy, self.statistics(t, verdicts), budget, self.rng(t, ALLOCATION))
            asked = np.flatnonzero(counts)
            chosen, keys = [problems[i] for i in asked], [(self.seed, t, LABELS, int(i)) for i in asked]
            labels = self.graded(self.task, tabled(chosen, self.labeler(t)(chosen, counts[asked], keys)))
            if s.weak_data == "A":
                return self.filtered(labels, self.rng(t, LABEL_FILTER))
            return labels.assign(accepted=labels["status"] != "error")

        labels = self.once(t, "labels", make)
        right, kept = labels["status"].to_numpy() == "pass", labels["accepted"].to_numpy()
        facts = sums(labels_right=right, labels_kept=kept, labels_kept_right=right & kept)
        return labels, facts | {"budget": budget, "labels": len(labels)}

    def mixture(self, t: int, samples: pd.DataFrame, verdicts: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
        """S+ at total weight 1 - alpha and D at total weight alpha, evenly within each (Algorithm 2: alpha / |D| an example)."""
        s = self.settings

        def make() -> pd.DataFrame:
            earlier = [self.read(t - 1, "examples")] if s.accumulate and t else []
            own, weak = samples[verdicts["accepted"]], labels[labels["accepted"]]
            data = pd.concat([*earlier, own.assign(source="S+"), weak.assign(source="D")])
            strong, weak = data[data["source"] == "S+"], data[data["source"] == "D"]
            if s.dedup:
                strong = strong.drop_duplicates(["id", "response"])
            if s.max_per_prompt is not None:
                strong = strong.groupby("id", sort=False).head(s.max_per_prompt)
            weights = (1.0, 1.0)
            if s.alpha is not None:
                weights = (1 - s.alpha) / max(1, len(strong)), s.alpha / max(1, len(weak))
            return pd.concat([strong.assign(weight=weights[0]), weak.assign(weight=weights[1])])

        return self.once(t, "examples", make)

    def fine_tune(self, t: int, examples: pd.DataFrame) -> dict:
        """f_{t+1}, saved before anything counts on it. No example at all: f_{t+1} = f_t, and the row says 0 steps."""
        s, facts, model = self.settings, self.at(t + 1) / "training.json", self.at(t + 1) / "model"
        if not facts.exists():
            start, prompts = time.perf_counter(), {p.id: p.prompt for p in self.task.problems}
            used = examples[examples["weight"] > 0]
            ids = [None if one is None else tuple(one) for one in used["ids"]]
            data = list(map(Example, used["id"].map(prompts), used["response"], used["weight"], ids))
            learner = self.place(0 if s.init_from == "base" else t)
            told = {"loss_first": None, "loss_last": None, "tokens": 0}
            if data:
                seed = int(np.random.SeedSequence((self.seed, t, TRAINING)).generate_state(1)[0])
                with self.bar(f"round {t} training", s.steps, "step") as progress:
                    how = dict(steps=s.steps, batch_size=s.batch_size, lr=s.lr, seed=seed, progress=progress.update)
                    told = learner.fine_tune(data, **how)
            learner.save(model)
            runs.seal_folder(model)
            self._placed = t + 1
            row = {name: told[name] for name in ("loss_first", "loss_last")} | {"tokens_trained": int(told["tokens"])}
            runs.write_json(facts, row | {"steps": s.steps if data else 0, "examples": len(data)})
            self.clock(t, "training", start)
        return runs.read_json(facts, sealed=True)

    # --- parts --------------------------------------------------------------------------------------------------------

    def rng(self, t: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, t, stream))

    def by_prompt(self, column: Sequence) -> np.ndarray:
        """A column of samples or verdicts as (prompts, k)."""
        return np.reshape(column, (len(self.task.problems), self.settings.k))

    def place(self, t: int) -> Learner:
        """The learner with the weights of f_t, read only when something has to be computed with them."""
        if self._placed != t:
            model = self.at(t) / "model"
            if t and not model.exists():
                why = f"{model}, the checkpoint that round {t} goes on from, was removed; to compute this seed anew, delete"
                raise RuntimeError(f"{why} {self.folder} and start again")
            if t:
                runs.check_folder(model, self.folder)
            self.learner.load(model if t else None)
            self._placed = t
        return self.learner

    def draw(self, t: int, what: str, task: Task, k: int, temperature: float) -> pd.DataFrame:
        prompts = [p.prompt for p in task.problems]
        keys = [(self.seed, t, SAMPLES, i) for i in range(len(prompts))]
        with self.bar(f"round {t} {what}", len(prompts) * k, "response") as progress:
            how = dict(sampling=self.sampling(temperature), progress=lambda samples, tokens: progress.update(samples))
            return tabled(task.problems, self.place(t).sample(prompts, k, keys=keys, **how))

    def sampling(self, temperature: float) -> Sampling:
        tokens = self.settings.max_new_tokens or self.task.max_new_tokens
        return Sampling(temperature, tokens, self.task.prefix(self.settings.shots), self.task.stop)

    def labeler(self, t: int) -> labelers.Labeler:
        choice, sampling = self.settings.labeler, self.sampling(self.settings.temperature)
        if choice in ("base", "self"):
            return labelers.model(self.place(t if choice == "self" else 0), sampling)
        if hasattr(choice, "sample"):
            return labelers.model(choice, sampling, ids=False)  # its tokens may be others
        if callable(choice):
            return labelers.from_callable(choice)
        return labelers.corrupted_reference(self.task, self.settings.beta, choice == "systematic")

    def statistics(self, t: int, verdicts: pd.DataFrame) -> Statistics:
        """What the filter saw so far, a row a round; the true share of right samples is for the oracle alone."""
        ids = [p.id for p in self.task.problems]
        past = [self.read(r, "labels").groupby("id")["accepted"].agg(["size", "sum"]) for r in range(t)]
        labels = np.reshape([one.reindex(ids, fill_value=0) for one in past], (t, len(ids), 2))
        seen = [*(self.read(r, "verdicts") for r in range(t)), verdicts]
        accepted = [self.by_prompt(one["accepted"]).sum(1) for one in seen]
        p = self.by_prompt(verdicts["status"] == "pass").mean(1)
        return Statistics(accepted, self.settings.k, labels[..., 0], labels[..., 1], p=p)

    def graded(self, task: Task, answers: pd.DataFrame) -> pd.DataFrame:
        """With a column ``status``: pass, fail, timeout, or error where the checker failed."""
        status = task.grade(paired(task, answers))
        share = status.count("error") / max(1, len(status))
        if share > (most := self.settings.max_error_rate):
            what = (
                f"{share:.1%} of {len(status)} checks of {task.name} failed in the checker itself (allowed: {most:.1%})"
            )
            raise RuntimeError(f"{what}; nothing was trained on them; see boostlib.sandbox.level() and start again")
        return answers.assign(status=np.array(status, dtype=object))

    def filtered(self, graded: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        """With a column ``accepted``; a check that failed in the checker is no verdict, and is accepted by none."""
        s, right = self.settings, graded["status"].to_numpy() == "pass"
        if s.filter is None:
            accepted = labelers.noisy(right, s.gamma_fp, s.gamma_fn, rng)
        else:
            given = zip(paired(self.task, graded), right, strict=True)
            accepted = np.array([bool(s.filter(*pair, bool(ok), rng)) for pair, ok in given], dtype=bool)
        return graded.assign(accepted=accepted & (graded["status"] != "error"))

    def bar(self, what: str, total: int, unit: str):
        how = {"total": total, "unit": unit, "leave": False, "disable": not self.show}
        return bar(desc=f"{self.arm} seed {self.seed} {what}", **how)

    # --- what is on disk ----------------------------------------------------------------------------------------------

    def at(self, t: int) -> Path:
        return self.folder / f"round-{t}"

    def mark(self, t: int) -> Path:
        """The file that ends round t."""
        return self.at(t) / ("final.json" if t == self.rounds else "round.json")

    def path(self, t: int, name: str) -> Path:
        return table_path(self.folder, self.base, self.seed, t, name)

    def finished(self) -> int:
        """How many of its rounds are on disk."""
        return sum(self.mark(t).exists() for t in range(self.rounds + 1))

    def read(self, t: int, name: str) -> pd.DataFrame:
        table = pd.DataFrame(runs.read_rows(self.path(t, name)), columns=TABLES[name], dtype=object)
        return table.assign(accepted=table["accepted"].astype(bool)) if "accepted" in table else table

    def once(self, t: int, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table of round t, made where it is missing; what is used is always what stands on disk."""
        if not self.path(t, name).exists():
            start = time.perf_counter()
            rows = make()[TABLES[name]].itertuples(index=False, name=None)
            runs.write_rows(self.path(t, name), (dict(zip(TABLES[name], row, strict=True)) for row in rows))
            self.clock(t, name, start)
        return self.read(t, name)

    def clock(self, t: int, what: str, start: float) -> None:
        """Wall time of a step: a note beside the artefacts, no part of them; a full disk stops at the next artefact."""
        took = {"round": t, "what": what, "seconds": round(time.perf_counter() - start, 3)}
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "times.jsonl", "a") as file:
                file.write(json.dumps(took) + "\n")

    def seconds(self, t: int) -> float:
        """What the steps of round t took, over all processes that worked on it; a torn or damaged note is skipped."""
        notes, line = self.folder / "times.jsonl", rf'^{{"round": {t}, "what": "\w+", "seconds": (-?\d+\.\d+)}}$'
        text = notes.read_text(errors="replace") if notes.exists() else ""
        return sum(map(float, re.findall(line, text, re.MULTILINE)), 0.0)


def table_path(folder: Path, base: Path, seed: int, t: int, name: str) -> Path:
    """Where a table of round t lies: what f_0 answers is shared by all arms, and its test answers by all seeds."""
    shared = {"test": base, "samples": base / f"seed-{seed}"} if t == 0 else {}
    return shared.get(name, folder / f"round-{t}") / f"{name}.jsonl"


def tabled(problems: Sequence[Problem], drawn: Sequence[Sequence[Response]]) -> pd.DataFrame:
    """A row a response, in the order of the problems."""
    numbered = ((p.id, j, r) for p, some in zip(problems, drawn, strict=True) for j, r in enumerate(some))
    rows = [(i, j, r.text, r.tokens, r.finished, r.ids) for i, j, r in numbered]
    return pd.DataFrame(rows, columns=TABLES["samples"], dtype=object)


def paired(task: Task, answers: pd.DataFrame) -> list[tuple[Problem, str]]:
    """(problem, response) of every row, as tasks grade them."""
    problems = {p.id: p for p in task.problems}
    return [(problems[i], response) for i, response in zip(answers["id"], answers["response"], strict=True)]


def sums(**columns: Sequence) -> dict[str, int]:
    return {name: int(np.sum(column)) for name, column in columns.items()}
