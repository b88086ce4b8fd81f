"""The command line: run and sweep notebooks, look at runs, clean up, examine the machine, record tables.

Not covered: anything that a notebook or a module does itself; this file only calls.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import Any

import click

EXIT = """
\b
Exit codes: 0 all is well · 1 a notebook or run failed · 2 bad input, nothing was started ·
3 the machine is in the way (disk full, folder locked or read-only)
"""
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, for scripts.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT)
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
@click.option(
    "-p",
    "--parameter",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Overrides the profile; repeatable; YAML values.",
)
@click.option("--fresh", is_flag=True, help="Drop what earlier runs with these parameters finished, and start anew.")
@as_json
def run(notebooks: tuple[str, ...], profile: str, parameters: tuple, fresh: bool, as_json: bool) -> None:
    """Execute NOTEBOOKS ("02" is enough of a name; none: all) with papermill, in the order in which they need each other.

    The copies go to papermill_runs/<profile>/. Finished rounds, arms and seeds are reused where every setting is the same;
    the summary says how many. A notebook that fails is shown with its cell; those that need it are skipped, the rest go on.

    \b
    Examples:
      boostlib run 01
      boostlib run 02 --profile laptop -p seeds '[0, 1]'
      boostlib run 02 --profile laptop -p lr 1e-5 --fresh
    """
    from boostlib import runs
    from boostlib.runner import batch
    from boostlib.runner import execute as suite

    with sentences():
        given = {name: suite.read_yaml(value, f"-p {name} {value}") for name, value in parameters}
        chosen, outcomes = suite.choose(notebooks), []
        for outcome in batch.in_order(chosen, profile, given, runs.project_root(), fresh):
            click.echo(outcome.sentence(), err=as_json or outcome.state != "done")
            outcomes.append(outcome)
        if as_json:
            click.echo(json.dumps([outcome.plain() for outcome in outcomes]))
        elif len(outcomes) > 1:
            reused, computed = sum(o.rounds_reused for o in outcomes), sum(o.rounds_computed for o in outcomes)
            done = sum(o.state == "done" for o in outcomes)
            click.echo(f"{done} of {len(outcomes)} notebooks done; rounds: {reused} reused, {computed} computed")
        sys.exit(0 if all(o.state == "done" for o in outcomes) else 1)


@main.command(epilog=EXIT)
@click.argument("file", type=click.Path())
@click.option("--workers", type=click.IntRange(min=1), help="Processes; without it the file's `workers:`, else 1.")
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster instead (auto, host:port, ray://...).")
@click.option("--gpus", type=click.FloatRange(min=0), default=0, show_default=True, help="On Ray: GPUs a run holds.")
@click.option(
    "--retry-failed/--no-retry-failed",
    default=True,
    show_default=True,
    help="Execute runs that failed before once more, or leave them.",
)
@click.option(
    "--shard", metavar="I/N", help="Only every N-th run from the I-th (from 0): one of N jobs, such as a Slurm array."
)
@as_json
def sweep(
    file: str,
    workers: int | None,
    ray: str | None,
    gpus: float,
    retry_failed: bool,
    shard: str | None,
    as_json: bool,
) -> None:
    """Execute a notebook once for every parameter set in FILE, and gather the results into one table.

    One failed run does not stop the others; it is reported with its cell, the cell's source and the error. Started again,
    only what is missing or failed is executed. The table is runs/sweeps/<name>/results.parquet, one row a row of the
    notebook's own table, with the swept parameters in front.

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
    from boostlib.runner import batch
    from boostlib.runner import sweep as sweeps

    with sentences():
        plan, part = sweeps.read(file), sweeps.read_shard(shard)
        options = {"ray": ray, "gpus": gpus, "retry_failed": retry_failed, "shard": part}
        with redirect_stdout(sys.stderr):  # Ray prints on stdout, which is the report's
            report = sweeps.run(plan, workers, **options, say=click.echo)
        for i, record in report.failed.items():
            title = " ".join(f"{k}={json.dumps(v)}" for k, v in record["swept"].items())
            click.echo(f"\nfailed: run {i}  {title}\n{batch.told(record['failure'])}", err=True)
        if as_json:
            click.echo(json.dumps(asdict(report)))
        else:
            counts = f"{len(report.computed)} computed, {len(report.reused)} reused, {len(report.failed)} failed"
            click.echo(f"{report.total} runs: {counts}; {report.seconds:.1f} s")
            click.echo(f"{report.table}  {report.rows} rows" if report.table else "no run has finished: no table")
        sys.exit(1 if report.failed else 0)


