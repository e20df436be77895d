"""The command `bench`: arguments and messages only. What a verb needs is imported when it runs."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normbench.cli.methods import VERBS, Json, print_json
from normbench.cli.results import Results, data_folder, open_store
from normbench.cli.results import app as results_app
from normbench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Collection

    from rich.console import Console

    from normbench.plan.plan import Plan
    from normbench.spec.trial import Trial
    from normbench.spec.tuning import TuningSearch
    from normbench.store.store import Store
    from normbench.suite import Suite

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="What a normalization layer does to a network: a benchmark.",
)

SuiteName = Annotated[
    str, typer.Argument(help="A suite file, or the name of one in suites/ (digits, cifar, ...).", metavar="SUITE")
]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of datasets [default: BENCH_DATA].", metavar="DIR")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Just the trials that match, e.g. norm=gn; may be repeated.", metavar="KEY=VALUE"),
]
AcceptVersions = Annotated[
    bool,
    typer.Option(
        "--accept-versions", help="Results of other versions of torch, timm, foolbox, numpy and pillow count."
    ),
]
Retry = Annotated[
    bool, typer.Option("--retry", help="Count failed trials (error, out_of_memory, timed_out) as missing.")
]


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

    console = _console()
    loaded, trials, searches, store = _wanted(suite, results, only)
    with ExitStack() as loading:
        own_folder = loading.enter_context(run_folder())
        # A cluster's nodes load torch themselves. Here it is loaded from now on, while the plan is made and Ray starts.
        variables = {} if address else loading.enter_context(spawn.running())
        from normbench.cli.terminal import render_choices
        from normbench.plan.plan import make
        from normbench.runner import session
        from normbench.runner.cluster import Connection
        from normbench.runner.sharing import refuse_other_versions
        from normbench.store.about import keep
        from normbench.suite import about

        folder = data_folder(data)
        planned = partial(
            make,
            loaded.name,
            trials,
            store,
            folder,
            searches=searches,
            retry=retry,
            download=True,
            accept_versions=accept_versions,
        )
        carried_out = partial(
            session.run,
            store=store,
            limits=loaded.limits,
            console=console,
            data_dir=folder,
            jobs=jobs,
            ray=loading.enter_context(
                Connection(own_folder, address, variables, partial(console.print, soft_wrap=True))
            ),
        )

        def chosen(ended: Collection[str]) -> Plan:
            made = planned(ended=ended)
            console.print(render_choices(made), highlight=False, soft_wrap=True)
            return made

        plan = planned()
        if not plan.todo:
            loading.close()
        refuse_other_versions(store)
        keep(store, loaded.name, about(loaded).model_copy(update={"datasets": plan.datasets}))
        console.print(session.announce(plan), highlight=False, soft_wrap=True)
        if plan.tuning and not plan.waiting:
            console.print(render_choices(plan), highlight=False, soft_wrap=True)
        _warn(store)
        try:
            plan, summary = session.both_phases(plan, carried_out, chosen)
        except KeyboardInterrupt as stop:
            console.print(
                "\ninterrupted: what had finished is stored; the same command goes on from here", soft_wrap=True
            )
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None
    from normbench.cli.boards import boards_of
    from normbench.cli.terminal import render_all
    from normbench.pages import build
    from normbench.paths import default_site

    console.print(render_all(*boards_of(loaded, store, {i.trial.trial_id for i in plan.items})))
    console.print(f"site: {build(store, site_dir or default_site())}", highlight=False, soft_wrap=True)
    if summary.broken:
        for item, status, reason in summary.broken:
            console.print(f"[red]{status.value}[/red] {item.trial.title}: {reason}", highlight=False, soft_wrap=True)
        console.print(
            f"see why: bench status {suite} --why; run them again: bench run {suite} --retry",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)


@app.command()
def plan(
    suite: SuiteName,
    results: Results = None,
    data: Data = None,
    only: Only = None,
    retry: Retry = False,
    accept_versions: AcceptVersions = False,
    as_json: Json = False,
) -> None:
    """Say what a suite holds: its size, what is cached, stale or missing, and how long the rest should take."""
    from normbench.cli.terminal import render_choices, tuned_in_words
    from normbench.runner.session import announce
    from normbench.suite.only import axes

    loaded, trials, store, made = _plan(suite, results, data, only, retry=retry, accept_versions=accept_versions)
    if as_json:
        return print_json(made.to_dict())
    console = _console()
    console.print(announce(made), highlight=False, soft_wrap=True)
    for line in axes(trials, without=made.tuning[0].search.settings if made.tuning else ()):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if loaded.tune is not None:
        for search in made.tuning[:1]:
            console.print(f"  tuning: {tuned_in_words(loaded.tune, search.search)}", highlight=False, soft_wrap=True)
        console.print(render_choices(made), highlight=False, soft_wrap=True)
    limit = loaded.limits
    console.print(
        f"  limits: {limit.cpu} CPU, {limit.gpu} GPU, {limit.time:g} s a trial; engine: {limit.engine}", highlight=False
    )
    if made.todo and made.estimate is None:
        console.print("  time: unknown; the first finished trials will tell")
    _warn(store)
    return None


@app.command()
def status(
    suite: SuiteName,
    why: Annotated[bool, typer.Option("--why", help="For each trial: its state, and the reason.")] = False,
    results: Results = None,
    data: Data = None,
    only: Only = None,
    accept_versions: AcceptVersions = False,
    as_json: Json = False,
) -> None:
    """Show how each trial of a suite stands: its result, or why there is none that counts."""
    from normbench.cli.terminal import render_choices
    from normbench.plan.plan import State
    from normbench.runner.session import announce

    _, _, store, made = _plan(suite, results, data, only, accept_versions=accept_versions)
    if as_json:
        return print_json(made.to_dict())
    console = _console()
    console.print(announce(made), highlight=False, soft_wrap=True)
    logs = _logs(store, made.suite) if why else {}
    for item in made.items:
        stored = item.stored["status"] if item.stored else ""
        troubled = item.state is not State.CACHED or stored != "ok"
        if why and troubled:
            console.print(
                f"{item.state.value:8}{stored:14}{item.trial.title}", highlight=False, markup=False, soft_wrap=True
            )
            for reason in item.reasons or ([item.stored["reason"]] if item.stored else []):
                console.print(f"        {reason}", highlight=False, markup=False, soft_wrap=True)
            if stored == "error" and item.state is State.CACHED:
                console.print(logs[item.trial.trial_id], highlight=False, markup=False, soft_wrap=True)
    if made.tuning:
        console.print(render_choices(made), highlight=False, soft_wrap=True)
    ends = sorted({i.stored["status"] for i in made.items if i.stored})
    for end in ends:
        console.print(
            f"  {sum(bool(i.stored and i.stored['status'] == end) for i in made.items)} stored as {end}",
            highlight=False,
        )
    _warn(store)
    return None


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

    loaded, trials, searches, store = _wanted(suite, results, only)
    made, tried = boards_of(loaded, store, known(loaded.name, trials, searches, store), together=together)
    if as_json:
        return print_json(boards_json(made))
    console = _console()
    if made or tried:
        from normbench.cli.terminal import render_all

        console.print(render_all(made, tried))
    else:
        console.print(f"no results of {loaded.name} in {store.root} yet: bench run {suite}", soft_wrap=True)
    _warn(store)
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
    _console().print(f"site: {index}", highlight=False, soft_wrap=True)
    _warn(store)
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
    return show(found, _console())


def _wanted(
    suite: str, results: str | None, only: list[str] | None
) -> tuple[Suite, list[Trial], list[TuningSearch], Store]:
    """A suite, and what is asked for of it: trials, or searches where it tunes."""
    from normbench.suite import expand, load, searches
    from normbench.suite.only import select, select_searches

    loaded, store = load(suite), open_store(results)
    if loaded.tune is None:
        return loaded, select(expand(loaded), only or []), [], store
    return loaded, [], select_searches(searches(loaded), only or []), store


def _plan(
    suite: str,
    results: str | None,
    data: Path | None,
    only: list[str] | None,
    *,
    retry: bool = False,
    accept_versions: bool = False,
) -> tuple[Suite, list[Trial], Store, Plan]:
    """The trials are those of the suite's grid: where it tunes, final ones with the tuned settings still open."""
    from normbench.plan.plan import make

    loaded, trials, searches, store = _wanted(suite, results, only)
    made = make(
        loaded.name, trials, store, data_folder(data), searches=searches, retry=retry, accept_versions=accept_versions
    )
    return loaded, trials or [trial for search in searches for _, trial in search.finals], store, made


def _logs(store: Store, suite: str) -> dict[str, str]:
    """The last lines of each trial's log, by id."""
    return {
        r["trial_id"]: "\n".join("        | " + line for line in r["log"].splitlines()[-12:])
        for r in store.rows([suite], ["trial_id", "log"])
    }


def _warn(store: Store) -> None:
    for path, problem in store.problems.items():
        print(f"bench: {path} is left out: {problem}", file=sys.stderr)


for verb in VERBS:
    app.command()(verb)
app.add_typer(results_app, name="results")


def _console() -> Console:
    from rich.console import Console

    return Console()


def main() -> None:
    """Entry point of `bench`: what a user can mend is one message and an exit code."""
    try:
        app()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr, flush=True)
        if error.at_once:
            sys.stdout.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `bench ... | head` is no error
        sys.exit(0)


if __name__ == "__main__":
    main()
