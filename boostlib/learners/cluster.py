"""A learner whose sampling is spread over the workers of a Ray cluster; training stays where the run is.

A sample's randomness comes from its key alone (see `Learner.sample`), so any split gives what one machine gives. Pieces are
Ray tasks: those of a node that dies are drawn again on another. Not covered: training on several machines.
"""

from __future__ import annotations

import functools
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boostlib.learners import Example, Learner, Response

PIECES = 4  # a worker gets this many pieces, so that a slow or late one holds up little
PATIENCE = 600.0  # seconds without any sample after which the state of the cluster is told


class Sharded:
    """The learner of ``make()``, sampling on ``shards`` Ray tasks at a time of ``cpus`` and ``gpus`` each. ``make`` is called
    once a worker process and must give the same weights everywhere; ``address``: the cluster (None: the one that runs, or
    this machine). Raises ValueError where Ray is missing or no cluster answers."""

    def __init__(
        self,
        make: Callable[[], Learner],
        shards: int,
        *,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
    ) -> None:
        if shards < 1:
            raise ValueError(f"shards = {shards} is not possible: it must be at least 1")
        self._ray = connect(address)
        self._here, self.shards = make(), shards
        self.name = self._here.name
        self._make = self._ray.put(make)
        self._trained = False
        self._weights: Any = None  # a reference to the packed weights, for the state they were packed in
        self._needs = {name: n for name, n in (("CPU", cpus), ("GPU", gpus)) if n}
        self._draw = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(_draw)

    def sample(
        self,
        prompts: Sequence[str],
        k: int,
        *,
        keys: Sequence[tuple[int, ...]],
        progress: Callable[[int, int], None] | None = None,
        **sampling: Any,
    ) -> list[list[Response]]:
        """As `Learner.sample`: the same responses in the same order, whatever the number of shards."""
        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many keys, not {len(keys)}")
        weights = self._packed()
        pieces = split(len(prompts), self.shards * PIECES)
        at = {
            self._draw.remote(
                [self._make], [weights], [prompts[i] for i in piece], k, [keys[i] for i in piece], sampling
            ): piece
            for piece in pieces
        }
        drawn: list[list[Response] | None] = [None] * len(prompts)
        waiting = list(at)
        try:
            while waiting:
                done, waiting = self._next(waiting)
                for i, responses in zip(at[done], self._ray.get(done), strict=True):
                    drawn[i] = responses
                    if progress:
                        progress(len(responses), sum(r.tokens for r in responses))
        except BaseException:
            for piece in waiting:
                self._ray.cancel(piece)
            raise
        assert None not in drawn, "every prompt was sampled"
        return drawn

    def _next(self, waiting: list) -> tuple[Any, list]:
        """A piece that is done, and the others. Ray's own wait can't be interrupted, and is silent where it waits for ever."""
        told = time.monotonic()
        while True:
            done, rest = self._ray.wait(waiting, timeout=1)
            if done:
                return done[0], rest
            if time.monotonic() - told > PATIENCE:
                told = time.monotonic()
                warnings.warn(f"no sample for {PATIENCE:.0f} s: {self._cluster()}", RuntimeWarning, stacklevel=3)

    def _cluster(self) -> str:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fit = sum(all(node.get(name, 0) >= n for name, n in self._needs.items()) for node in nodes)
        needs = " and ".join(f"{n:g} {name}" for name, n in self._needs.items())
        return (
            f"a piece takes {needs}, which {fit} of the cluster's {len(nodes)} nodes have. `ray status` tells what is busy; "
            "a node short of memory kills its workers again and again, which raylet.out in its Ray logs says"
        )

    def fine_tune(self, examples: Sequence[Example], **options: Any) -> dict[str, float]:
        self._trained, self._weights = True, None
        return self._here.fine_tune(examples, **options)

    def save(self, folder: Path) -> None:
        self._here.save(folder)

    def load(self, folder: Path | None) -> None:
        self._trained, self._weights = folder is not None, None
        self._here.load(folder)

    def fingerprint(self) -> str:
        return self._here.fingerprint()

    def _packed(self) -> Any:
        """The current weights in Ray's store, once; None where they are those that ``make`` gives."""
        if self._trained and self._weights is None:
            with tempfile.TemporaryDirectory() as folder:
                self._here.save(Path(folder) / "model")
                files = {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
            self._weights = self._ray.put(files)
        return self._weights


def split(n: int, pieces: int) -> list[range]:
    """0..n-1 in at most ``pieces`` parts whose sizes differ by one at most; nothing is dropped. Neighbours are dealt to
    different parts, so that a task sorted by length does not make one part slow."""
    parts = max(1, min(pieces, n))
    return [range(start, n, parts) for start in range(min(parts, n))]


def on_ray(name: str, *, ray: Mapping[str, Any], **options: Any) -> Sharded:
    """`load_learner(name, **options)` sharded: ``ray`` is {address, shards, cpus, gpus}, the learner_options of the notebooks."""
    known = ("address", "shards", "cpus", "gpus")
    for key in ray:
        if key not in known:
            raise ValueError(f"learner_options: ray has an unknown key {key!r}: there are {', '.join(known)}")
    if "shards" not in ray:
        raise ValueError("learner_options: ray needs shards, the number of samplers that work at a time")
    return Sharded(functools.partial(_load, name, options), **ray)


def _load(name: str, options: dict[str, Any]) -> Learner:
    from boostlib.learners.lm import load_learner

    return load_learner(name, **options)


def connect(address: str | None) -> Any:
    """Ray, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "sampling on several machines needs Ray, which is not installed: pip install 'boostlib[ray]'"
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = (str(error).splitlines() or ["no answer"])[0]
            raise ValueError(
                f"no Ray cluster answers at {address!r} ({first}); start one with: ray start --head"
            ) from None
    return ray


# --- on a worker ------------------------------------------------------------------------------------------------------

_learner: tuple[Any, Any, Learner] | None = None  # a worker process keeps its learner: (make, weights, learner)


def _draw(make: list, weights: list, prompts: list[str], k: int, keys: list, sampling: dict) -> list[list[Response]]:
    """One piece. ``make`` and ``weights`` come as references in lists: they are fetched only where they changed."""
    return _placed(make[0], weights[0]).sample(prompts, k, keys=keys, **sampling)


def _placed(make: Any, weights: Any) -> Learner:
    import ray

    global _learner
    if _learner is None or _learner[0] != make:
        _learner = (make, None, ray.get(make)())
    if _learner[1] != weights:
        learner = _learner[2]
        _learner = None  # were loading to fail half-way, nothing may sample from the mixture
        if weights is None:
            learner.load(None)
        else:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in ray.get(weights).items():
                    path = Path(folder) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                learner.load(Path(folder) / "model")
        _learner = (make, weights, learner)
    return _learner[2]
