"""Figures: data frame in, matplotlib Figure out; one style and one colour an arm everywhere.

What most notebooks draw with is here; the figures of one kind of run are in `allocation`, `failures`, `prediction` and
`theory`, the slider picture in `explorer`. ``save`` writes PNG, PDF and CSV with the hash of the manifest that made them,
the same bytes for the same data.

Not covered: where the tables come from (boosting, analysis).
"""

from boostlib.figures.drawing import curves, key_line, label_ends, percents, summarise
from boostlib.figures.palette import (
    ARM_COLOURS,
    ARMS,
    COLOURS,
    PAGE,
    PERCENT,
    POLICY_COLOURS,
    SPARE,
    colours_of,
    label_of,
    lighter,
    save,
    style,
)
from boostlib.figures.rounds import accuracy_by_level, by_round

__all__ = [
    "ARMS", "ARM_COLOURS", "COLOURS", "PAGE", "PERCENT", "POLICY_COLOURS", "SPARE", "accuracy_by_level", "by_round",
    "colours_of", "curves", "key_line", "label_ends", "label_of", "lighter", "percents", "save", "style", "summarise",
]  # fmt: skip
