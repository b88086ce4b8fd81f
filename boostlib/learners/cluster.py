"""A learner whose sampling is spread over a Ray cluster by Ray Data; training stays where the run is.

A sample's randomness comes from its key alone (see `Learner.sample`), so any split gives what one machine gives. Ray Data
deals out the pieces and draws those of a lost node again. Not covered: training on several machines.
"""

from __future__ import annotations

import functools
import logging
import pickle
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boostlib.learners import Example, Learner, Response, Sampling

PIECES = 4  # a shard gets this many pieces, so that a slow or late one holds up little
PATIENCE = 600.0  # seconds without any sample after which the state of the cluster is told
OPTIONS = ("address", "shards", "cpus", "gpus")


class Sharded:
    """The learner of ``make()``, whose `sample` runs on up to ``shards`` processes of ``cpus`` and ``gpus`` each.
    ``address``: the cluster (None: the one that runs, or this machine). Raises ValueError where Ray is missing or no
    cluster answers."""

    def __init__(
        self, make: Callable[[], Learner], shards: int, *, address: str | None = None, cpus: float = 1, gpus: float = 0
    ) -> None:
        if shards < 1:
            raise ValueError(f"shards = {shards} is not possible: it must be at least 1")
        self._ray = connect(address)
        self._here, self.shards, self.cpus, self.gpus = make(), shards, cpus, gpus
        self.name, self.save, self.fingerprint = self._here.name, self._here.save, self._here.fingerprint
        self._make, self._weights = self._ray.put(make), None  # references; None: weights that are not there yet

    def sample(self, prompts, k, *, keys, sampling=Sampling(), progress=None) -> list[list[Response]]:
        """As `Learner.sample`: the same responses in the same order, whatever the number of shards."""
        from ray import data

        if len(keys) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many keys, not {len(keys)}")
        if not prompts:
            return []
        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False  # the loop shows its own
        context.execution_no_progress_timeout_s = -1  # a piece takes as long as it takes
        context.raise_original_map_exception = True  # what a learner says, not where Ray said it
        n, drawn = len(prompts), {}
        # Ray ends a process that held a GPU: another piece would read the model anew.
        parts = min(n, self.shards * (1 if self.gpus else PIECES))
        # Neighbours are dealt to different pieces, so that a task sorted by length does not make one of them slow.
        jobs = [(i, prompts[i], keys[i]) for start in range(parts) for i in range(start, n, parts)]
        rows = data.from_items([{"job": pickle.dumps(job)} for job in jobs], override_num_blocks=parts).map_batches(
            draw, batch_size=None, compute=data.TaskPoolStrategy(min(self.shards, parts)), num_cpus=self.cpus,
            num_gpus=self.gpus, fn_args=([self._make], [self._packed()], k, sampling),
        ).iter_rows()  # fmt: skip
        late = threading.Timer(PATIENCE, self._tell)
        late.daemon = True
        late.start()
        try:
            for row in rows:
                late.cancel()
                i, responses = pickle.loads(row["drawn"])
                drawn[i] = responses
                if progress:
                    progress(len(responses), sum(r.tokens for r in responses))
        finally:
            late.cancel()
        return [drawn[i] for i in range(n)]

    def fine_tune(self, examples: Sequence[Example], **options: Any) -> dict[str, float]:
        self._weights = None
        return self._here.fine_tune(examples, **options)

    def load(self, folder: Path | None) -> None:
        self._weights = None
        self._here.load(folder)

    def _packed(self) -> Any:
        """The current weights in Ray's store, put there once after each change."""
        if self._weights is None:
            with tempfile.TemporaryDirectory() as folder:
                self.save(Path(folder) / "model")
                files = [p for p in Path(folder, "model").iterdir() if p.is_file()]
                self._weights = self._ray.put({p.name: p.read_bytes() for p in files})
        return self._weights

    def _tell(self) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fit = sum(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in nodes)
        warnings.warn(
            f"no sample for {PATIENCE:.0f} s: a piece takes {self.cpus:g} CPU and {self.gpus:g} GPU, which {fit} of the "
            f"cluster's {len(nodes)} nodes have; `ray status` tells what is busy",
            RuntimeWarning, stacklevel=2,
        )  # fmt: skip


def on_ray(name: str, *, ray: Mapping[str, Any], **options: Any) -> Sharded:
    """`load_learner(name, **options)` sharded: ``ray`` is {address, shards, cpus, gpus}, of the notebooks' learner_options."""
    from boostlib.learners.load import load_learner

    for key in ray:
        if key not in OPTIONS:
            raise ValueError(f"learner_options: ray has an unknown key {key!r}: there are {', '.join(OPTIONS)}")
    if "shards" not in ray:
        raise ValueError("learner_options: ray needs shards, the number of samplers that work at a time")
    return Sharded(functools.partial(load_learner, name, **options), **ray)


def connect(address: str | None) -> Any:
    """Ray, connected to a cluster. Ray itself asks a wrong address for ever, so somebody must answer there first."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("sampling on several machines needs Ray: pip install 'boostlib[ray]'") from error
    if not ray.is_initialized():
        try:
            host, _, port = (address or "").removeprefix("ray://").rpartition(":")
            if host:
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            why = f"{address!r} ({str(error).partition(chr(10))[0]})"
            raise ValueError(f"no Ray cluster answers at {why}; start one with: ray start --head") from None
    logging.getLogger("ray.data").setLevel("ERROR")  # it reports every start and end
    return ray


# --- on a worker, whose process is used again for the next piece ------------------------------------------------------


def draw(batch: dict, make: list, weights: list, k: int, sampling: Sampling) -> dict:
    """One piece. ``make`` and ``weights`` come as references in lists: they are fetched only where they changed."""
    at, prompts, keys = zip(*map(pickle.loads, batch["job"]), strict=True)
    drawn = _placed(make[0], weights[0]).sample(prompts, k, keys=keys, sampling=sampling)
    return {"drawn": [pickle.dumps(pair) for pair in zip(at, drawn, strict=True)]}


@functools.lru_cache(maxsize=1)
def _made(make: Any) -> Learner:
    import ray

    return ray.get(make)()


@functools.lru_cache(maxsize=1)
def _placed(make: Any, weights: Any) -> Learner:
    import ray

    learner = _made(make)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in ray.get(weights).items():
            Path(folder, name).write_bytes(content)
        learner.load(Path(folder))
    return learner
