"""The figures of theory against runs show the numbers they are given."""

import numpy as np
import pandas as pd
import pytest

from boostlib.analysis import predict
from boostlib.figures import prediction


@pytest.fixture
def curves():
    rows = [
        {"arm": arm, "seed": s, "round": t, "predictor": p, "predicted": 0.1 * t + off, "measured": 0.1 * t + 0.01 * s}
        for arm in ("boosting", "filter_only", "mine")
        for s in range(3)
        for t in range(4)
        for p, off in zip(predict.PREDICTORS, (0.1, 0.2, 0.05, 0.3, 0.4, 0.5), strict=True)
    ]
    return pd.DataFrame(rows)


def test_every_arm_has_a_panel_with_its_predictions_and_its_measured_dots(curves):
    fig = prediction.by_arm(curves)
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == ["filter only", "boosting", "mine"]
    lines = [line.get_ydata() for line in shown[0].lines]
    assert lines[0] == pytest.approx(0.1 * np.arange(4) + 0.1)  # transfer
    assert lines[-1] == pytest.approx(0.1 * np.arange(4) + 0.01)  # measured, mean of three seeds
    fig.draw_without_rendering()


def test_errors_are_drawn_once_for_all_arms_and_once_an_arm(curves):
    every, each = (
        t[t["predictor"] != "transfer_0"] for t in (predict.errors(curves), predict.errors(curves, by=["arm"]))
    )
    ax = prediction.error_by_predictor(every, each, 0.04).axes[0]
    drawn = sorted(float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() != "None")
    assert drawn == pytest.approx(sorted([*every["mae"], *each["mae"]]))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["all arms", "filter only", "boosting", "mine"]
