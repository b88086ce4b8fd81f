"""Figures: data frame in, matplotlib Figure out; one style and one colour an arm everywhere.

The figures of one kind of run are in `allocation`, `failures`, `prediction` and `theory`, the slider picture in
`explorer`. Not covered: where the tables come from (boosting, analysis).
"""

# ruff: noqa: F401, I001 - what `bl.figures` offers, in few lines
from boostlib.figures.drawing import curves, key_line, label_ends, percents, summarise
from boostlib.figures.palette import ARM_COLOURS, ARMS, COLOURS, PAGE, PERCENT, SPARE
from boostlib.figures.palette import colours_of, label_of, lighter, save, style
from boostlib.figures.rounds import accuracy_by_level, by_round
