"""The command `bench`: arguments and messages only. What a verb needs is imported when it runs."""

from __future__ import annotations

import errno
import io
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import planned
from normbench.cli.claims import claims
from normbench.cli.compare import compare
from normbench.cli.cost import cost
from normbench.cli.data import app as data_app
from normbench.cli.methods import VERBS, Json, print_json
from normbench.cli.planned import AcceptVersions, Data, Only, Retry, SuiteName, new_console, tell, wanted
from normbench.cli.plugins import check, new
from normbench.cli.published import published
from normbench.cli.ranks import rank
from normbench.cli.release import release
from normbench.cli.removal import rm
from normbench.cli.rerun import rerun
from normbench.cli.results import Results
from normbench.cli.results import app as results_app
from normbench.cli.say import say
from normbench.cli.site import current, site
from normbench.cli.tables import board, table
from normbench.cli.wishes import KeepWeights, Log, Set, Wishes
from normbench.errors import BenchError, refusal
from normbench.paths import data_dir as folder_of_data

if TYPE_CHECKING:
    from rich.console import Console

    from normbench.runner.session import Summary

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What a normalization layer does to a network: a benchmark.",
)


def _version(asked: bool) -> None:
    if asked:
        import normbench

        say(f"normbench {normbench.__version__}")
        raise typer.Exit


@app.callback()
def bench(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def run(
    suite: SuiteName,
    results: Results = None,
    data: Data = None,
    only: Only = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Most trials at once [default: as many as fit].")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster: auto, host:port or ray://...", metavar="ADDRESS")
    ] = None,
    changes: Set = None,
    retry: Retry = False,
    accept_versions: AcceptVersions = False,
    keep_weights: KeepWeights = False,
    log: Log = None,
    site_dir: Annotated[
        Path | None, typer.Option("--site", help="Where to build the site [default: site/build].", metavar="DIR")
    ] = None,
) -> None:
    """Run what a suite still misses, then show its boards and build the site."""
    from normbench.plan.located import located
    from normbench.runner.whole import Asked, run_whole

    console = new_console()
    loaded, trials, searches, store = wanted(suite, results, only, Wishes(changes, keep_weights, log))
    asked = Asked(
        suite=loaded,
        trials=trials,
        searches=searches,
        store=store,
        data_dir=folder_of_data(data),
        jobs=jobs,
        address=address,
        retry=retry,
        accept_versions=accept_versions,
    )
    try:
        with located(loaded):
            plan, summary = run_whole(asked, console, partial(tell, store, console))
    except KeyboardInterrupt as stop:
        console.print("\ninterrupted: what had finished is stored; the same command goes on from here", soft_wrap=True)
        raise typer.Exit(getattr(stop, "exit_code", 130)) from None
    from normbench.cli.boards import boards_of
    from normbench.cli.terminal import render_all
    from normbench.paths import default_site

    console.print(render_all(*boards_of(loaded, store, {i.trial.trial_id for i in plan.items})))
    console.print(f"site: {current(store, site_dir or default_site())[0]}", highlight=False, soft_wrap=True)
    _end(summary, suite, console)


def _end(summary: Summary, suite: str, console: Console) -> None:
    """Tell the engines, and name the trials that broke, if any; then the exit code is 1."""
    from rich.text import Text

    from normbench.runner.engines import engine_lines

    for told in engine_lines(summary.facts):
        console.print(Text(told), soft_wrap=True)
    for item, status, reason in summary.broken:
        line = Text.assemble((status.value, "red"), f" {item.trial.title}: {reason}")
        console.print(line, soft_wrap=True)
    if summary.broken:
        advice = f"see why: bench status {suite} --why; run them again: bench run {suite} --retry"
        console.print(advice, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


app.command()(planned.plan)
app.command()(planned.status)
app.command()(rerun)


app.command()(board)
app.command()(table)
app.command()(site)


@app.command()
def schema() -> None:
    """Print the JSON schema of a suite file."""
    from normbench.suite import json_schema

    print_json(json_schema())


@app.command()
def doctor(data: Data = None, as_json: Json = False) -> None:
    """Say what is installed, which devices and datasets there are, and what would run where."""
    from normbench.cli.doctor import examine, show

    found = examine(folder_of_data(data))
    if as_json:
        return print_json(found)
    return show(found, new_console())


for verb in (*VERBS, new, check, rank, compare, claims, published, cost):
    app.command()(verb)
results_app.command()(rm)
results_app.command()(release)
app.add_typer(results_app, name="results")
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of `bench`: what a user can mend is one message and an exit code."""
    if sys.stdout is None:  # what is opened next would take its place, and be written into
        if sys.stderr is not None:
            say("bench: cannot write to standard output: it is closed", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale may lack characters: they are replaced
            stream.reconfigure(errors="replace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BenchError as error:
        say(f"bench: {error}", file=sys.stderr, flush=True)
        if error.at_once:
            sys.stdout.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `bench ... | head` is no error
        sys.exit(0)
    except OSError as error:
        # Whatever else is written is written where its folder can be named.
        lost = error.filename is None and error.errno in {errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG}
        what = "cannot write to standard output" if lost else "the system refuses to go on"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the end
        say(f"bench: {what}: {refusal(error)}", file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
