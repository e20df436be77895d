"""`bench results`: care of a results folder."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import completion
from normbench.cli.methods import Json, print_json
from normbench.cli.say import say
from normbench.errors import BenchError
from normbench.paths import data_dir
from normbench.spec.shown import counted

if TYPE_CHECKING:
    from normbench.store.store import Store
    from normbench.trust.rerun import Checked

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Check, compact, migrate, merge, export and clean results."
)
Results = Annotated[
    str | None,
    typer.Option(
        "--results",
        help="Folder of results, or an address such as s3://bucket/prefix [default: results/ of the checkout, or "
        "BENCH_RESULTS].",
        metavar="DIR",
    ),
]


@app.command()
def verify(results: Results = None, as_json: Json = False) -> None:
    """Hold every shard against itself: readable, unchanged, of the trial that it says, accuracies as its stored
    outcomes. Exit code 1 if one is not.
    """
    from normbench.store.verify import verify as examine

    good, findings = examine(open_store(results, reads=True))
    if as_json:
        print_json({"good": good, "findings": [{"path": f.path, "problem": f.problem} for f in findings]})
    else:
        for finding in findings:
            say(f"{finding.path}: {finding.problem}", file=sys.stderr)
        bad = len({f.path for f in findings})
        say(f"{counted(good, 'result')} hold{'s' * (good == 1)} together, {bad} do{'es' * (bad == 1)} not")
    if findings:
        raise typer.Exit(1)


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Shards or folders of them [default: all results].", metavar="PATH")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Just the shards that differ from where COMMIT was left.", metavar="COMMIT"),
    ] = None,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run whole trials again: what maintainers do.")] = False,
    whole: Annotated[
        float,
        typer.Option(
            "--whole", min=0, help="Seconds of training up to which a trial is run again whole.", metavar="SECONDS"
        ),
    ] = 60.0,
    mark: Annotated[
        Path | None, typer.Option("--mark", help="Results folder to write marks to, for what holds.", metavar="DIR")
    ] = None,
    results: Results = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of datasets [default: BENCH_DATA].", metavar="DIR")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run results again: identity from the code here, first training steps on a CPU, short trials whole. Exit code 1 if
    one does not hold.
    """
    from normbench.plan.fingerprints import Fingerprints
    from normbench.store import marks
    from normbench.store.files import open_files
    from normbench.trust.rerun import Rerun, Verdict, shards
    from normbench.trust.rerun import since as changed

    if since and paths:
        raise BenchError("--since and paths exclude each other: give one of them")
    root = open_store(results, reads=True).root
    if not isinstance(root, Path):
        raise BenchError(
            f"{root}: results are checked in a folder of this machine: bring them here by `bench results export DIR`"
        )
    chosen = changed(since, root) if since else shards(paths or [root])
    folder = data_dir(data)
    bench = Rerun(data_dir=folder, fingerprints=Fingerprints(folder, download=True), rerun=rerun, whole=whole)
    found = []
    for path in chosen:
        one = bench.check(path)
        found.append(one)
        if mark and one.mark:
            marks.add(open_files(mark.absolute()), path.parent.name, [one.mark])
        if not as_json:
            _print_check(one)
    counts = {v: sum(c.verdict is v for c in found) for v in Verdict}
    if as_json:
        print_json([_as_json(one) for one in found])
    else:
        say(", ".join(f"{n} {v.value}" for v, n in counts.items()) if found else "no shard to check")
    if counts[Verdict.REFUTED]:
        raise typer.Exit(1)


def _print_check(one: Checked) -> None:
    say(f"{one.verdict.value:15}{one.path.parent.name}/{one.path.stem}  {one.title}")
    for line in (*one.reasons, *(f"here: {note}" for note in one.notes)):
        say(f"{'':15}{line}", flush=True)


def _as_json(one: Checked) -> dict[str, object]:
    return {
        "path": str(one.path),
        "verdict": one.verdict.value,
        "reasons": one.reasons,
        "notes": one.notes,
        "mark": one.mark and one.mark.model_dump(mode="json"),
    }


@app.command()
def export(
    out: Annotated[str, typer.Argument(help="Folder to copy to.", metavar="DIR")],
    norm: Annotated[
        list[str] | None,
        typer.Option(
            "--norm", help="Just this method; may be repeated.", metavar="NORM", autocompletion=completion.norms
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", help="Just this suite; may be repeated.", metavar="SUITE", autocompletion=completion.suites
        ),
    ] = None,
    results: Results = None,
) -> None:
    """Copy the shards of a method or suite to another folder, for a pull request."""
    from normbench.store.merge import export as copy

    store = open_store(results, reads=True)
    with _reporting_problems(store):
        copied = copy(store, open_store(out), norms=norm or (), suites=suite or ())
        say(f"copied {counted(len(copied), 'shard')} to {out}")


@app.command()
def merge(
    source: Annotated[str, typer.Argument(help="Folder to take from.", metavar="FROM")],
    target: Annotated[str, typer.Argument(help="Folder to bring them to.", metavar="INTO")],
) -> None:
    """Bring the results of one folder into another; of a trial that both have, the later run stays."""
    from normbench.store.merge import merge as bring

    taken = open_store(source, must_exist=True)
    with _reporting_problems(taken):
        counts = bring(taken, open_store(target))
        say(", ".join(f"{n} {what}" for what, n in counts.items()))


