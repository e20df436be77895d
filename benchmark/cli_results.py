"""`bench results`: care of a results folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli_methods import Json, print_json
from benchmark.errors import BenchError

if TYPE_CHECKING:
    from benchmark.store import Store

app = typer.Typer(no_args_is_help=True, help="Check, export and merge results.")
Results = Annotated[Path | None, typer.Option("--results", help="Folder of results [default: results/ of the checkout, or BENCH_RESULTS].", metavar="DIR")]


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
        print(f"{good} shards hold together, {len({f.path for f in findings})} do not")  # noqa: T201
    if findings:
        raise typer.Exit(1)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Folder to copy to.", metavar="DIR")],
    norm: Annotated[list[str] | None, typer.Option("--norm", help="Just this method; may be repeated.", metavar="NORM")] = None,
    suite: Annotated[list[str] | None, typer.Option("--suite", help="Just this suite; may be repeated.", metavar="SUITE")] = None,
    results: Results = None,
) -> None:
    """Copy the shards of a method or suite to another folder, for a pull request."""
    from benchmark.shards import export as copy

    copied = copy(open_store(results), out, norms=norm or (), suites=suite or ())
    print(f"copied {len(copied)} shards to {out}")  # noqa: T201


@app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="Folder to take from.", metavar="FROM")],
    target: Annotated[Path, typer.Argument(help="Folder to bring them to.", metavar="INTO")],
) -> None:
    """Bring the results of one folder into another; of a trial that both have, the later run stays."""
    from benchmark.shards import merge as bring

    if not source.is_dir():
        raise BenchError(f"{source}: there is no such folder")
    taken = open_store(source)
    counts = bring(taken, open_store(target))
    print(", ".join(f"{n} {what}" for what, n in counts.items()))  # noqa: T201
    for path, problem in taken.problems.items():
        print(f"bench: {path} is left out: {problem}", file=sys.stderr)  # noqa: T201
    if taken.problems:
        raise typer.Exit(1)


def open_store(results: Path | None) -> Store:
    """The results folder that was named, or the default one. Raises `StoreError` for a file."""
    from benchmark.resources import default_results
    from benchmark.store import Store, StoreError

    root = (results or default_results()).absolute()
    if root.exists() and not root.is_dir():
        raise StoreError(f"--results {root}: expected a folder, found a file")
    return Store(root)
