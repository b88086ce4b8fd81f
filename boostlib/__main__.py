"""`python -m boostlib`: the command line."""

from boostlib.runner.cli import main

main(prog_name="boostlib")
