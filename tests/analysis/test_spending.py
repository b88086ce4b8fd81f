"""Labels spent, the area under accuracy against them, the target's place, who was asked, ranks that cover."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from boostlib.analysis import intervals as stats
from boostlib.analysis import measure as calibrate
from boostlib.analysis import ranking, spending
from boostlib.figures import allocation as drawn
from boostlib.theory import Dynamics, Histogram
from boostlib.theory.maps import by_policy, spread_groups


def rounds(arms, seeds=2, asked=100.0):
    """Accuracy by round for each arm (seed s adds s / 100)."""
    rows = [
        {"arm": arm, "seed": s, "round": t, "labels": asked if t < len(line) - 1 else np.nan, "test_accuracy": a + s / 100}
        for arm, line in arms.items() for s, (t, a) in itertools.product(range(seeds), enumerate(line))
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(n_test=100, n_train=100, train_accuracy=lambda t: t.test_accuracy)


def test_labels_are_counted_before_the_round_that_shows_their_effect():
    table = spending.with_spent(rounds({"hard": [0.1, 0.2, 0.4]}).iloc[::-1])
    assert table.sort_values("round").query("seed == 0").spent.tolist() == [0, 100, 200]


def test_area_is_the_mean_of_the_straight_lines_between_rounds():
    spent = [0, 100, 400]
    assert spending.area_weights(spent) @ [0.0, 1.0, 1.0] == pytest.approx(1 - 50 / 400)
    assert spending.area_weights([0, 0, 0]) @ [0.0, 1.0, 1.0] == pytest.approx(0.75)  # no labels: by rounds
    assert spending.area_weights(np.arange(7.0)).sum() == pytest.approx(1)
    for bad in ([0.0], [0, 5, 3]):
        with pytest.raises(ValueError):
            spending.area_weights(bad)


def test_the_target_is_reached_between_rounds_at_once_or_never():
    spent, accuracy = [0, 100, 200], [0.2, 0.4, 0.3]
    assert spending.labels_to_reach(spent, accuracy, 0.35) == pytest.approx(75)
    assert spending.labels_to_reach(spent, accuracy, 0.2) == 0
    assert math.isinf(spending.labels_to_reach(spent, accuracy, 0.41))


def test_a_target_missed_in_one_seed_has_no_mean_and_no_difference():
    table = rounds({"hard": [0.1, 0.3, 0.5], "slow": [0.1, 0.2, 0.295], "fast": [0.1, 0.5, 0.5]})
    found = spending.efficiency(table, target=0.3)
    assert found.query("arm == 'hard'").area.tolist() == pytest.approx([0.3, 0.31])
    reach = spending.reaching(found, "hard").set_index("arm")
    assert reach.reached.to_dict() == {"hard": 2, "slow": 1, "fast": 2}
    assert math.isnan(reach.labels["slow"]) and math.isnan(reach.difference["slow"])
    by_seed = found.pivot(index="seed", columns="arm", values="to_target")
    assert reach.difference["fast"] == pytest.approx(stats.paired(by_seed.fast, by_seed.hard).difference)
    with pytest.raises(ValueError, match="unknown baseline"):
        spending.reaching(found, "uniform")


def test_groups_never_asked_count_as_zero_and_shares_sum_to_one():
    group = {"a": 2, "b": 2, "c": 3, "d": 4}
    labels = pd.DataFrame(
        [("hard", 0, 0, "a", ["x"]), ("hard", 0, 0, "c", ["x"] * 3), ("hard", 0, 1, "c", ["x"])],
        columns="arm seed round id responses".split(),
    )
    shares = spending.who(labels, group)
    assert shares.query("round == 0").share.tolist() == [0.25, 0.75, 0]
    assert shares.query("round == 1").share.tolist() == [0, 1, 0]
    assert shares.query("round == 0").expected.tolist() == [0.5, 0.25, 0.25]
    with pytest.raises(ValueError, match="no group"):
        spending.who(labels, {"a": 2})


def test_two_arms_are_ranked_by_the_paired_t():
    scores = pd.DataFrame(np.random.default_rng(0).normal(size=(5, 2)), columns=["a", "b"])
    pair, t = ranking.all_pairs(scores).iloc[0], stats.paired(scores.a, scores.b)
    assert (pair.difference, pair.low, pair.high) == pytest.approx((t.difference, t.low, t.high), rel=1e-4)


def test_intervals_of_all_pairs_cover_together_and_ranks_cover_the_true_ones():
    rng, truth, runs = np.random.default_rng(1), np.array([0.0, 0.0, 0.5, 1.5]), 300
    together = right = 0
    for _ in range(runs):
        noise = rng.normal(0, 0.3, (4, 4)) + rng.normal(0, 3, (4, 1))  # seeds differ far more than arms
        scores = pd.DataFrame(truth + noise, columns=list("abcd"))
        pairs = ranking.all_pairs(scores)
        true = np.array(
            [truth["abcd".index(a)] - truth["abcd".index(b)] for a, b in zip(pairs.a, pairs.b, strict=True)]
        )
        together += ((pairs.low <= true) & (true <= pairs.high)).all()
        found = ranking.ranks(scores).set_index("arm")
        right += all(found.best[a] <= rank <= found.worst[a] for a, rank in {"c": 2, "d": 1}.items())
    assert together / runs == pytest.approx(0.95, abs=0.03)
    assert right / runs > 0.92


def test_clear_differences_leave_one_rank_and_equal_arms_leave_all():
    tiny = np.random.default_rng(0).normal(0, 1e-3, (3, 3))
    found = ranking.ranks(pd.DataFrame([0.1, 0.2, 0.3] + tiny, columns=list("abc")))
    assert found.arm.tolist() == list("cba") and (found.best == found.worst).all()
    found = ranking.ranks(pd.DataFrame(tiny - tiny.mean(0), columns=list("abc")))
    assert (found.best == 1).all() and (found.worst == 3).all()
    with pytest.raises(ValueError, match="1 seeds"):
        ranking.ranks(pd.DataFrame([[0.1, 0.2]]))


def test_the_policies_of_theory_agree_with_the_chain_where_both_apply():
    d, p0 = Dynamics(k=2, beta=0.3, gamma_fp=0.1, gamma_fn=0.1, m=2, policy="uniform"), np.linspace(0, 0.9, 400)
    last = by_policy(d, p0, ["uniform"], [2], rounds=3, seeds=12).query("round == 3").accuracy
    assert abs(last.mean() - d.exact(p0, 3)[-1]) < 4 * last.std(ddof=1) / 12**0.5 + 1e-3  # few prompts against many
    none = by_policy(d, p0, ["hard"], [0], rounds=3, seeds=12).query("round == 3").accuracy
    assert abs(none.mean() - d.arm("filter_only").exact(p0, 3)[-1]) < 4 * none.std(ddof=1) / 12**0.5


def test_the_oracle_of_theory_knows_which_prompts_the_labeler_is_blind_on():
    p0, beta = np.zeros(200), np.r_[np.full(100, 0.3), np.zeros(100)]
    d = Dynamics(k=2, beta=beta, gamma_fp=0.0, gamma_fn=0.0, m=0)
    table = by_policy(d, p0, ["oracle", "hard"], [0.5], rounds=1, seeds=60).query("round == 1")
    oracle, hard = table.groupby("policy", sort=False).accuracy.mean()
    assert oracle == pytest.approx(0.5 * 0.3, abs=0.015) and hard < 0.7 * oracle  # half of hard's labels are lost


def test_figures_are_drawn_from_what_the_tables_hold():
    table = spending.with_spent(rounds({"hard": [0.1, 0.3, 0.5], "uniform": [0.1, 0.2, 0.3]}))
    fig = drawn.against_labels(table, target=0.25)
    assert {line.get_xdata()[-1] for line in fig.axes[0].lines if len(line.get_xdata()) == 3} == {200}
    rows = pd.DataFrame(
        [("beta 0.1", "theory", 0.1, 0.05, 0.15), ("beta 0.1", "greedy, test", 0.01, -0.1, 0.12)],
        columns="name series difference low high".split(),
    )
    points = [c for c in drawn.forest(rows, "x").axes[0].collections if isinstance(c, PathCollection)]
    faces = [face.tolist() for c in points for face in c.get_facecolors() if len(c.get_offsets())]
    assert [1, 1, 1, 1] in faces and any(face != [1, 1, 1, 1] for face in faces)  # hollow where not resolved
    shares = pd.DataFrame(
        [("hard", 0, t, g, s, 0.5) for t in (0, 1) for g, s in ((2, 0.25), (3, 0.75))],
        columns="arm seed round group share expected".split(),
    )
    fig = drawn.who(shares)
    assert [text.get_text() for text in fig.axes[0].texts] == ["25", "25", "75", "75"]


def test_the_key_of_the_theory_grid_names_every_policy_and_its_panels_every_cell():
    rows = [(p, b, s, 5, b / 2, beta, gamma) for p in ("hard", "oracle") for b in (0.5, 1) for s in (0, 1) for beta in (0.1, 0.3) for gamma in (0.0, 0.2)]  # fmt: skip
    table = pd.DataFrame(rows, columns="policy budget seed round accuracy beta gamma".split())
    fig = drawn.theory_grid(table, pd.DataFrame({"gamma": [0.0, 0.2], "accuracy": [0.1, 0.05]}), 5)
    assert len(fig.axes) == 4 and fig.axes[2].get_title("left") == "beta = 0.1, gamma = 0.2"
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["hard", "oracle"]


def test_policies_stand_in_the_order_of_theory():
    points = pd.DataFrame(
        [("uniform", 0.6, 0.5, 0.4, 0.6), ("hard", 0.9, 0.7, 0.6, 0.8)], columns="policy theory mean low high".split()
    )
    labels = drawn.theory_and_runs(points).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["hard", "uniform labels"]


def test_the_start_has_the_groups_of_the_run_and_the_mean_of_their_laws():
    counts = {2: np.repeat([3, 4], [5, 15]), 4: np.repeat([0, 1], [50, 10])}
    laws = {g: calibrate.fit_law(c, 4, np.random.default_rng(0), n_boot=0) for g, c in counts.items()}
    spreads = {g: Histogram(*law.initial(48)) for g, law in laws.items()}
    p0, group = spread_groups(spreads, {2: 20, 4: 60}, prompts=400)
    assert (group == 4).sum() == 300 and len(p0) == 400
    assert p0[group == 2].mean() == pytest.approx(3.75 / 4, abs=0.02)
    assert p0[group == 4].mean() == pytest.approx(10 / 60 / 4, abs=0.01)
