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

    def version(package: str) -> str | None:
        with contextlib.suppress(Exception):  # missing or broken
            return metadata.version(package)
        return None

    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "system": platform.system()},
        "commit": git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, with "+" where it was changed; None where it lies in none."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # as set within a hook
    with contextlib.suppress(OSError, subprocess.SubprocessError, StopIteration):
        if (root / ".git").exists():  # not that of a folder above, whose project is another
            told = subprocess.run(command, cwd=root, env=alone, capture_output=True, text=True, check=True, timeout=30)
            lines = told.stdout.splitlines()
            commit = next(line for line in lines if line.startswith("# branch.oid ")).split()[2]
            return commit[:12] + "+" * any(not line.startswith("#") for line in lines)
    return None


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
