"""What this machine can do, and what to do about each gap. Not covered: mending any of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

HUB = ("huggingface.co", 443)


class Broken(Exception):
    """What was found, and what to do about it: nothing runs without it."""


def examine(root: Path) -> list[dict[str, str]]:
    """what, state, found, advice of every check. State: ok, gap (optional, or the check failed), broken (nothing runs)."""
    rows = []
    for name, check in CHECKS.items():
        try:
            found, advice = check(root)
            state = "gap" if advice else "ok"
        except Broken as error:
            state, (found, advice) = "broken", error.args
        except Exception as error:
            state, found = "gap", f"could not be examined: {type(error).__name__}: {error}"
            advice = "look at it by hand"
        rows.append({"what": name, "state": state, "found": found, "advice": advice})
    return rows


def machine(root: Path) -> tuple[str, str]:
    import psutil
    import torch
    from joblib import cpu_count  # minds affinity and the container's share

    free, total = psutil.virtual_memory().available / 2**30, psutil.virtual_memory().total / 2**30
    gpus = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none"
    text = f"{cpu_count()} cores; {free:.1f} of {total:.1f} GiB free; GPU: {gpus}"
    return text, "SmolLM2-135M trains in about 3 GiB a worker: use workers: 1, or the tiny model" if free < 4 else ""


def place(root: Path) -> tuple[str, str]:
    folder = root / "runs"
    text = f"runs/ -> {os.readlink(folder)}" if folder.is_symlink() else "runs/"
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Broken(f"{text} cannot be written: {error.strerror}", "mend the link or the rights") from error
    free = shutil.disk_usage(folder).free / 2**30
    return f"{free:.1f} GiB free in {text}", "run `boostlib clean`, or link runs/ to a larger disk" if free < 5 else ""


def kernel(root: Path) -> tuple[str, str]:
    from jupyter_client.kernelspec import find_kernel_specs

    if "boostlib" in find_kernel_specs():
        return "Jupyter knows the kernel `boostlib`", ""
    raise Broken("Jupyter knows no kernel `boostlib`", "python -m ipykernel install --sys-prefix --name boostlib")


def sandbox(root: Path) -> tuple[str, str]:
    from boostlib.sandbox import level

    how = "allow user namespaces: else programs run in sight of this host (level process), or not at all (none)"
    return f"level {level()}", "" if level() == "kernel" else how


def data(root: Path) -> tuple[str, str]:
    folder, wanted = os.environ.get("BOOSTLIB_DATA"), ("gsm8k/train.jsonl", "gsm8k/test.jsonl", "mbpp")
    missing = [name for name in wanted if not folder or not Path(folder, name).exists()]
    how = f"set it to a folder with {', '.join(missing)}, or let the hub serve them; other tasks need no data"
    return f"BOOSTLIB_DATA is {folder or 'not set'}", how if missing else ""


def hub(root: Path) -> tuple[str, str]:
    with contextlib.suppress(OSError), socket.create_connection(HUB, timeout=3):
        return f"{HUB[0]} answers", ""
    return f"{HUB[0]} does not answer", "give a local folder as the model, not a hub id, and set HF_HUB_OFFLINE=1"


CHECKS = dict(machine=machine, runs=place, kernel=kernel, sandbox=sandbox, data=data, hub=hub)