@app.command()
def compact(
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite", help="Just this suite; may be repeated.", metavar="SUITE", autocompletion=completion.suites
        ),
    ] = None,
    results: Results = None,
) -> None:
    """Bring the shards of each suite into one file, which is quicker to read. Refused while a run works on the
    suite.
    """
    from normbench.store.compact import compact as bring

    store = open_store(results, reads=True)
    with _reporting_problems(store):
        for name in known_suites(store, suite):
            made = bring(store, name)
            what = (
                "nothing to do"
                if made.file is None
                else f"{store.files.where(made.file)} in place of {counted(made.removed, 'file')}"
            )
            say(f"{name}: {counted(made.rows, 'result')}, {what}")


@app.command()
def migrate(
    folder: Annotated[
        str | None, typer.Argument(help="Folder of results [default: as --results].", metavar="DIR")
    ] = None,
) -> None:
    """Bring shards of an older schema to this version's. A new shard is written before the old one goes; it can be
    repeated.
    """
    from normbench.store.migrate import migrate as bring

    store = open_store(folder, must_exist=True)
    done = bring(store)
    for old, new in done.superseded.items():
        say(f"{old} is removed: {new} is a later result of the same trial")
    moved = counted(len(done.moved), "shard")
    say(f"{moved} migrated, {len(done.superseded)} superseded, {len(done.problems)} left as they are")
    for name, problem in done.problems.items():
        say(f"bench: {store.files.where(name)} is left as it is: {problem}", file=sys.stderr)
    if done.problems:
        raise typer.Exit(1)


@app.command()
def gc(
    broken: Annotated[
        bool, typer.Option("--broken", help="Also shards that were set aside because they could not be read.")
    ] = False,
    stale: Annotated[
        str | None,
        typer.Option("--stale", help="Also results of trials that this suite does not plan any more.", metavar="SUITE"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only named.")] = False,
    results: Results = None,
) -> None:
    """Name what nothing refers to, left-over temporary files first of all; with --yes, remove it."""
    from normbench.store.compact import collect, garbage

    store = open_store(results, must_exist=True)
    unplanned = None
    if stale:
        from normbench.plan.plan import asked_for
        from normbench.suite import load
        from normbench.suite.only import chosen

        loaded = load(stale)
        unplanned = (loaded.name, asked_for(loaded.name, *chosen(loaded, []), store))
    found = garbage(store, broken=broken, unplanned=unplanned)
    for item in found:
        rows = f" ({len(item.trials)} rows: {', '.join(item.trials)})" if len(item.trials) > 1 else ""
        say(f"{'removed' if yes else 'would remove'} {store.files.where(item.name)}: {item.reason}{rows}")
    if yes:
        collect(store, found)
    say(f"{counted(len(found), 'file')}{'' if yes or not found else '; --yes removes them'}")


def open_store(results: str | None, *, must_exist: bool = False, reads: bool = False) -> Store:
    """The results folder or address that was named, or the default one.

    must_exist: there must be such a folder. reads: there must be if it was named, since nothing will be written there.
    Raises `StoreError` where there is none, and for a file.
    """
    from normbench.paths import default_results
    from normbench.store.files import REMOTE
    from normbench.store.store import Store, StoreError

    chosen = results or default_results()
    named = "--results " if results else "BENCH_RESULTS=" if os.environ.get("BENCH_RESULTS") else ""
    if isinstance(chosen, str) and REMOTE.match(chosen):
        if not chosen.partition("://")[2].partition("?")[0].strip("/"):
            raise StoreError(f"{named}{chosen}: expected an address with a place, such as s3://bucket/prefix")
        store = Store(chosen)
        try:
            store.files  # noqa: B018 (opened now, while it is known who named it)
        except BenchError as error:
            raise StoreError(f"{named}{error}") from error
        return store
    root = Path(chosen).absolute()
    try:
        there = root.exists()
        if there and not root.is_dir():
            raise StoreError(f"{named}{root}: expected a folder, found a file")
    except (OSError, ValueError) as error:  # too long a name, half a character, a folder that may not be entered
        text = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{named}{root}: cannot be opened: {text}") from error
    if not there and (must_exist or (reads and named)):
        raise StoreError(f"{named}{root}: there is no such folder{_nearest(root)}")
    return Store(root)


def _nearest(folder: Path) -> str:
    """A hint at a folder of a similar name; empty where there is none."""
    try:
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(folder.name, names, 1)
    return f"; did you mean {folder.parent / near[0]}?" if near else ""


def known_suites(store: Store, chosen: list[str] | None) -> list[str]:
    """The suites that were named, or all that have results. Raises `BenchError` for one without."""
    there = store.suites()
    if unknown := sorted(set(chosen or ()) - set(there)):
        from normbench.suite import suite_names

        planned = [f"`bench run {name}` makes those of {name}" for name in unknown if name in suite_names()]
        told = "; ".join([f"there are {', '.join(there) or 'none'}", *planned])
        raise BenchError(f"no results of suite {', '.join(unknown)} in {store.root}; {told}")
    return chosen or there


@contextmanager
def _reporting_problems(store: Store) -> Iterator[None]:
    """Name what could not be read at the end, and exit with 1 if there is any."""
    yield
    for path, problem in store.problems.items():
        say(f"bench: {path} is left out: {problem}", file=sys.stderr)
    if store.problems:
        raise typer.Exit(1)
