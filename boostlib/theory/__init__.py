"""The theory of boosting with weak data: an exact chain, bounds, and Monte Carlo.

Not covered: language models. `boostlib.learners.tabular` is the same model as a learner for `boostlib.boosting`."""

from boostlib.theory.biased import BiasedFilter
from boostlib.theory.bounds import Bound, expected_error
from boostlib.theory.distributions import BetaLaw, Histogram, Law
from boostlib.theory.dynamics import Dynamics
from boostlib.theory.parameters import ARMS

__all__ = ["ARMS", "BetaLaw", "BiasedFilter", "Bound", "Dynamics", "Histogram", "Law", "expected_error"]
