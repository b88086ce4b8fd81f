"""Where a run was made: versions, hardware, commit and time. Recorded beside it, never compared.

Not covered: whether the machine is fit for a run (runner.doctor).
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

PACKAGES = ("boostlib", "torch", "transformers", "tokenizers", "datasets", "peft", "numpy", "scipy", "pandas")


def environment() -> dict:
    """Versions, hardware, commit and time. What can't be found out is None: a note stops nothing."""
    versions: dict[str, str | None] = {"python": platform.python_version()} | dict.fromkeys(PACKAGES)
    for package in PACKAGES:
        with contextlib.suppress(Exception):  # missing or broken
            versions[package] = metadata.version(package)
    return {
        "versions": versions,
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "system": platform.system()},
        "commit": git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, with "+" where it was changed; None where it lies in none."""
    root, command = Path(__file__).resolve().parents[2], "git describe --always --exclude=* --abbrev=12 --dirty=+"
    alone = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # as set within a hook
    how = {"cwd": root, "env": alone, "stderr": subprocess.DEVNULL, "text": True, "timeout": 30}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if (root / ".git").exists():  # not that of a folder above, whose project is another
            return subprocess.check_output(command.split(), **how).strip()
    return None


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
