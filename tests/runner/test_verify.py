"""A fresh run is held against the record: inside its spread elsewhere, to the last digit on the same machine."""

import pandas as pd
import pytest
import small_project
from click.testing import CliRunner

from boostlib import experiment, runs
from boostlib.runner import cli

ROUNDS = pd.DataFrame(
    {"arm": ["a"] * 3, "seed": [0, 1, 2], "round": 1, "accuracy": [0.5, 0.6, 0.7], "n": 100, "seconds": 1.0}
)
FINAL = pd.DataFrame({"arm": ["a", "b"], "mean": [0.6, 0.8], "low": [0.5, 0.7], "high": [0.7, 0.9], "verdict": "lower"})
FINAL["share"] = [0.1, float("nan")]  # without an interval


@pytest.fixture
def save(tmp_path, monkeypatch):
    monkeypatch.chdir(small_project.project(tmp_path))
    told = experiment.runs.environment()

    def save(place: str, cpu: str = "one", about: int = 1, final: pd.DataFrame = FINAL, rounds: pd.DataFrame = ROUNDS):
        monkeypatch.setattr(runs, "environment", lambda: told | {"machine": {"cpu": cpu}})
        monkeypatch.setattr(runs, "context", lambda: {"tables": str(tmp_path / place / "mini")})
        experiment.save_tables("02_small", "mini", {"rounds": rounds, "final": final}, {"about": about})

    save("papermill_runs")
    return save


def verify(code: int, *words: str) -> str:
    done = CliRunner().invoke(cli.main, ["verify", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_on_the_same_machine_all_but_times_are_equal(save):
    save("runs/tables", rounds=ROUNDS.assign(seconds=9.0))
    assert verify(0) == "16 values equal to the last digit\n"
    save("runs/tables", final=FINAL.assign(verdict=["lower", "higher"], mean=[0.6, 0.8000001]))
    assert verify(1).splitlines() == [
        "02_small/final.csv  arm b: mean recorded 0.8, fresh 0.8000001",
        "02_small/final.csv  arm b: verdict recorded lower, fresh higher",
        "16 values compared, 2 differ",
    ]


def test_on_another_the_recorded_interval_widened_by_the_fresh_one_decides(save):
    near, far = FINAL.assign(mean=[0.79, 0.61], low=[0.69, 0.51], high=[0.89, 0.71]), FINAL.assign(mean=[0.81, 0.8])
    save("runs/tables", "two", final=near)
    assert "within the recorded spread" in verify(0)
    save("runs/tables", "two", final=far.assign(share=[0.14, float("nan")]))
    assert "final.csv  arm a: mean recorded 0.6, fresh 0.81 (expected 0.4 to 0.8)" in verify(1)
    assert "share" in verify(1, "--tolerance", "0.01")


def test_the_spread_of_a_table_of_seeds_is_that_over_its_seeds(save):
    save("runs/tables", "two", rounds=ROUNDS.assign(accuracy=[0.9, 0.8, 0.85], n=[98, 99, 100]))  # t: 0.352 to 0.848
    verify(0)
    save("runs/tables", "two", rounds=ROUNDS.assign(accuracy=[0.99, 0.98, 1.0], n=80))
    told = verify(1)
    assert "rounds.csv  arm a, round 1: accuracy recorded 0.6, fresh 0.99" in told
    assert "n recorded 100, fresh 80 (expected 95 to 105)" in told


def test_what_is_missing_or_made_of_other_data_is_said(save, tmp_path):
    assert "no tables in" in verify(2) and "boostlib run --profile mini" in verify(2)
    save("runs/tables", "two", about=2, final=FINAL.iloc[:1])
    told = verify(1)
    assert "02_small  made with other parameters" in told and "arm b: mean recorded 0.8, fresh missing" in told
    (tmp_path / "runs" / "tables" / "mini" / "02_small" / "final.csv").unlink()
    assert "02_small/final.csv  not made here" in verify(1)
