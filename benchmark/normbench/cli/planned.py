"""`bench plan` and `bench status`, and what every verb about a suite needs: its options, its trials and their store."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import completion
from normbench.cli.methods import Json, print_json
from normbench.cli.results import Results, open_store
from normbench.cli.say import say, screen
from normbench.cli.wishes import KeepWeights, Log, Set, Wishes, say_missing, say_size, weights_size
from normbench.paths import data_dir as folder_of_data

if TYPE_CHECKING:
    from rich.console import Console

    from normbench.plan.plan import Plan
    from normbench.spec.trial import Trial
    from normbench.spec.tuning import TuningSearch
    from normbench.store.store import Store
    from normbench.suite import Suite

SuiteName = Annotated[
    str,
    typer.Argument(
        help="A suite file, or the name of one in suites/ (digits, cifar, ...).",
        metavar="SUITE",
        autocompletion=completion.suites,
    ),
]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of datasets [default: BENCH_DATA].", metavar="DIR")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Just the trials that match, e.g. norm=gn; may be repeated.",
        metavar="KEY=VALUE",
        autocompletion=completion.only,
    ),
]
AcceptVersions = Annotated[
    bool,
    typer.Option(
        "--accept-versions", help="Results of other versions of torch, timm, foolbox, numpy and pillow count."
    ),
]
Retry = Annotated[
    bool,
    typer.Option(
        "--retry",
        help="Count failed trials (error, out_of_memory, timed_out) as missing; where weights are kept, also trials "
        "without them.",
    ),
]


def plan(
    suite: SuiteName,
    results: Results = None,
    data: Data = None,
    only: Only = None,
    changes: Set = None,
    retry: Retry = False,
    accept_versions: AcceptVersions = False,
    keep_weights: KeepWeights = False,
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Say what a suite holds: its size, what is cached, stale or missing, and how long the rest should take."""
    from normbench.cli.terminal import render_choices, tuned_in_words
    from normbench.runner.possible import looked_at
    from normbench.runner.session import announce
    from normbench.suite.only import axes

    wishes = Wishes(changes, keep_weights, log)
    loaded, trials, store, made = _plan(
        suite, results, data, only, wishes, retry=retry, accept_versions=accept_versions
    )
    made = looked_at(made)
    size = weights_size(made, trials) if loaded.keeps_weights else None
    if as_json:
        return print_json(made.to_dict() | ({"weights": size} if size else {}))
    console = new_console()
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
    if size:
        say_size(made, store, size, console)
    for name in made.absent:
        advice = "bench run fetches it; --data or BENCH_DATA names a folder that has it"
        console.print(f"  data: {name} is not on this machine: {advice}", highlight=False, soft_wrap=True)
    say_foreseen(made, console)
    if made.todo and made.estimate is None:
        console.print("  time: unknown; the first finished trials will tell")
    warn(store)
    return None


def tell(store: Store, console: Console, plan: Plan, first: bool) -> None:
    """What a run is about to do. first: not the plan that a tuned run goes on with, which tells what was chosen."""
    from normbench.cli.terminal import render_choices
    from normbench.runner.session import announce

    if first:
        console.print(announce(plan), highlight=False, soft_wrap=True)
    if plan.tuning and not (first and plan.waiting):
        console.print(render_choices(plan), highlight=False, soft_wrap=True)
    if first:
        say_foreseen(plan, console)
        warn(store)


def say_foreseen(plan: Plan, console: Console) -> None:
    """What trials will fail at, before they are trained, and what else will be missing."""
    say_missing(plan, console)
    for text in plan.foreseen:
        console.print(f"  missing: {text}", highlight=False, soft_wrap=True)
    if plan.foreseen:
        console.print(
            "  such trials end as error, with their clean accuracy and what else they could run", soft_wrap=True
        )
    for text in plan.impossible:
        console.print(f"  impossible: {text}", highlight=False, soft_wrap=True)
    if plan.impossible:
        console.print("  such trials end as error before they are trained", soft_wrap=True)
    if plan.unseen:
        pairs = f"{plan.unseen} pair{'s' * (plan.unseen != 1)} of a network and a method"
        console.print(
            f"  whether {pairs} can be trained is not known: looking took too long, or broke", highlight=False
        )


def status(
    suite: SuiteName,
    why: Annotated[bool, typer.Option("--why", help="For each trial: its state, and the reason.")] = False,
    results: Results = None,
    data: Data = None,
    only: Only = None,
    changes: Set = None,
    accept_versions: AcceptVersions = False,
    as_json: Json = False,
) -> None:
    """Show how each trial of a suite stands: its result, or why there is none that counts."""
    from normbench.cli.terminal import render_choices
    from normbench.plan.plan import State
    from normbench.runner.session import announce

    _, _, store, made = _plan(suite, results, data, only, Wishes(changes), accept_versions=accept_versions, reads=True)
    if as_json:
        return print_json(made.to_dict())
    console = new_console()
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
    warn(store)
    return None


def wanted(
    suite: str, results: str | None, only: list[str] | None, wishes: Wishes | None = None, *, reads: bool = False
) -> tuple[Suite, list[Trial], list[TuningSearch], Store]:
    """A suite, and what is asked for of it: trials, or searches where it tunes. reads: see `open_store`."""
    from normbench.suite.only import chosen

    loaded, store = (wishes or Wishes()).load(suite), open_store(results, reads=reads)
    return loaded, *chosen(loaded, only or []), store


def _plan(
    suite: str,
    results: str | None,
    data: Path | None,
    only: list[str] | None,
    wishes: Wishes,
    *,
    retry: bool = False,
    accept_versions: bool = False,
    reads: bool = False,
) -> tuple[Suite, list[Trial], Store, Plan]:
    """The trials are those of the suite's grid: where it tunes, final ones with the tuned settings still open."""
    from normbench.plan.located import located
    from normbench.plan.plan import make

    loaded, trials, searches, store = wanted(suite, results, only, wishes, reads=reads)
    planning = partial(make, loaded.name, trials, store, folder_of_data(data), searches=searches, retry=retry)
    with located(loaded):
        made = planning(accept_versions=accept_versions, keep_weights=loaded.keeps_weights, log=loaded.log)
    return loaded, trials or [trial for search in searches for _, trial in search.finals], store, made


def _logs(store: Store, suite: str) -> dict[str, str]:
    """The last lines of each trial's log, by id."""
    return {
        r["trial_id"]: "\n".join("        | " + line for line in r["log"].splitlines()[-12:])
        for r in store.rows([suite], ["trial_id", "log"])
    }


def warn(store: Store) -> None:
    """Name the files that could not be read."""
    for path, problem in store.problems.items():
        say(f"bench: {path} is left out: {problem}", file=sys.stderr)


def new_console() -> Console:
    return screen()
