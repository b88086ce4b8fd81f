"""Tables of runs that nobody ran, for the tests of comparisons and figures."""

import itertools

import numpy as np
import pandas as pd


def rounds(arms, seeds=2, asked=100.0):
    """Accuracy by round for each arm (seed s adds s / 100)."""
    rows = [
        {"arm": arm, "seed": s, "round": t, "labels": asked if t < len(line) - 1 else np.nan, "test_accuracy": a + s / 100}
        for arm, line in arms.items() for s, (t, a) in itertools.product(range(seeds), enumerate(line))
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(n_test=100, n_train=100, train_accuracy=lambda t: t.test_accuracy)
