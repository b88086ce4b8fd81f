"""The command line: run notebooks, record their tables, measure speed.

Not covered: anything that a notebook or a module does itself; this file only calls.
"""

from __future__ import annotations

import sys
import time

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Boosting language models with weak data: run the suite's notebooks, record results, measure speed."""


@main.command()
@click.argument("notebooks", nargs=-1)
@click.option("--profile", default="mini", show_default=True, help="Parameters: a folder of notebooks/profiles/.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Overrides the profile; repeatable; YAML values.",
)
def run(notebooks: tuple[str, ...], profile: str, parameters: tuple[tuple[str, str], ...]) -> None:
    """Execute NOTEBOOKS ("02" is enough of a name; none: all) with papermill, in order.

    The copies go to papermill_runs/<profile>/. A run that was killed goes on where it stopped: start it again.

    \b
    Examples:
      boostlib run 01
      boostlib run 02 --profile laptop -p seeds '[0, 1]'
    """
    import yaml

    from . import notebooks as suite

    try:
        given = {name: yaml.safe_load(value) for name, value in parameters}
        for path in suite.choose(notebooks):
            start = time.perf_counter()
            click.echo(f"{path.stem} ({profile}) ...", err=True)
            done = suite.execute(path, profile, given)
            click.echo(f"{done.parent.parent.name}/{profile}/{done.name}  {suite.took(start)}")
    except (ValueError, OSError, RuntimeError) as error:
        fail(error)


@main.command()
@click.option("--profile", default="mini", show_default=True)
def record(profile: str) -> None:
    """Copy the small tables of finished notebooks from runs/ to papermill_runs/, for committing."""
    from . import notebooks as suite

    try:
        for folder in suite.record(profile):
            click.echo(f"papermill_runs/{profile}/{folder.name}")
    except (ValueError, OSError) as error:
        fail(error)


@main.command()
@click.argument("what", type=click.Choice(["sampling", "training", "sandbox", "theory"]))
def bench(what: str) -> None:
    """Measure speed against what a user would otherwise pick: a table, and one JSON line last."""
    import importlib

    importlib.import_module(f".bench.{what}", __package__).run()


def fail(error: Exception) -> None:
    """One sentence for bad input; a failed cell comes with its source and traceback from papermill."""
    click.echo(f"boostlib: {error}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
