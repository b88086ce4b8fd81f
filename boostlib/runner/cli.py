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

from boostlib import runs

EXIT = "Exit codes: 0 all is well, 1 a notebook or run failed, 2 bad input, 3 the machine is in the way (disk, locks)."
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, for scripts.")
timeout = click.option("--timeout", type=click.IntRange(1), metavar="SECONDS", help="Longest time of a cell.")
of_profile = click.option("--profile", default="mini", show_default=True, help="A folder of notebooks/profiles/.")


class Group(click.Group):
    """Bad input, and a machine in the way, end in one sentence and an exit code."""

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
    """


def tell(document: Any, lines: Iterable[str], as_json: bool, code: int = 0) -> None:
    """One JSON document, or lines for people; then end with an exit code."""
    for line in [json.dumps(document)] if as_json else lines:
        click.echo(line)
    sys.exit(code)


@main.command(epilog=EXIT)
@click.argument("notebooks", nargs=-1)
@of_profile
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Over the profile; repeatable; YAML.")
@click.option("--fresh", is_flag=True, help="Drop what earlier runs with these parameters finished, and start anew.")
@timeout
@as_json
def run(notebooks: tuple[str, ...], profile: str, given: tuple, as_json: bool, **how: Any) -> None:
    """Execute NOTEBOOKS ("02" is enough of a name; none: all) with papermill, in the order in which they need each other.

    Copies go to runs/notebooks/<profile>/, with -p to folders of their own, which 06 and `record` do not read. What is
    finished is reused. Those that need a notebook that failed are skipped, the rest go on.

    \b
    boostlib run 01
    boostlib run 02 --profile laptop -p seeds '[0, 1]' -p lr 1e-5 --fresh
    """
    from boostlib.runner.execute import exit_code, in_order
    from boostlib.runner.parameters import choose, read_yaml, resolve

    root, outcomes = runs.project_root(), []
    if len(dict(given)) < len(given):
        raise ValueError("-p gives a parameter twice: give each once")
    values = {name: read_yaml(value, f"-p {name} {value}") for name, value in given}
    jobs = [resolve(path, profile, values) for path in choose(notebooks, root)]
    for outcome in in_order(jobs, root, **how):
        click.echo(outcome.sentence(), err=as_json or outcome.state != "done")
        outcomes.append(outcome)
    done, code = sum(o.state == "done" for o in outcomes), exit_code([o.failure for o in outcomes if o.failure])
    last = [f"{done} of {len(outcomes)} notebooks done"] if len(outcomes) > 1 else []
    tell([asdict(outcome) for outcome in outcomes], last, as_json, code)


@main.command(epilog=EXIT)
@click.argument("file", type=click.Path())
@click.option("--workers", type=click.IntRange(min=1), help="Processes; without it the file's `workers:`, else 1.")
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster instead (auto, host:port, ray://...).")
@click.option("--gpus", type=click.FloatRange(min=0), default=0, show_default=True, help="On Ray: GPUs a run holds.")
@click.option("--retry-failed/--no-retry-failed", default=True, help="Execute what failed before once more, or not.")
@click.option("--shard", metavar="I/N", help="Only every N-th run from the I-th (from 0): one of N jobs.")
@timeout
@as_json
def sweep(file: str, workers: int | None, shard: str | None, as_json: bool, **options: Any) -> None:
    """Execute a notebook once for every parameter set in FILE, and gather its tables in runs/sweeps/<name>/results.parquet.
    One failed run does not stop the others; started again, only what is missing or failed is executed.

    \b
    FILE:
      notebook: 02
      parameters: {rounds: 3}
      grid: {beta: [0.1, 0.3, 0.5], seeds: [[0], [1]]}     # every combination; `list:` gives sets one by one
      workers: 2
    """
    from boostlib.runner import sweep as sweeps
    from boostlib.runner.execute import exit_code, told

    plan, part = sweeps.read(file), sweeps.read_shard(shard)
    with redirect_stdout(sys.stderr):  # it and Ray print on stdout, which is the report's
        report = sweeps.run(plan, workers, shard=part, **options)
    for i, record in (failed := report["failed"]).items():
        click.echo(f"\nfailed: run {i}  {record['command']}\n{told(record['failure'])}", err=True)
    counts = f"{len(report['computed'])} computed, {len(report['reused'])} reused, {len(failed)} failed"
    table = f"{report['table']}  {report['rows']} rows" if report["table"] else "no run has finished: no table"
    lines = [f"{report['total']} runs: {counts}; {report['seconds']:.1f} s", table]
    tell(report, lines, as_json, exit_code([record["failure"] for record in failed.values()]))


@main.command()
@as_json
def status(as_json: bool) -> None:
    """Every run with its state, last finished round, accuracy on the test problems so far, and disk used."""
    from boostlib.runner import status

    folder = runs.project_root() / "runs"
    about = {"runs": status.seeds(folder), "sweeps": status.sweeps(folder), "bytes": status.size(folder)}
    tell(about, status.lines(about), as_json)


@main.command()
@click.argument("run")
@as_json
def show(run: str, as_json: bool) -> None:
    """Manifest and curves of RUN in the terminal: enough of its name or hash as `boostlib status` prints it."""
    from boostlib.runner import status

    about = status.describe(runs.project_root() / "runs", run)
    tell(about, status.shown(about), as_json)


@main.command()
@as_json
def doctor(as_json: bool) -> None:
    """What this machine can do, and what to do about each gap. Exit code 1 where nothing runs without what is missing."""
    from boostlib.runner import doctor

    rows = doctor.examine(runs.project_root())
    lines = (f"{r['state']:<6} {r['what']:<8} {r['found']}  {'-> ' * bool(r['advice'])}{r['advice']}" for r in rows)
    tell(rows, lines, as_json, any(row["state"] == "broken" for row in rows))


@main.command()
@click.option("--final", is_flag=True, help="Also the last checkpoints of finished runs: they take no more rounds.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def clean(final: bool, yes: bool, as_json: bool) -> None:
    """Remove checkpoints that nothing resumes from, and what killed processes left half-written.

    Shows what it would free, then asks. Samples, verdicts, tables and running runs are never touched.
    """
    from boostlib.runner import status

    root = runs.project_root()
    found = {path: (why, status.size(path)) for path, why in status.waste(root / "runs", final).items()}
    for path, (why, size) in found.items():
        click.echo(f"{status.human(size):>10}  {path.relative_to(root)}  ({why})", err=as_json)
    total = status.human(sum(size for _, size in found.values()))
    if found and (yes or click.confirm(f"Remove these, {total}?", err=True)):
        for path in found:
            status.remove(path)
    gone = {str(path.relative_to(root)): size for path, (_, size) in found.items() if not path.exists()}
    freed = sum(gone.values())
    tell({"removed": list(gone), "bytes": freed}, [f"freed {status.human(freed)}"], as_json)


@main.command()
@of_profile
def record(profile: str) -> None:
    """Copy what a profile's notebooks made here (copies, tables, figures) to papermill_runs/ and figures/, for committing."""
    from boostlib.runner import execute

    tell(None, execute.record(profile, runs.project_root()), False)


