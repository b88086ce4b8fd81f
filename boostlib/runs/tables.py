"""Small tables as CSV, whose names come back as they were written.

Not covered: which tables there are (notebooks), where they are filed (runner).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from boostlib.runs.files import write_text

if TYPE_CHECKING:
    import pandas as pd


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """A small table as CSV, floats with 10 digits."""
    write_text(path, table.to_csv(index=False, float_format="%.10g"))


def read_table(path: str | Path) -> pd.DataFrame:
    """The table of `write_table`. Names stay as they were written ("None", "NA", "007"): a column is of numbers only where
    all its cells are as `write_table` writes numbers, and ``arm`` never is. Empty cells are missing."""
    import pandas as pd

    def plain(cell: str) -> bool:
        with contextlib.suppress(ValueError):
            return cell in ("", "True", "False") or cell == f"{float(cell):.10g}" or cell == str(int(cell))
        return False

    raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    text = [column for column in raw if column == "arm" or not raw[column].map(plain).all()]
    return pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""])
