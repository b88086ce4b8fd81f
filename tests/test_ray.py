"""Several machines: sharded sampling is unsharded sampling, a node that dies half-way costs nothing, sweeps run on a cluster."""

import functools
import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import small_project
import yaml
from click.testing import CliRunner
from kill_points import contents

import boostlib as bl
from boostlib import cli
from boostlib.learners import sharded
from boostlib.learners.strong import TabularLearner

QUICK = dict(arms=["filter_only", "boosting"], rounds=2, k=3, steps=4, batch_size=2, shots=0, show=False)


@pytest.fixture(autouse=True)
def no_waiting_for_ever():
    """A cluster that hangs fails its test."""

    def late(*about):
        raise TimeoutError("the cluster did nothing for five minutes")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def needs_ray():
    return pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'boostlib[ray]'")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine, the run on the first."""
    ray = needs_ray()
    from ray.cluster_utils import Cluster

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def table_of(tabular) -> dict:
    return tabular._initial


def test_every_split_holds_every_prompt_once():
    for n in range(12):
        for pieces in range(1, 8):
            parts = sharded.split(n, pieces)
            assert sorted(i for part in parts for i in part) == list(range(n))
            assert len(parts) <= pieces and max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1


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


def test_a_sweep_on_ray_reports_its_failed_run_and_gathers_the_rest(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(small_project.project(tmp_path))
    spec = {"notebook": "01", "profile": "smoke", "grid": {"x": [0, 1, 2]}, "parameters": {"switch": "mended"}}
    Path("small.yaml").write_text(yaml.safe_dump(spec))
    done = CliRunner().invoke(cli.main, ["sweep", "small.yaml", "--ray", cluster.address, "--json"])
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    assert (
        len(report["computed"]) == 2
        and "ZeroDivisionError" in next(iter(report["failed"].values()))["failure"]["error"]
    )
    assert pd.read_parquet(report["table"]).run.nunique() == 2


def test_a_node_that_dies_half_way_costs_no_prompt_and_changes_no_byte(chains, tabular, cluster, tmp_path):
    bl.boost(*chains, tabular, folder=tmp_path / "alone", **QUICK)
    table, deaths = table_of(tabular), []

    class Slow(TabularLearner):
        """Slow enough that the node is at work when it dies."""

        def sample(self, prompts, k, **options):
            import time

            time.sleep(0.3)
            return super().sample(prompts, k, **options)

    class Dying(sharded.Sharded):
        def sample(self, prompts, k, *, progress=None, **options):
            def half_way(samples, tokens):
                if len(prompts) == len(chains[0].problems) and not deaths:
                    node = next(iter(cluster.worker_nodes))
                    cluster.remove_node(node, allow_graceful=False)
                    deaths.append(node)
                if progress:
                    progress(samples, tokens)

            return super().sample(prompts, k, progress=half_way, **options)

    learner = Dying(lambda: Slow(table), 2)
    bl.boost(*chains, learner, folder=tmp_path / "cluster", **QUICK)
    assert len(deaths) == 1
    assert contents(tmp_path / "cluster") == contents(tmp_path / "alone")


def test_ray_options_are_checked():
    with pytest.raises(ValueError, match="ray has an unknown key 'shard': there are address, shards"):
        sharded.on_ray("tiny", ray={"shard": 2})
    with pytest.raises(ValueError, match="ray needs shards"):
        sharded.on_ray("tiny", ray={"address": "auto"})


def test_where_it_computes_is_no_part_of_a_runs_identity(chains, tabular, tmp_path, monkeypatch):
    from boostlib import fleet

    monkeypatch.setattr(fleet, "_ready", lambda learner, options: tabular.load(None) or tabular)
    one = bl.boost(*chains, "tiny", folder=tmp_path, learner_options={}, **QUICK)
    many = bl.boost(*chains, "tiny", folder=tmp_path, learner_options={"ray": {"shards": 2}, "threads": 1}, **QUICK)
    assert one.folder.tolist() == many.folder.tolist()
