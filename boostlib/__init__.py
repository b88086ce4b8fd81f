"""boostlib: boosting language models with weak data on the prompts they fail.

`load_task`, `boost`, and the rooms (`theory`, `boosting`, `tasks`, `analysis`, `figures` ...), loaded when first used.
"""

import importlib
from typing import Any

_FROM = {"boost": "boosting.many", "load_task": "tasks", "use_profile": "runner.parameters"}
_FROM |= dict.fromkeys(("ARMS", "METHODS", "Settings"), "boosting.settings")
_ROOMS = "allocation analysis boosting experiment figures learners runner runs sandbox tasks theory".split()
__all__ = [*_FROM, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(f"boostlib.{_FROM[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"boostlib.{name}")
    raise AttributeError(f"boostlib has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
