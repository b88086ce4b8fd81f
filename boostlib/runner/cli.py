"""The command line: run and sweep notebooks, look at runs, clean up, examine the machine, record tables.

Not covered: anything that a notebook or a module does itself; this file only calls.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from typing import Any

import click

EXIT = """
\b
Exit codes: 0 all is well · 1 a notebook or run failed · 2 bad input, nothing was started ·
3 the machine is in the way (disk full, folder locked or read-only)
"""
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, for scripts.")
timeout = click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="Longest time of a cell.")


class Group(click.Group):
    """Commands whose bad input, and whose machine in the way, end in one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # `boostlib status | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except (OSError, ValueError, RuntimeError) as error:
            click.echo(f"boostlib: {error}", err=True)
            sys.exit(2 if isinstance(error, ValueError | FileNotFoundError) else 3)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT)
@click.version_option(package_name="boostlib", prog_name="boostlib")
def main() -> None:
    """Boosting language models with weak data: run the suite's notebooks, sweep over their parameters, look at runs.

    A run that was killed, at any moment, goes on where it stopped: give the same command again.

    \b
    A first hour:
      boostlib doctor                     what this machine can do
      boostlib run 01                     one notebook, in minutes
      boostlib sweep sweeps/beta.yaml     many parameter sets, one table
      boostlib status                     how far everything is
    """


@main.command(epilog=EXIT)
@click.argument("notebooks", nargs=-1)
@click.option("--profile", default="mini", show_default=True, help="Parameters: a folder of notebooks/profiles/.")
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Over the profile; repeatable; YAML.")
@click.option("--fresh", is_flag=True, help="Drop what earlier runs with these parameters finished, and start anew.")
@timeout
@as_json
def run(notebooks: tuple[str, ...], profile: str, given: tuple, as_json: bool, **how: Any) -> None:
    """Execute NOTEBOOKS ("02" is enough of a name; none: all) with papermill, in the order in which they need each other.

    The copies go to runs/notebooks/<profile>/, the tables to runs/tables/; with -p to folders of their own, which 06 and
    `record` do not read. What is finished under the same settings is reused. A notebook that fails is shown with its cell;
    those that need it are skipped, the rest go on.

    \b
    Examples:
      boostlib run 01
      boostlib run 02 --profile laptop -p seeds '[0, 1]'
      boostlib run 02 --profile laptop -p lr 1e-5 --fresh
    """
    from boostlib import runs
    from boostlib.runner import execute
    from boostlib.runner.parameters import choose, read_yaml, resolve

    root = runs.project_root()
    if len(dict(given)) < len(given):
        raise ValueError("-p gives a parameter twice: give each once")
    values = {name: read_yaml(value, f"-p {name} {value}") for name, value in given}
    jobs = [resolve(path, profile, values) for path in choose(notebooks, root)]
    outcomes = []
    for outcome in execute.in_order(jobs, root, **how):
        click.echo(outcome.sentence(), err=as_json or outcome.state != "done")
        outcomes.append(outcome)
    if as_json:
        click.echo(json.dumps([asdict(outcome) for outcome in outcomes]))
    elif len(outcomes) > 1:
        reused, computed = sum(o.rounds_reused for o in outcomes), sum(o.rounds_computed for o in outcomes)
        done = sum(o.state == "done" for o in outcomes)
        click.echo(f"{done} of {len(outcomes)} notebooks done; rounds: {reused} reused, {computed} computed")
    sys.exit(execute.exit_code([o.failure for o in outcomes if o.failure]))


