"""Several machines: sharded sampling is unsharded sampling, a node that dies half-way costs nothing, sweeps run on a cluster."""

import contextlib
import functools
import json
import os
import signal
import socket
import time
from pathlib import Path

import pandas as pd
import pytest
import small_project
import yaml
from click.testing import CliRunner
from kill_points import contents

import boostlib as bl
from boostlib.learners import cluster as sharded
from boostlib.learners.tabular import TabularLearner
from boostlib.runner import cli

LATE = 90  # seconds after which a cluster that does nothing fails its test; a busy machine takes a sixth of it
BUSY_MACHINE = {  # what would make a cluster of this machine wait for ever, or for long, where other programs run
    "RAY_worker_niceness": "0",  # at Ray's own 15 a worker may not start within the time that it is given, again and again
    "RAY_worker_register_timeout_seconds": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_memory_monitor_refresh_ms": "0",  # it kills workers where programs of others have filled the memory
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",  # a dead node is noticed after five of these
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
QUICK = dict(arms=["filter_only", "boosting"], rounds=2, k=3, steps=4, batch_size=2, shots=0, show=False)


@contextlib.contextmanager
def soon(what: str):
    """A cluster that hangs fails its test, and stalls nothing."""

    def late(*about):
        raise TimeoutError(f"{what} took more than {LATE} seconds; see /tmp/ray/session_latest/logs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LATE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_waiting_for_ever():
    with soon("the test"):
        yield


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine, the run on the first, which has two CPUs and outlives the other."""
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'boostlib[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in BUSY_MACHINE.items():
            patch.setenv(name, value)
        import ray
        from ray.cluster_utils import Cluster

        with soon("starting the cluster"):
            node = {"object_store_memory": 80 * 2**20, "include_log_monitor": False}
            head = node | {"num_cpus": 2, "include_dashboard": False, "no_monitor": True}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            cluster.add_node(wait=False, num_cpus=1, **node)
            cluster.wait_for_nodes(timeout=LATE)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        with soon("stopping the cluster"):
            ray.shutdown()
            cluster.shutdown()


def table_of(tabular) -> dict:
    return tabular._initial


def test_sharded_sampling_is_unsharded_sampling_before_and_after_training(chains, tabular, cluster):
    task, _ = chains
    prompts, keys = [p.prompt for p in task.problems], [(7, 0, 0, i) for i in range(len(task.problems))]
    shards = sharded.Sharded(functools.partial(TabularLearner, table_of(tabular)), 3)
    seen = []
    assert shards.sample(prompts, 5, keys=keys, progress=lambda *n: seen.append(n)) == tabular.sample(
        prompts, 5, keys=keys
    )
    assert sum(n for n, _ in seen) == 5 * len(prompts)
    examples = [bl.learners.Example(p.prompt, p.reference) for p in task.problems[::3]]
    for learner in (shards, tabular):
        learner.fine_tune(examples, steps=1, batch_size=1, lr=0.1, seed=0)
    trained = shards.sample(prompts, 5, keys=keys)
    assert trained == tabular.sample(prompts, 5, keys=keys)
    shards.load(None)
    tabular.load(None)
    assert trained != shards.sample(prompts, 5, keys=keys) == tabular.sample(prompts, 5, keys=keys)


def test_what_a_learner_says_on_a_worker_is_said_here(tabular, cluster):
    shards = sharded.Sharded(functools.partial(TabularLearner, table_of(tabular)), 2)
    assert shards.sample([], 5, keys=[]) == []
    with pytest.raises(ValueError, match="the table has no prompt 'unknown'; it was built from"):
        shards.sample(["unknown"], 1, keys=[(0, 0, 0, 0)])


def test_waiting_for_a_cluster_is_told_and_can_be_interrupted(cluster, monkeypatch):
    import ray

    monkeypatch.setattr(sharded, "PATIENCE", 0.5)
    here = os.getpid()

    class Endless(TabularLearner):
        def sample(self, prompts, k, **options):
            time.sleep(2.5)
            os.kill(here, signal.SIGINT)  # what Jupyter does for a user who has waited long enough
            while True:
                time.sleep(0.02)

    learner = sharded.Sharded(lambda: Endless({"a": {"x": 1.0}}), 1)
    with pytest.warns(
        RuntimeWarning, match="no sample for 0 s: a piece takes 1 CPU and 0 GPU, which [12] of the cluster's [12] nodes"
    ):
        with pytest.raises(KeyboardInterrupt):
            learner.sample(["a"], 1, keys=[(0, 0, 0, 0)])
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:  # nothing of it goes on
        time.sleep(0.1)


def test_a_node_that_dies_half_way_costs_no_prompt_and_changes_no_byte(chains, tabular, cluster, tmp_path):
    import ray

    bl.boost(*chains, tabular, folder=tmp_path / "alone", **QUICK)
    table, node = table_of(tabular), next(iter(cluster.worker_nodes))
    doomed, armed, at_work = node.node_id, tmp_path / "armed", tmp_path / "at_work"

    class Stuck(TabularLearner):
        """On the node that is to die it gets to no end, and the others wait for it: it dies with a piece under way."""

        def sample(self, prompts, k, **options):
            if armed.exists() and ray.get_runtime_context().get_node_id() == doomed:
                at_work.touch()
                time.sleep(10 * LATE)
            while armed.exists() and not at_work.exists():
                time.sleep(0.02)
            return super().sample(prompts, k, **options)

    class Dying(sharded.Sharded):
        def sample(self, prompts, k, *, progress=None, **options):
            def half_way(samples, tokens):
                if armed.exists():
                    cluster.remove_node(node, allow_graceful=False)
                    armed.unlink()
                if progress:
                    progress(samples, tokens)

            if len(prompts) == len(chains[0].problems) and not at_work.exists():
                armed.touch()
            return super().sample(prompts, k, progress=half_way, **options)

    learner = Dying(lambda: Stuck(table), 3)
    bl.boost(*chains, learner, folder=tmp_path / "cluster", **QUICK)
    assert at_work.exists() and not armed.exists() and not cluster.worker_nodes
    assert contents(tmp_path / "cluster") == contents(tmp_path / "alone")


def test_a_sweep_on_ray_reports_its_failed_run_and_gathers_the_rest(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(small_project.project(tmp_path))
    spec = {"notebook": "01", "profile": "smoke", "grid": {"x": [0, 1]}, "parameters": {"switch": "mended"}}
    Path("small.yaml").write_text(yaml.safe_dump(spec))
    done = CliRunner().invoke(cli.main, ["sweep", "small.yaml", "--ray", cluster.address, "--workers", "2", "--json"])
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    (failed,) = report["failed"].values()
    assert len(report["computed"]) == 1 and "ZeroDivisionError" in failed["failure"]["error"]
    assert set(pd.read_parquet(report["table"]).x) == {1}


def test_a_wrong_address_is_one_sentence_within_seconds(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'boostlib[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address, begin = f"127.0.0.1:{nobody.getsockname()[1]}", time.monotonic()
        for wrong in (address, f"ray://{address}", "nonsense"):
            with pytest.raises(ValueError, match=f"no Ray cluster answers at '{wrong}' .*; start one with: ray start"):
                sharded.connect(wrong)
    assert time.monotonic() - begin < 30


def test_ray_options_are_checked():
    with pytest.raises(ValueError, match="ray has an unknown key 'shard': there are address, shards"):
        sharded.on_ray("tiny", ray={"shard": 2})
    with pytest.raises(ValueError, match="ray needs shards"):
        sharded.on_ray("tiny", ray={"address": "auto"})


def test_where_it_computes_is_no_part_of_a_runs_identity(chains, tabular, tmp_path, monkeypatch):
    from boostlib.boosting import many as fleet

    monkeypatch.setattr(fleet, "_ready", lambda learner, options: tabular.load(None) or tabular)
    one = bl.boost(*chains, "tiny", folder=tmp_path, learner_options={}, **QUICK)
    many = bl.boost(*chains, "tiny", folder=tmp_path, learner_options={"ray": {"shards": 2}, "threads": 1}, **QUICK)
    assert one.folder.tolist() == many.folder.tolist()
