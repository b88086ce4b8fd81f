"""The theory of boosting with weak data: an exact chain, bounds, long-run laws, and Monte Carlo.

Not covered: language models. `boostlib.learners.tabular` is the same model as a learner for `boostlib.boosting`.
"""

from boostlib.theory.biased import BiasedFilter
from boostlib.theory.bounds import Bound, expected_error
from boostlib.theory.distributions import Beta, Histogram, Law
from boostlib.theory.dynamics import ARMS, Dynamics

__all__ = ["ARMS", "Beta", "BiasedFilter", "Bound", "Dynamics", "Histogram", "Law", "expected_error"]
