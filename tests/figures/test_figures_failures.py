"""The figures that only programs have show the shares and errors they are given."""

import numpy as np
import pandas as pd

from boostlib import figures
from boostlib.analysis.failures import REASONS
from boostlib.figures import failures as drawn


def failing():
    rng, rows = np.random.default_rng(0), []
    for measure in ("samples", "test"):
        for arm in ("boosting", "filter_only"):
            for r in range(3):
                parts = rng.dirichlet(np.ones(6))
                for reason, share in zip(REASONS, parts, strict=False):
                    rows.append({"measure": measure, "arm": arm, "round": r, "reason": reason, "share": share, "n": 9})
    return pd.DataFrame(rows)


def test_the_stack_of_reasons_is_as_high_as_the_share_that_fails():
    figures.style()
    table = failing()
    fig = drawn.failures(table)
    tops = [[max(b.get_y() + b.get_height() for b in ax.patches if b.get_x() < r < b.get_x() + b.get_width())] for ax in fig.axes for r in range(3)]  # fmt: skip
    wanted = [
        table[(table.measure == m) & (table.arm == a) & (table["round"] == r)].share.sum()
        for m in ("samples", "test")
        for a in ("filter_only", "boosting")  # the order of every figure
        for r in range(3)
    ]
    np.testing.assert_allclose(np.ravel(tops), wanted)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == list(REASONS)


def test_each_measured_error_is_drawn_with_its_interval_and_what_is_not_measured_is_not():
    figures.style()
    rows = [
        {"arm": arm, "round": r, "measure": m, "value": 0.01 * r if r else np.nan, "low": 0.0, "high": 0.05}
        for arm in ("filter_only", "boosting")
        for r in range(3)
        for m in ("gamma_fp", "wrong in S+")
    ]
    fig = drawn.accepted_and_wrong(pd.DataFrame(rows))
    for ax in fig.axes:
        assert [len(line.get_xdata()) for line in ax.lines] == [2, 2]
        assert sum(len(c.get_segments()) for c in ax.collections) == 4
        assert ax.get_xlim() == (-0.5, 2.5)