@main.command(epilog=EXIT)
@click.argument("file", type=click.Path())
@click.option("--workers", type=click.IntRange(min=1), help="Processes; without it the file's `workers:`, else 1.")
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster instead (auto, host:port, ray://...).")
@click.option("--gpus", type=click.FloatRange(min=0), default=0, show_default=True, help="On Ray: GPUs a run holds.")
@click.option(
    "--retry-failed/--no-retry-failed", default=True, help="Execute what failed before once more, or leave it."
)
@click.option("--shard", metavar="I/N", help="Only every N-th run from the I-th (from 0): one of N jobs.")
@timeout
@as_json
def sweep(file: str, workers: int | None, shard: str | None, as_json: bool, **options: Any) -> None:
    """Execute a notebook once for every parameter set in FILE, and gather the results into one table.

    One failed run does not stop the others. Started again, only what is missing or failed is executed. The table is
    runs/sweeps/<name>/results.parquet: the rows of the notebook's own table, with the swept parameters in front.

    \b
    FILE:
      notebook: 02                  # enough of a name
      profile: smoke                # where the other parameters come from
      parameters: {rounds: 3}       # common to all runs
      grid:                         # every combination
        beta: [0.1, 0.3, 0.5]
        seeds: [[0], [1], [2]]
      workers: 2
    `list:` instead of, or crossed with, `grid:` gives parameter sets one by one.

    \b
    Then, in Python:
      table = pandas.read_parquet("runs/sweeps/beta/results.parquet")
      seaborn.lineplot(table, x="round", y="test_accuracy", hue="beta")
    """
    from boostlib.runner import sweep as sweeps
    from boostlib.runner.execute import exit_code, told

    plan, part = sweeps.read(file), sweeps.read_shard(shard)
    with redirect_stdout(sys.stderr):  # Ray prints on stdout, which is the report's
        report = sweeps.run(plan, workers, shard=part, say=click.echo, **options)
    failed = report["failed"]
    for i, record in failed.items():
        click.echo(f"\nfailed: run {i}  {record['command']}\n{told(record['failure'])}", err=True)
    if as_json:
        click.echo(json.dumps(report))
    else:
        counts = f"{len(report['computed'])} computed, {len(report['reused'])} reused, {len(failed)} failed"
        click.echo(f"{report['total']} runs: {counts}; {report['seconds']:.1f} s")
        click.echo(f"{report['table']}  {report['rows']} rows" if report["table"] else "no run has finished: no table")
    sys.exit(exit_code([record["failure"] for record in failed.values()]))


@main.command()
@as_json
def status(as_json: bool) -> None:
    """Every run with its state, last finished round, accuracy on the test problems so far, and disk used."""
    from boostlib import runs
    from boostlib.runner import status

    folder = runs.project_root() / "runs"
    rows = [asdict(one) | {"folder": str(one.folder)} for one in status.seeds(folder)] if as_json else []
    about = {"runs": rows, "sweeps": status.sweeps(folder), "bytes": status.size(folder)} if as_json else None
    _tell(about, status.lines(folder))


@main.command()
@click.argument("run")
@as_json
def show(run: str, as_json: bool) -> None:
    """Manifest and curves of RUN in the terminal: enough of its name or hash as `boostlib status` prints it."""
    from boostlib import runs
    from boostlib.runner import status

    about = status.describe(status.find(runs.project_root() / "runs", run))
    _tell(about if as_json else None, status.shown(about))


@main.command()
@as_json
def doctor(as_json: bool) -> None:
    """What this machine can do (threads, memory, runs/, GPU, sandbox, data, models, hub), and what to do about each gap.

    Exit code 1 where something is missing without which nothing runs; a gap alone is 0.
    """
    from boostlib.runner import doctor

    found = doctor.examine()
    _tell([asdict(one) for one in found] if as_json else None, (one.line() for one in found))
    sys.exit(any(one.state == "broken" for one in found))


@main.command()
@click.option(
    "--final", is_flag=True, help="Also the last checkpoints of finished runs, which then take no more rounds."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def clean(final: bool, yes: bool, as_json: bool) -> None:
    """Remove checkpoints that nothing resumes from, and what killed processes left half-written.

    Shows what it would free, then asks. Samples, verdicts, tables and running runs are never touched.
    """
    from boostlib import runs
    from boostlib.runner import status

    root = runs.project_root()
    found = status.waste(root / "runs", final)
    for one in found:
        click.echo(f"{status.human(one.bytes):>10}  {one.path.relative_to(root)}  ({one.why})", err=as_json)
    total = status.human(sum(one.bytes for one in found))
    if found and not yes and not click.confirm(f"Remove these, {total}?", err=True):
        found = []
    gone = status.remove(found)
    freed = sum(one.bytes for one in gone)
    removed = [str(one.path.relative_to(root)) for one in gone]
    said = [f"freed {status.human(freed)}", *(f"left, not ours: {one.path}" for one in found if one not in gone)]
    _tell({"removed": removed, "bytes": freed} if as_json else None, said)


@main.command()
@click.option("--profile", default="mini", show_default=True)
def record(profile: str) -> None:
    """Copy what a profile's notebooks made here (copies, tables, figures) to papermill_runs/ and figures/, for committing."""
    from boostlib import runs
    from boostlib.runner import execute

    _tell(None, execute.record(profile, runs.project_root()))


def _tell(document: Any, lines: Iterable[str]) -> None:
    """One JSON document, or lines for people."""
    for line in [json.dumps(document)] if document is not None else lines:
        click.echo(line)


with suppress(ImportError):  # beside the package, in a clone: it measures this machine
    from benchmarks.rehearse import rehearse

    main.add_command(rehearse)

if __name__ == "__main__":
    main()
