"""`bench results rm`: stored rows, and the weights that belong to them, are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import completion
from normbench.cli.results import Results, open_store
from normbench.cli.say import say

if TYPE_CHECKING:
    from normbench.store.store import Store


def rm(
    trials: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of trials, or their first digits.", metavar="TRIAL", autocompletion=completion.trials),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option("--suite", help="Just results of this suite.", metavar="SUITE", autocompletion=completion.suites),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            help="Just the trials that match, e.g. norm=gn; may be repeated.",
            metavar="KEY=VALUE",
            autocompletion=completion.only,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only named.")] = False,
    results: Results = None,
) -> None:
    """Remove stored results: by their trials' ids, by suite, or by what their trials have; with their weights. Without
    --yes they are only named.
    """
    from normbench.cli.planned import warn
    from normbench.errors import BenchError
    from normbench.store.compact import collect, rows_of

    if not (trials or suite or only):
        raise BenchError("say which results: ids of trials, --only KEY=VALUE or --suite SUITE")
    store = open_store(results, must_exist=True)
    chosen = _chosen(store, trials or [], suite, only or [])
    for (name, trial_id), title in chosen.items():
        say(f"{'removed' if yes else 'would remove'} {name}/{trial_id}  {title}")
    if yes:
        for name in sorted({name for name, _ in chosen}):
            wanted = {trial_id for of, trial_id in chosen if of == name}
            collect(store, rows_of(store, name, wanted.__contains__, "asked for"))
    warn(store)
    say(f"{len(chosen)} result{'s' if len(chosen) != 1 else ''}{'' if yes else '; --yes removes them'}")


def _chosen(store: Store, ids: list[str], suite: str | None, only: list[str]) -> dict[tuple[str, str], str]:
    """Suite and id of each row that is meant, and its title. Raises `BenchError` where none is."""
    from normbench.store.find import find, known_suite
    from normbench.store.schema import trial_of
    from normbench.suite.only import select

    suites = [known_suite(store, suite)] if suite else store.suites()
    columns = ["suite", "trial_id", "spec"]
    if ids:
        rows = [find(store, text, suite=suite, columns=columns) for text in ids]
    else:
        rows = list(store.rows(suites, columns))
    stored = [(row["suite"], trial_of(row)) for row in rows]
    kept = {id(trial) for trial in select([trial for _, trial in stored], only)} if only else None
    return {(name, trial.trial_id): trial.title for name, trial in stored if kept is None or id(trial) in kept}
