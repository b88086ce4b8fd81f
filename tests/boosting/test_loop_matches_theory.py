"""The loop that trains language models, run with the tabular learner, lands on the exact chain."""

import numpy as np
import pytest

import boostlib as bl
from boostlib.boosting import many
from boostlib.learners.tabular import coins_learner

N, ROUNDS = 600, 4


@pytest.mark.parametrize("arm", list(bl.ARMS))
@pytest.mark.parametrize(
    "noise",
    [
        dict(gamma_fp=0.0, gamma_fn=0.0, beta=0.3, weak_data="A", k=3, eta=0.0, m=2),
        dict(gamma_fp=0.2, gamma_fn=0.1, beta=0.2, weak_data="A", k=2, eta=0.05, m=3),
        dict(gamma_fp=0.1, gamma_fn=0.3, beta=0.5, weak_data="all", k=4, eta=0.02, m=1),
    ],
    ids=["clean", "noisy", "unfiltered"],
)
def test_the_loop_is_the_chain(arm, noise, tmp_path):
    noise = dict(noise)
    eta, m, k = noise.pop("eta"), noise.pop("m"), noise.pop("k")
    task = bl.load_task("coins", "train", n=N)
    p0 = np.resize([0.0, 0.15, 0.6, 1.0], N)
    table = bl.boost(
        task,
        bl.load_task("coins", "test", n=4),
        coins_both(task, p0, eta),
        arms=[arm],
        rounds=ROUNDS,
        folder=tmp_path,
        k=k,
        labels_per_prompt=None if arm in ("do_nothing", "filter_only") else m,
        steps=1,
        shots=0,
        show=False,
        **noise,
    )
    exact = bl.theory.Dynamics(k=k, m=m, eta=eta, **noise).arm(arm)
    samples = many.read(table, "verdicts").assign(right=lambda rows: rows.status == "pass")
    for t in range(ROUNDS + 1):
        share = samples[samples["round"] == t].groupby("id").right.mean().to_numpy()
        expected = exact.exact(p0, ROUNDS)[t]
        error = max(share.std() / np.sqrt(N), 1 / (N * k))
        assert abs(share.mean() - expected) < 4 * error, f"round {t}: loop {share.mean():.4f}, chain {expected:.4f}"


def coins_both(task, p0, eta):
    """The learner of the train prompts, which also has a law for the test prompts it is never trained on."""
    learner = coins_learner(task, p0, eta)
    test = bl.load_task("coins", "test", n=4)
    laws = {p.prompt: learner.law(p.prompt) for p in task.problems}
    laws |= {p.prompt: {"right": 0.5, "wrong": 0.5} for p in test.problems}
    return type(learner)(laws, eta=eta)
