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