@main.command()
@as_json
def status(as_json: bool) -> None:
    """Every run with its state, last finished round, accuracy on the test problems so far, and disk used."""
    from boostlib import runs
    from boostlib.runner import status as housekeeping

    with sentences():
        folder = runs.project_root() / "runs"
        found, batches = housekeeping.seeds(folder), housekeeping.sweeps(folder)
        if as_json:
            rows = [asdict(one) | {"folder": str(one.folder)} for one in found]
            click.echo(json.dumps({"runs": rows, "sweeps": batches, "bytes": housekeeping.size(folder)}))
            return
        for one in found:
            accuracy = "    -" if one.accuracy is None else f"{one.accuracy:.3f}"
            at = "-" if one.round is None else one.round
            size = housekeeping.human(one.bytes)
            click.echo(f"{one.state:<9} round {at:<3} test {accuracy}  {size:>10}  {one.run} seed {one.seed}")
        for b in batches:
            counts = f"{b['done']} done, {b['failed']} failed, {b['unfinished']} unfinished"
            click.echo(f"{b['state']:<9} {counts}  {housekeeping.human(b['bytes']):>10}  sweep {b['sweep']}")
        click.echo(f"{len(found)} runs, {housekeeping.human(housekeeping.size(folder))} in runs/")


@main.command()
@click.argument("run")
@as_json
def show(run: str, as_json: bool) -> None:
    """Manifest and curves of RUN in the terminal: enough of its name or hash as `boostlib status` prints it."""
    from boostlib import runs
    from boostlib.runner import status as housekeeping

    with sentences():
        about = housekeeping.describe(housekeeping.find(runs.project_root() / "runs", run))
        if as_json:
            click.echo(json.dumps(about))
        elif "manifest" in about:
            _show_run(about)
        else:
            _show_swept(about)


def _show_run(about: dict[str, Any]) -> None:
    from boostlib.runner.status import curve

    identity = about["manifest"]["identity"]
    click.echo(f"{about['run']}  (hash {about['manifest']['hash'][:12]}, commit {about['environment'].get('commit')})")
    for name, value in identity.items():
        for key, one in value.items() if isinstance(value, dict) else [(None, value)]:
            click.echo(f"  {name + '.' + key if key else name:<28} {one}")
    for seed, rows in about["seeds"].items():
        if rows:
            click.echo(f"{seed}")
            for name in ("test_accuracy", "train_accuracy", "train_accuracy_at_k"):
                values = [row.get(name) for row in rows]
                click.echo(f"  {name:<20} {curve(values)}  " + " ".join(f"{v:.3f}" for v in values if v is not None))


def _show_swept(about: dict[str, Any]) -> None:
    from boostlib.runner.batch import told

    click.echo(f"{about['state']}  {about['seconds']} s\n  {about.get('command', '')}")
    for name, value in about["identity"]["parameters"].items():
        click.echo(f"  {name:<28} {value}")
    if about["state"] == "failed":
        click.echo(told(about["failure"]))


@main.command()
@as_json
def doctor(as_json: bool) -> None:
    """What this machine can do (threads, memory, disk, GPU, sandbox, data, models, hub), and what to do about each gap.

    Exit code 1 where something is missing without which nothing runs; a gap alone is 0.
    """
    from boostlib.runner import doctor as examination

    found = examination.examine()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
    else:
        for one in found:
            click.echo(f"{one.state:<6} {one.what:<8} {one.found}")
            if one.advice:
                click.echo(f"{'':<15} -> {one.advice}")
    sys.exit(any(one.state == "broken" for one in found))


@main.command()
@click.option(
    "--final", is_flag=True, help="Also the last checkpoints of finished runs; these then take no more rounds."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def clean(final: bool, yes: bool, as_json: bool) -> None:
    """Remove checkpoints that nothing resumes from, and what killed processes left half-written.

    Shows what it would free, then asks. Samples, verdicts, tables and running runs are never touched.
    """
    from boostlib import runs
    from boostlib.runner import status as housekeeping

    with sentences():
        root = runs.project_root()
        found = housekeeping.waste(root / "runs", final)
        total = sum(one.bytes for one in found)
        for one in found:
            line = f"{housekeeping.human(one.bytes):>10}  {one.path.relative_to(root)}  ({one.why})"
            click.echo(line, err=as_json)
        if found and not yes and not click.confirm(f"Remove these, {housekeeping.human(total)}?", err=True):
            found = []
        freed = housekeeping.remove(found)
        report = {"removed": [str(one.path.relative_to(root)) for one in found], "bytes": freed}
        click.echo(json.dumps(report) if as_json else f"freed {housekeeping.human(freed)}")


@main.command()
@click.option("--profile", default="mini", show_default=True)
def record(profile: str) -> None:
    """Copy the small tables of finished notebooks from runs/ to papermill_runs/, for committing."""
    from boostlib.runner import execute as suite

    with sentences():
        for folder in suite.record(profile):
            click.echo(f"papermill_runs/{profile}/{folder.name}")


@contextmanager
def sentences() -> Iterator[None]:
    """Bad input and a machine in the way end in one sentence and an exit code, not in a stack trace."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        fail(error, 2)
    except (OSError, RuntimeError) as error:
        fail(error, 3)


def fail(error: Exception, code: int) -> None:
    click.echo(f"boostlib: {error}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
