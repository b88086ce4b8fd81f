"""The theory of boosting with weak data: an exact chain, bounds, long-run laws, and Monte Carlo.

Not covered: language models. `boostlib.learners.strong` is the same model as a learner for `boostlib.boosting`.
"""

from boostlib.theory.biased import BiasedFilter
from boostlib.theory.bounds import Bound, expected_error
from boostlib.theory.dynamics import ARMS, Dynamics
from boostlib.theory.laws import Beta, Histogram, Law

__all__ = ["ARMS", "Beta", "BiasedFilter", "Bound", "Dynamics", "Histogram", "Law", "expected_error"]
