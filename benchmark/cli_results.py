"""`bench results`: care of a results folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli_methods import Json, print_json
from benchmark.errors import BenchError

if TYPE_CHECKING:
    from benchmark.store import Store

app = typer.Typer(no_args_is_help=True, help="Check, compact, migrate, merge, export and clean results.")
Results = Annotated[
    str | None,
    typer.Option(
        "--results", help="Folder of results, or an address such as s3://bucket/prefix [default: results/ of the checkout, or BENCH_RESULTS].", metavar="DIR"
    ),
]


@app.command()
def verify(results: Results = None, as_json: Json = False) -> None:
    """Hold every shard against itself: readable, unchanged, of the trial that it says, accuracies as its stored outcomes. Exit code 1 if one is not."""
    from benchmark.shards import verify as examine

    good, findings = examine(open_store(results))
    if as_json:
        print_json({"good": good, "findings": [{"path": f.path, "problem": f.problem} for f in findings]})
    else:
        for finding in findings:
            print(f"{finding.path}: {finding.problem}", file=sys.stderr)  # noqa: T201
        print(f"{good} results hold together, {len({f.path for f in findings})} do not")  # noqa: T201
    if findings:
        raise typer.Exit(1)


@app.command()
def export(
    out: Annotated[str, typer.Argument(help="Folder to copy to.", metavar="DIR")],
    norm: Annotated[list[str] | None, typer.Option("--norm", help="Just this method; may be repeated.", metavar="NORM")] = None,
    suite: Annotated[list[str] | None, typer.Option("--suite", help="Just this suite; may be repeated.", metavar="SUITE")] = None,
    results: Results = None,
) -> None:
    """Copy the shards of a method or suite to another folder, for a pull request."""
    from benchmark.shards import export as copy

    store = open_store(results)
    with _told(store):
        copied = copy(store, open_store(out), norms=norm or (), suites=suite or ())
        print(f"copied {len(copied)} shards to {out}")  # noqa: T201


@app.command()
def merge(
    source: Annotated[str, typer.Argument(help="Folder to take from.", metavar="FROM")],
    target: Annotated[str, typer.Argument(help="Folder to bring them to.", metavar="INTO")],
) -> None:
    """Bring the results of one folder into another; of a trial that both have, the later run stays."""
    from benchmark.shards import merge as bring

    taken = open_store(source, must_exist=True)
    with _told(taken):
        counts = bring(taken, open_store(target))
        print(", ".join(f"{n} {what}" for what, n in counts.items()))  # noqa: T201


@app.command()
def compact(
    suite: Annotated[list[str] | None, typer.Option("--suite", help="Just this suite; may be repeated.", metavar="SUITE")] = None,
    results: Results = None,
) -> None:
    """Bring the shards of each suite into one file, which is quicker to read. Refused while a run works on the suite."""
    from benchmark.upkeep import compact as bring

    store = open_store(results)
    with _told(store):
        for name in _suites(store, suite):
            made = bring(store, name)
            what = "nothing to do" if made.file is None else f"{store.files.where(made.file)} in place of {made.removed} files"
            print(f"{name}: {made.rows} results, {what}")  # noqa: T201


@app.command()
def migrate(folder: Annotated[str | None, typer.Argument(help="Folder of results [default: as --results].", metavar="DIR")] = None) -> None:
    """Bring shards of an older schema to this version's. A new shard is written before the old one goes; it can be repeated."""
    from benchmark.migrate import migrate as bring

    store = open_store(folder, must_exist=True)
    done = bring(store)
    for old, new in done.superseded.items():
        print(f"{old} is removed: {new} is a later result of the same trial")  # noqa: T201
    print(f"{len(done.moved)} shards migrated, {len(done.superseded)} superseded, {len(done.problems)} left as they are")  # noqa: T201
    for name, problem in done.problems.items():
        print(f"bench: {store.files.where(name)} is left as it is: {problem}", file=sys.stderr)  # noqa: T201
    if done.problems:
        raise typer.Exit(1)


@app.command()
def gc(
    broken: Annotated[bool, typer.Option("--broken", help="Also shards that were set aside because they could not be read.")] = False,
    stale: Annotated[str | None, typer.Option("--stale", help="Also results of trials that this suite does not plan any more.", metavar="SUITE")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only named.")] = False,
    results: Results = None,
) -> None:
    """Name what nothing refers to, left-over temporary files first of all; with --yes, remove it."""
    from benchmark.upkeep import collect, garbage

    store = open_store(results, must_exist=True)
    unplanned = None
    if stale:
        from benchmark.suite import expand, load

        loaded = load(stale)
        unplanned = (loaded.name, [t.trial_id for t in expand(loaded)])
    found = garbage(store, broken=broken, unplanned=unplanned)
    for item in found:
        rows = f" ({len(item.trials)} rows: {', '.join(item.trials)})" if len(item.trials) > 1 else ""
        print(f"{'removed' if yes else 'would remove'} {store.files.where(item.name)}: {item.reason}{rows}")  # noqa: T201
    if yes:
        collect(store, found)
    print(f"{len(found)} files{'' if yes or not found else '; --yes removes them'}")  # noqa: T201


def open_store(results: str | None, *, must_exist: bool = False) -> Store:
    """The results folder or address that was named, or the default one. Raises `StoreError` for a file, and for a missing folder that must exist."""
    from benchmark.files import REMOTE
    from benchmark.resources import default_results
    from benchmark.store import Store, StoreError

    chosen = results or default_results()
    if isinstance(chosen, str) and REMOTE.match(chosen):
        return Store(chosen)
    root = Path(chosen).absolute()
    if root.exists() and not root.is_dir():
        raise StoreError(f"--results {root}: expected a folder, found a file")
    if must_exist and not root.exists():
        raise StoreError(f"{root}: there is no such folder")
    return Store(root)


def _suites(store: Store, chosen: list[str] | None) -> list[str]:
    there = store.suites()
    if unknown := sorted(set(chosen or ()) - set(there)):
        raise BenchError(f"no results of suite {', '.join(unknown)} in {store.root}; there are {', '.join(there) or 'none'}")
    return chosen or there


@contextmanager
def _told(store: Store) -> Iterator[None]:
    """Name what could not be read at the end, and exit with 1 if there is any."""
    yield
    for path, problem in store.problems.items():
        print(f"bench: {path} is left out: {problem}", file=sys.stderr)  # noqa: T201
    if store.problems:
        raise typer.Exit(1)
