"""boostlib: boosting language models with weak data on the prompts they fail.

`load_task`, `boost`, and the modules `theory`, `allocation`, `stats`, `figures`, `sandbox`, loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fleet import boost as boost
    from .tasks import load_task as load_task

_FROM = {
    "boost": "fleet",
    "load_task": "tasks",
    "ARMS": "settings",
    "METHODS": "settings",
    "Settings": "settings",
}
_MODULES = (
    "allocation", "bench", "boosting", "calibrate", "evidence", "figures", "filters", "fleet", "labelers", "learners", "notebooks", "predict", "reasons", "runs", "sandbox", "settings",
    "stats", "tasks", "theory",
)  # fmt: skip
__all__ = [*_FROM, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(f".{_FROM[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"boostlib has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
