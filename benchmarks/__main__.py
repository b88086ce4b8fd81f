"""python -m benchmarks sampling | training | sandbox | theory"""

import importlib
import sys

WHAT = ("sampling", "training", "sandbox", "theory")

if len(sys.argv) != 2 or sys.argv[1] not in WHAT:
    sys.exit(f"usage: python -m benchmarks {' | '.join(WHAT)}")
importlib.import_module(f"benchmarks.{sys.argv[1]}").run()
