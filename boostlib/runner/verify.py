"""A fresh run's tables held against the recorded ones, within what their own spread lets expect.

Not covered: making either (execute), why numbers differ.
"""

from __future__ import annotations

import re
from collections import Counter
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boostlib import runs

if TYPE_CHECKING:
    import pandas as pd

SKIP = re.compile(r"seconds|^folder$|^base$|hash|tokens")
DERIVED = re.compile(r"(^|_)(low|high|p|p_holm|best|worst|seeds_to_resolve|verdict|note|improvement)$")
INDEX = ("seed", "round", "level", "k", "beta", "gamma", "budget")  # numbers that name a row, as text does
Values = dict[tuple[str, str], tuple[Any, float, float]]


def verify(profile: str, root: Path, tolerance: float) -> dict[str, Any]:
    """The number of values compared, whether the machine is the recorded one (then all must be equal), and what differs. Else a
    value must lie in the recorded interval (low and high beside it, or of t over the table's seeds) widened by the fresh
    one's half width; without one, within ``tolerance``, relative above 1. Raises ValueError where there are no tables."""
    import pandas as pd

    recorded, fresh = root / "papermill_runs" / profile, root / "runs" / "tables" / profile
    known = sorted(recorded.glob("*/manifest.json"))
    if not known or not any(fresh.glob("*/manifest.json")):
        raise ValueError(f"no tables in {fresh if known else recorded}; run: boostlib run --profile {profile}")
    count, alike, found = 0, True, []
    for path in known:
        name, new = path.parent.name, fresh / path.parent.name
        if not (new / "manifest.json").exists():
            found.append({"file": name, "what": "not executed here"})
            continue
        old, now = runs.read_json(path), runs.read_json(new / "manifest.json")
        if old["identity"] != now["identity"]:
            found.append({"file": name, "what": "made with other parameters, data or weights"})
        alike &= (exact := all(old.get(key) == now.get(key) for key in ("versions", "machine")))
        for table in sorted(path.parent.glob("*.csv")):
            if not (new / table.name).exists():
                found.append({"file": f"{name}/{table.name}", "what": "not made here"})
                continue
            pair = [pd.read_csv(at, keep_default_na=False, na_values=[""]) for at in (table, new / table.name)]
            values = [_values(one, pair[0], exact) for one in pair]
            count += len(values[0])
            found += [{"file": f"{name}/{table.name}"} | one for one in _compare(*values, None if exact else tolerance)]
    return {"compared": count, "equal": alike, "differences": found}


def _compare(old: Values, new: Values, tolerance: float | None) -> list[dict[str, Any]]:
    found, missing = [], ("missing", nan, nan)
    for key in {**old, **new}:
        (was, low, high), (now, least, most) = old.get(key, missing), new.get(key, missing)
        if was == now or was != was and now != now:  # NaN twice
            continue
        said = {"row": key[0], "column": key[1], "recorded": was, "fresh": now}
        if tolerance is not None and "missing" not in (was, now):
            wide, slack = (most - least) / 2, tolerance * max(1, abs(was))
            wide = wide if wide > 0 else 0
            low, high = (low - wide, high + wide) if high > low else (was - slack, was + slack)
            if low <= now <= high:
                continue
            said["expected"] = [low, high]
        found.append(said)
    return found


def _values(table: pd.DataFrame, recorded: pd.DataFrame, exact: bool) -> Values:
    """Row and column -> value, low, high: every cell if ``exact``, else numbers alone, as means over the seeds."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype
    from scipy.stats import t

    table = table.drop(columns=[name for name in table if SKIP.search(name)])
    numbers = [c for c in table if is_numeric_dtype(table[c]) and not is_bool_dtype(table[c]) and c not in INDEX]
    names = [c for c in table if c not in numbers and not DERIVED.search(c)]
    values = [c for c in table if c not in names] if exact else [c for c in numbers if not DERIVED.search(c)]
    if exact:
        owned = {}
    elif "seed" in names and len(names) > 1:
        names.remove("seed")
        groups = table.groupby(names, dropna=False, sort=False)[values]
        mean, half = groups.mean(), groups.sem() * t.ppf(0.975, groups.count() - 1)
        table = mean.join((mean - half).add_suffix(" low")).join((mean + half).add_suffix(" high")).reset_index()
        owned = {c: (f"{c} low", f"{c} high") for c in values}
    else:
        owned = _owned(recorded, [c for c in recorded if c in values])
    found, seen = {}, Counter()
    for one in table.to_dict("records"):
        row = ", ".join(f"{name} {one[name]}" for name in names)
        seen[row] += 1
        row += f" ({seen[row]})" if seen[row] > 1 else ""
        found |= {(row, c): (one[c], *(one.get(x, nan) for x in owned.get(c, ("", "")))) for c in values}
    return found


def _owned(table: pd.DataFrame, values: list[str]) -> dict[str, tuple[str, str]]:
    """Whose interval low and high, or x_low and x_high, are: the nearest column before them that lies within them."""
    found, order = {}, list(table)
    for low in (c for c in order if c.endswith("low")):
        high = low.removesuffix("low") + "high"
        for c in [c for c in reversed(order[: order.index(low)]) if c in values and c not in found]:
            inside = table[c].between(table[low] - 1e-9, table[high] + 1e-9)
            if (inside | table[low].isna()).all():
                found[c] = (low, high)
                break
    return found
