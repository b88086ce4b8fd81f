"""boostlib: boosting language models with weak data on the prompts they fail.

`load_task`, `boost`, and the rooms (`theory`, `boosting`, `tasks`, `analysis`, `figures` ...), loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boostlib.boosting.many import boost as boost
    from boostlib.tasks import load_task as load_task

_FROM = {
    "boost": "boosting.many",
    "load_task": "tasks",
    "ARMS": "boosting.settings",
    "METHODS": "boosting.settings",
    "Settings": "boosting.settings",
}
_OLD = {
    "fleet": "boosting.many",
    "stats": "analysis.intervals",
    "evidence": "analysis.measure",
    "predict": "analysis.predict",
    "notebooks": "runner.execute",
    "settings": "boosting.settings",
}
_MODULES = ("allocation", "analysis", "boosting", "experiment", "figures", "learners", "runner", "runs", "sandbox", "tasks", "theory")  # fmt: skip
__all__ = [*_FROM, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(f".{_FROM[name]}", __name__), name)
    if name in _MODULES or name in _OLD:
        return importlib.import_module(f".{_OLD.get(name, name)}", __name__)
    raise AttributeError(f"boostlib has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
