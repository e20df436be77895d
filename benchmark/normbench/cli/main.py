"""The command `bench`: arguments and messages only. What a verb needs is imported when it runs."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import planned
from normbench.cli.data import app as data_app
from normbench.cli.methods import VERBS, Json, print_json
from normbench.cli.planned import AcceptVersions, Data, Only, Retry, SuiteName, new_console, say_foreseen, wanted, warn
from normbench.cli.ranks import rank
from normbench.cli.results import Results, data_folder, open_store
from normbench.cli.results import app as results_app
from normbench.cli.say import say
from normbench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.console import Console

    from normbench.plan.plan import Plan
    from normbench.runner.session import Summary

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What a normalization layer does to a network: a benchmark.",
)


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
    retry: Retry = False,
    accept_versions: AcceptVersions = False,
    site_dir: Annotated[
        Path | None, typer.Option("--site", help="Where to build the site [default: site/build].", metavar="DIR")
    ] = None,
) -> None:
    """Run what a suite still misses, then show its boards and build the site."""
    from normbench.runner import spawn
    from normbench.runner.folder import run_folder

    console = new_console()
    loaded, trials, searches, store = wanted(suite, results, only)
    with ExitStack() as opened:
        folder = opened.enter_context(run_folder())
        # A cluster's nodes load torch themselves. Here it is loaded from now on, while the plan is made and Ray starts.
        variables = {} if address else opened.enter_context(spawn.running())
        from normbench.cli.terminal import render_choices
        from normbench.plan.plan import make
        from normbench.runner import session
        from normbench.runner.cluster import Connection
        from normbench.runner.sharing import refuse_other_versions
        from normbench.store.about import keep
        from normbench.suite import about

        data_dir = data_folder(data)
        planning = partial(make, loaded.name, trials, store, data_dir, searches=searches, download=True)
        planning = partial(planning, retry=retry, accept_versions=accept_versions)
        note = partial(console.print, soft_wrap=True)
        ray = opened.enter_context(Connection(folder, address, variables, note))
        running = partial(
            session.run, store=store, limits=loaded.limits, console=console, data_dir=data_dir, jobs=jobs, ray=ray
        )

        def again(ended: Collection[str]) -> Plan:
            made = planning(ended=ended)
            console.print(render_choices(made), highlight=False, soft_wrap=True)
            return made

        plan = planning()
        if not plan.todo:
            opened.close()
        refuse_other_versions(store)
        keep(store, loaded.name, about(loaded).model_copy(update={"datasets": plan.datasets}))
        console.print(session.announce(plan), highlight=False, soft_wrap=True)
        if plan.tuning and not plan.waiting:
            console.print(render_choices(plan), highlight=False, soft_wrap=True)
        say_foreseen(plan, console)
        warn(store)
        try:
            plan, summary = session.both_phases(plan, running, again)
        except KeyboardInterrupt as stop:
            note("\ninterrupted: what had finished is stored; the same command goes on from here")
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None
    from normbench.cli.boards import boards_of
    from normbench.cli.terminal import render_all
    from normbench.pages import build
    from normbench.paths import default_site

    console.print(render_all(*boards_of(loaded, store, {i.trial.trial_id for i in plan.items})))
    console.print(f"site: {build(store, site_dir or default_site())}", highlight=False, soft_wrap=True)
    _end(summary, suite, console)


def _end(summary: Summary, suite: str, console: Console) -> None:
    """Name the trials that broke, if any; then the exit code is 1."""
    from rich.text import Text

    for item, status, reason in summary.broken:
        line = Text.assemble((status.value, "red"), f" {item.trial.title}: {reason}")
        console.print(line, soft_wrap=True)
    if summary.broken:
        advice = f"see why: bench status {suite} --why; run them again: bench run {suite} --retry"
        console.print(advice, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


app.command()(planned.plan)
app.command()(planned.status)


@app.command()
def board(
    suite: SuiteName,
    results: Results = None,
    only: Only = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="Average over classes of devices and precisions, which stand apart without it."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a suite's boards in the terminal."""
    from normbench.board import boards_json
    from normbench.cli.boards import boards_of
    from normbench.plan.plan import known

    loaded, trials, searches, store = wanted(suite, results, only)
    made, tried = boards_of(loaded, store, known(loaded.name, trials, searches, store), together=together)
    if as_json:
        return print_json(boards_json(made))
    console = new_console()
    if made or tried:
        from normbench.cli.terminal import render_all

        console.print(render_all(made, tried))
    else:
        console.print(f"no results of {loaded.name} in {store.root} yet: bench run {suite}", soft_wrap=True)
    warn(store)
    return None


@app.command()
def site(
    results: Results = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to build [default: site/build].", metavar="DIR")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Just this suite; may be repeated.", metavar="SUITE")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Build the static site from the results."""
    from normbench.pages import build
    from normbench.paths import default_site

    store = open_store(results)
    if only and (unknown := sorted(set(only) - set(store.suites()))):
        raise BenchError(
            f"no results of suite {', '.join(unknown)} in {store.root}; there are {', '.join(store.suites()) or 'none'}"
        )
    index = build(store, out or default_site(), suites=only)
    new_console().print(f"site: {index}", highlight=False, soft_wrap=True)
    warn(store)
    if show:
        typer.launch(index.resolve().as_uri())


@app.command()
def schema() -> None:
    """Print the JSON schema of a suite file."""
    from normbench.suite import json_schema

    print_json(json_schema())


@app.command()
def doctor(data: Data = None, as_json: Json = False) -> None:
    """Say what is installed, which devices and datasets there are, and what would run where."""
    from normbench.cli.doctor import examine, show

    found = examine(data_folder(data))
    if as_json:
        return print_json(found)
    return show(found, new_console())


for verb in (*VERBS, rank):
    app.command()(verb)
app.add_typer(results_app, name="results")
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of `bench`: what a user can mend is one message and an exit code."""
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
        if error.errno not in {errno.ENOSPC, errno.EIO, errno.EBADF} or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the end
        say(f"bench: cannot write to standard output: {error.strerror}", file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
