"""`bench results`: care of a results folder."""

from __future__ import annotations

import os
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
def check(
    paths: Annotated[list[Path] | None, typer.Argument(help="Shards or folders of them [default: all results].", metavar="[PATH]...")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Just the shards that differ from where COMMIT was left.", metavar="COMMIT")] = None,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run whole trials again: what maintainers do.")] = False,
    whole: Annotated[float, typer.Option("--whole", min=0, help="Seconds of training up to which a trial is run again whole.", metavar="SECONDS")] = 60.0,
    mark: Annotated[Path | None, typer.Option("--mark", help="Results folder to write marks to, for what holds.", metavar="DIR")] = None,
    results: Results = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of datasets [default: BENCH_DATA].", metavar="DIR")] = None,
    as_json: Json = False,
) -> None:
    """Run results again: identity from the code here, first training steps on a CPU, short trials whole. Exit code 1 if one does not hold."""
    from benchmark.plan import Fingerprints
    from benchmark.trust import marks
    from benchmark.trust.check import Bench, Verdict, shards
    from benchmark.trust.check import since as changed

    if since and paths:
        raise BenchError("--since and paths exclude each other: give one of them")
    store = open_store(results)
    chosen = changed(since, store.root) if since else shards(paths or [store.root])
    data_dir = data_folder(data)
    bench = Bench(data_dir=data_dir, fingerprints=Fingerprints(data_dir, download=True), rerun=rerun, whole=whole)
    found = []
    for path in chosen:
        one = bench.check(path)
        found.append(one)
        if mark and one.mark:
            marks.add(mark.absolute() / path.parent.name, [one.mark])
        if not as_json:
            print(f"{one.verdict.value:15}{path.parent.name}/{path.stem}  {one.title}")  # noqa: T201
            for line in (*one.reasons, *(f"here: {note}" for note in one.notes)):
                print(f"{'':15}{line}", flush=True)  # noqa: T201
    counts = {v: sum(c.verdict is v for c in found) for v in Verdict}
    if as_json:
        print_json(
            [
                {"path": str(c.path), "verdict": c.verdict.value, "reasons": c.reasons, "notes": c.notes, "mark": c.mark and c.mark.model_dump(mode="json")}
                for c in found
            ]
        )
    else:
        print(", ".join(f"{n} {v.value}" for v, n in counts.items()) if found else "no shard to check")  # noqa: T201
    if counts[Verdict.REFUTED]:
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


def data_folder(data: Path | None) -> Path | None:
    """The data folder that was named, or that of BENCH_DATA. Raises `BenchError` where there is none of that name."""
    chosen = data or (Path(os.environ["BENCH_DATA"]) if os.environ.get("BENCH_DATA") else None)
    if chosen is not None and not chosen.is_dir():
        raise BenchError(f"{'--data' if data else 'BENCH_DATA'} {chosen}: there is no such folder")
    return chosen.absolute() if chosen else None


def open_store(results: Path | None) -> Store:
    """The results folder that was named, or the default one. Raises `StoreError` for a file."""
    from benchmark.resources import default_results
    from benchmark.store import Store, StoreError

    root = (results or default_results()).absolute()
    if root.exists() and not root.is_dir():
        raise StoreError(f"--results {root}: expected a folder, found a file")
    return Store(root)
