"""Benchmarks: every contender in one process, interleaved, on the same work; a table, then one JSON line.

Not covered: quality of results (tests do that).
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable


def interleave(contenders: dict[str, Callable[[], float]], repeats: int = 3) -> dict[str, list[float]]:
    """Run every contender once a pass, ``repeats`` passes. A contender does its work and returns the units
    done (tokens, checks, curves); the answer holds units per second, one number a pass."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, work in contenders.items():
            start = time.perf_counter()
            units = work()
            rates[name].append(units / (time.perf_counter() - start))
    return rates


def report(title: str, unit: str, rates: dict[str, list[float]], baseline: str, **extra: object) -> dict:
    """Print the table for people; return the row for machines (median, min, max and ratio to the baseline)."""
    medians = {name: statistics.median(r) for name, r in rates.items()}
    width = max(map(len, rates))
    print(f"\n{title} (median of {len(rates[baseline])}; {unit} a second)")
    for name, r in rates.items():
        print(
            f"  {name:<{width}}  {medians[name]:>12,.1f}  [{min(r):,.1f}, {max(r):,.1f}]  {medians[name] / medians[baseline]:>6.2f}x"
        )
    return {
        "title": title,
        "unit": unit + "/s",
        "median": medians,
        "range": {name: [min(r), max(r)] for name, r in rates.items()},
        "ratio": {name: m / medians[baseline] for name, m in medians.items()},
        "baseline": baseline,
        **extra,
    }


def last_line(**results: object) -> None:
    """The contract with scripts: one JSON document, the last line of stdout."""
    print(
        json.dumps(
            {
                "machine": platform.processor() or platform.machine(),
                "python": platform.python_version(),
                **results,
            }
        )
    )
