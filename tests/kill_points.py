"""A small run that is killed: once before every change to the file system and at every torn write, or at random times.

Started once by test_faults.py: each life is a fork of this warm process, so that hundreds of deaths take seconds.
    python kill_points.py points FOLDER        every point, one fresh folder a point
    python kill_points.py random FOLDER        a longer run, killed at random times until it is done, again and again
    python kill_points.py checkpoints FOLDER   a run of a small language model, killed before each checkpoint gets its name
"""

import builtins
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.std import tqdm

import boostlib as bl
from boostlib import runs
from boostlib.learners.tabular import TabularLearner

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate")
QUICK = dict(k=2, steps=4, batch_size=2, shots=0, show=False, gamma_fp=0.1, gamma_fn=0.1)


TRAIN, TEST = bl.load_task("arithmetic", "train", n=12), bl.load_task("arithmetic", "test", n=3)


def run(folder: Path, n: int = 6, rounds: int = 2, seeds: tuple[int, ...] = (0,)) -> None:
    task, test = replace(TRAIN, problems=TRAIN.problems[:n]), TEST
    table = {p.prompt: {p.reference: 0.3, "0#0.5": 0.7} for t in (task, test) for p in t.problems}
    arms = ["filter_only", "boosting"]
    bl.boost(task, test, TabularLearner(table), arms=arms, rounds=rounds, seeds=seeds, folder=folder, **QUICK)


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all artefacts: not of notes on time and place, nor of what a killed process left half-written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and path.name not in ("times.jsonl", "environment.json"):
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Counter:
    """Counts write points and dies at the chosen one. A point: before a change to the file system, before an fsync, and
    within a write, of which half has reached the disk then."""

    def __init__(self, limit: int) -> None:
        self.limit, self.points, self.kinds = limit, 0, {}

    def arm(self) -> None:
        sys.addaudithook(self.audit)
        self.fsync, os.fsync = os.fsync, self.synced
        self.open = io.open
        builtins.open = io.open = self.opened  # Path.write_text and os.fdopen look it up in io

    def point(self, kind: str, before_death=lambda: None) -> None:
        self.points += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.points == self.limit:
            before_death()
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, args: tuple) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES or writes:
            self.point(event)

    def synced(self, handle: int) -> None:
        self.point("fsync")
        self.fsync(handle)

    def opened(self, file, mode="r", *rest, **named):
        opened = self.open(file, mode, *rest, **named)
        if any(letter in mode for letter in "wa+x"):
            write = opened.write

            def torn(content):
                def half():
                    write(content[: len(content) // 2])
                    opened.flush()

                self.point("write", half)
                return write(content)

            try:
                opened.write = torn
            except AttributeError:
                return opened
        return opened


def life(folder: Path, limit: int, report: Path | None = None, **options) -> int:
    """Run in a child; its exit status, -9 where it was killed."""
    child = os.fork()
    if not child:
        try:
            counter = Counter(limit)
            counter.arm()
            run(folder, **options)
            if report:
                kinds = json.dumps(counter.kinds)
                os.write(os.open(report, os.O_WRONLY | os.O_CREAT), kinds.encode())
            os._exit(0)
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def points(folder: Path) -> dict:
    assert life(folder / "whole", 0, folder / "points") == 0
    kinds = json.loads((folder / "points").read_text())
    expected, wrong, seconds = contents(folder / "whole"), [], time.perf_counter()
    for limit in range(1, sum(kinds.values()) + 1):
        here = folder / "killed"
        died, ended = life(here, limit), life(here, 0)
        if (died, ended) != (-9, 0) or contents(here) != expected:
            wrong.append((limit, died, ended))
        shutil.rmtree(here)
    return {"kinds": kinds, "wrong": wrong, "files": len(expected), "seconds": time.perf_counter() - seconds}


def at_random(folder: Path, repeats: int = 6) -> dict:
    longer = dict(n=12, rounds=6, seeds=(0, 1))
    start = time.perf_counter()
    assert life(folder / "whole", 0, **longer) == 0
    alone, expected, rng = time.perf_counter() - start, contents(folder / "whole"), np.random.default_rng(0)
    deaths, wrong = 0, []
    for repeat in range(repeats):
        here, lives = folder / f"killed-{repeat}", 0
        while True:
            child = os.fork()
            if not child:
                run(here, **longer)
                os._exit(0)
            patience = alone * 1.3**lives  # a machine that has become slow must let a life get further than the last
            end, lives = time.monotonic() + rng.uniform(0.02, 0.4) * patience, lives + 1
            while time.monotonic() < end and not (status := os.waitpid(child, os.WNOHANG))[0]:
                time.sleep(0.002)
            if status[0]:
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            deaths += 1
        if os.waitstatus_to_exitcode(status[1]) or contents(here) != expected:
            wrong.append(repeat)
    return {"deaths": deaths, "wrong": wrong, "files": len(expected)}


def checkpoints(folder: Path) -> dict:
    from boostlib.learners.load import load_learner

    def once(here: Path, die_at: int = 0) -> int:
        named, replace_ = 0, os.replace

        def counted(source, target):
            nonlocal named
            named += Path(target).name == "model"
            if named == die_at and Path(target).name == "model":
                os.kill(os.getpid(), signal.SIGKILL)
            replace_(source, target)

        os.replace = counted
        options = QUICK | {"arms": ["boosting"], "rounds": 2, "steps": 2, "max_new_tokens": 4, "folder": here}
        bl.boost(TRAIN, TEST, load_learner("tiny", hidden=16, layers=1), **options)
        os.replace = replace_
        return named

    deaths, wrong = once(folder / "whole"), []
    expected = contents(folder / "whole")
    for die_at in range(1, deaths + 1):
        child, here = os.fork(), folder / f"killed-{die_at}"
        if not child:
            once(here, die_at)
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        once(here)
        if died != -9 or contents(here) != expected:
            wrong.append(die_at)
    return {"deaths": deaths, "wrong": wrong, "files": len(expected)}


if __name__ == "__main__":
    runs.files.environment = lambda: {
        "started": str(time.time())
    }  # a note that is never compared; the real one asks git
    tqdm.monitor_interval = 0  # tqdm's lock is shared by forks: one killed while it holds it would stop all others
    tqdm.set_lock(threading.RLock())
    run(Path(sys.argv[2]) / "warm")  # imports once, before the forks
    what = {"points": points, "random": at_random, "checkpoints": checkpoints}[sys.argv[1]]
    print(json.dumps(what(Path(sys.argv[2]))))
