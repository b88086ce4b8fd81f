"""A run of all arms for which the theory is exact."""

import numpy as np
import pytest

import boostlib as bl
from boostlib.learners.tabular import coins_learner

N, ETA = 300, 0.05
ARMS = ["do_nothing", "filter_only", "self_labeled", "boosting", "uniform", "labels_only"]


@pytest.fixture(scope="session")
def coins(tmp_path_factory):
    """All arms of the tabular learner, for which the theory is exact; a third of the coins is hopeless."""
    rng = np.random.default_rng(0)
    p0 = np.where(rng.random(N) < 0.35, 0.0, rng.beta(2.0, 1.0, N))
    task = bl.load_task("coins", "train", n=N)
    folder = tmp_path_factory.mktemp("coins")
    setting = dict(k=2, beta=0.3, gamma_fp=0.1, gamma_fn=0.05, steps=1, shots=0, show=False, folder=folder)
    learner = coins_learner(task, p0, ETA)
    return bl.boost(task, task, learner, arms=ARMS, seeds=[0, 1, 2], rounds=3, **setting)