@main.command(epilog=EXIT)
@of_profile
@click.option("--tolerance", type=click.FloatRange(0), default=0.05, show_default=True, help="Without an interval.")
@as_json
def verify(profile: str, tolerance: float, as_json: bool) -> None:
    """Hold the tables of a profile's fresh runs (runs/tables/) against the recorded ones (papermill_runs/).

    A number must lie in the recorded interval, widened by half of the fresh one: the interval beside it, or that over the
    table's seeds. Without one it may differ by --tolerance (above 1: that share of it). With the recorded versions and
    processor all must be equal but times. Exit code 1 where something differs.
    """
    from boostlib.runner.verify import verify

    report = verify(profile, runs.project_root(), tolerance)
    lines = []
    for one in report["differences"]:
        both = [f"{x:.10g}" if isinstance(x, float) else x for x in (one.get("recorded"), one.get("fresh"))]
        at = one.get("what") or f"{one['row']}: {one['column']} recorded {both[0]}, fresh {both[1]}"
        within = " (expected {:.4g} to {:.4g})".format(*one["expected"]) if "expected" in one else ""
        lines.append(f"{one['file']}  {at}{within}")
    how = "equal to the last digit" if report["equal"] else "within the recorded spread"
    last = f"compared, {len(lines)} differ" if lines else how
    tell(report, [*lines, f"{report['compared']} values {last}"], as_json, bool(lines))


with suppress(ImportError):  # beside the package, in a clone: it measures this machine
    from benchmarks.rehearse import rehearse

    main.add_command(rehearse)
