"""A learner whose sampling is spread over a Ray cluster by Ray Data; training stays where the run is.

A sample's randomness comes from its key alone, so any split gives what one machine gives. Ray Data deals out the pieces
and draws those of a lost node again. Not covered: training on several machines."""

import functools
import logging
import pickle
import socket
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boostlib.learners import Example, Learner, Response, Sampling

PIECES = 4  # a shard gets this many pieces, so that a slow or late one holds up little
PATIENCE = 600.0  # seconds without any sample after which the state of the cluster is told
OPTIONS = ("address", "shards", "cpus", "gpus")


class Sharded:
    """The `Learner` of ``make()``, whose `sample` runs on up to ``shards`` processes of ``cpus`` and ``gpus`` each.
    ``address``: the cluster (None: one that runs, or this machine). ValueError where Ray is missing or none answers."""

    def __init__(self, make, shards: int, *, address: str | None = None, cpus: float = 1, gpus: float = 0) -> None:
        self._ray, self._make, self._here = connect(address), make, make()
        self.shards, self.cpus, self.gpus = shards, cpus, gpus
        self.name, self.save, self.fingerprint = self._here.name, self._here.save, self._here.fingerprint
        self._there: Any = None  # what `_learner` makes of it, in Ray's store; None: not as the learner is now

    def sample(self, prompts, k, *, keys, sampling=Sampling(), progress=None) -> list[list[Response]]:
        """As `Learner.sample`: the same responses in the same order, whatever the number of shards."""
        from ray import data

        if not prompts:
            return []
        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False  # the loop shows its own
        context.execution_no_progress_timeout_s = -1  # a piece takes as long as it takes
        context.raise_original_map_exception = True  # what a learner says, not where Ray said it
        if self._there is None:
            with tempfile.TemporaryDirectory() as folder:
                self.save(Path(folder) / "model")
                files = {p.name: p.read_bytes() for p in Path(folder, "model").iterdir() if p.is_file()}
            self._there = self._ray.put((self._make, files))
        # Ray ends a process that held a GPU: another piece would read the model anew.
        parts = min(len(prompts), self.shards * (1 if self.gpus else PIECES))
        # Neighbours are dealt to different pieces, so that a task sorted by length does not make one of them slow.
        jobs = [pickle.dumps(job) for job in zip(range(len(prompts)), prompts, keys, strict=True)]
        rows = [{"job": job} for start in range(parts) for job in jobs[start::parts]]
        where = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        how = {"batch_size": None, "compute": data.TaskPoolStrategy(min(self.shards, parts)), **where}
        made = data.from_items(rows, override_num_blocks=parts)
        made = made.map_batches(draw, fn_args=([self._there], k, sampling), **how)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fit = sum(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in nodes)
        piece, share = f"{self.cpus:g} CPU and {self.gpus:g} GPU", f"{fit} of the cluster's {len(nodes)} nodes"
        told = f"no sample for {PATIENCE:.0f} s: a piece takes {piece}, which {share} have; see `ray status`"
        late, drawn = threading.Timer(PATIENCE, warnings.warn, (told, RuntimeWarning)), {}
        late.start()
        try:
            for row in made.iter_rows():
                late.cancel()
                i, drawn[i] = pickle.loads(row["drawn"])
                if progress:
                    progress(k, sum(r.tokens for r in drawn[i]))
        finally:
            late.cancel()
        return [drawn[i] for i in range(len(prompts))]

    def fine_tune(self, examples: Sequence[Example], **options: Any) -> dict[str, float]:
        self._there = None
        return self._here.fine_tune(examples, **options)

    def load(self, folder: Path | None) -> None:
        self._there = None
        self._here.load(folder)


def on_ray(name: str, *, ray: Mapping[str, Any], **options: Any) -> Sharded:
    """`load_learner(name, **options)` sharded: ``ray`` has some of OPTIONS, shards at least."""
    from boostlib.learners.load import load_learner

    if unknown := [key for key in ray if key not in OPTIONS]:
        raise ValueError(f"learner_options: ray has an unknown key {unknown[0]!r}: there are {', '.join(OPTIONS)}")
    if ray.get("shards", 0) < 1:
        raise ValueError("learner_options: ray needs shards, the number of samplers that work at a time (at least 1)")
    return Sharded(functools.partial(load_learner, name, **options), **ray)


def connect(address: str | None) -> Any:
    """Ray, connected to a cluster. Ray itself asks a wrong address for ever, so somebody must answer there first."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("several machines need Ray, which is not installed: pip install 'boostlib[ray]'") from error
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


def draw(batch: dict, there: list, k: int, sampling: Sampling) -> dict:
    """One piece, on a worker. The learner comes as a reference in a list: it is fetched only where it changed."""
    at, prompts, keys = zip(*map(pickle.loads, batch["job"]), strict=True)
    drawn = _learner(there[0]).sample(prompts, k, keys=keys, sampling=sampling)
    return {"drawn": [pickle.dumps(pair) for pair in zip(at, drawn, strict=True)]}


@functools.lru_cache(maxsize=1)  # a worker's process is used again for the next piece
def _learner(there: Any) -> Learner:
    import ray

    make, files = ray.get(there)
    learner = make()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        learner.load(Path(folder))
    return learner
