"""Tables keep their names and their numbers."""

import numpy as np
import pandas as pd
import pytest

from boostlib.runs import read_table, write_table


def back(tmp_path, table: pd.DataFrame) -> pd.DataFrame:
    write_table(tmp_path / "table.csv", table)
    return read_table(tmp_path / "table.csv")


@pytest.mark.parametrize("names", [["None", "NA", "007"], ["nan", "null", "1"], ["7", "8", "9"], ["1e5", "True", "-"]])
def test_an_arm_comes_back_as_it_was_called(tmp_path, names):
    assert back(tmp_path, pd.DataFrame({"arm": names, "x": 1.5})).arm.tolist() == names


@pytest.mark.parametrize("names", [["None", "NA", "007"], ["N/A", "a", "1_000"], ["010", "1.50", "+1"]])
def test_so_does_any_other_name_that_is_no_number_as_it_is_written(tmp_path, names):
    assert back(tmp_path, pd.DataFrame({"name": names})).name.tolist() == names


def test_numbers_come_back_as_numbers_and_what_is_missing_as_missing(tmp_path):
    table = pd.DataFrame(
        {
            "n": [1, -2, 10**12],
            "share": [1 / 3, np.nan, 1e-7],
            "far": [np.inf, -np.inf, 2e300],
            "kept": [True, False, True],
            "verdict": ["higher", None, "lower"],
        }
    )
    read = back(tmp_path, table)
    assert read.dtypes[["n", "share", "far", "kept"]].tolist() == ["int64", "float64", "float64", "bool"]
    assert np.allclose(read.share, table.share, rtol=1e-9, equal_nan=True) and read.far.tolist() == table.far.tolist()
    assert read.n.tolist() == table.n.tolist() and read.verdict.isna().tolist() == [False, True, False]
    assert back(tmp_path, read).equals(read)
