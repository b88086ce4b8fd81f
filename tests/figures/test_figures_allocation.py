"""Figures of the labeling budget are drawn from what the tables hold."""

import pandas as pd
from matplotlib.collections import PathCollection
from small_tables import rounds

from boostlib.analysis import compare
from boostlib.analysis.intervals import UNRESOLVED
from boostlib.figures import allocation as drawn


def test_figures_are_drawn_from_what_the_tables_hold():
    table = compare.with_spent(rounds({"hard": [0.1, 0.3, 0.5], "uniform": [0.1, 0.2, 0.3]}))
    fig = drawn.against_labels(table, target=0.25)
    assert {line.get_xdata()[-1] for line in fig.axes[0].lines if len(line.get_xdata()) == 3} == {200}
    rows = pd.DataFrame(
        [("a", "theory", 0.1, 0.05, 0.15, "higher"), ("a", "greedy, test", 0.01, -0.1, 0.12, UNRESOLVED)],
        columns="name series difference low high verdict".split(),
    )
    points = [c for c in drawn.forest(rows, "x", "note").axes[0].collections if isinstance(c, PathCollection)]
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
    fig = drawn.theory_grid(table, {0.0: 0.1, 0.2: 0.05}, 5)
    assert len(fig.axes) == 4 and fig.axes[2].get_title("left") == "beta = 0.1, gamma = 0.2"
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["hard", "oracle"]
