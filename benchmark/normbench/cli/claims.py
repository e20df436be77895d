"""`bench claims`: what the sources claim, and what is found of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normbench.cli.methods import Json, print_json
from normbench.cli.results import Results, open_store
from normbench.cli.say import say, screen, shown
from normbench.errors import BenchError

if TYPE_CHECKING:
    from normbench.claims import Claim, Finding
    from normbench.claims._listed import Listed

COLOURS = {"holds": "green", "holds in part": "yellow", "refuted": "red"}


def claims(
    results: Results = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Only those of one source: sun, huang, yuan or cai.", metavar="SOURCE"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compute anew what needs no results, and hold it against the record.")
    ] = False,
    record: Annotated[bool, typer.Option("--record", help="With --check: keep what was found.")] = False,
    as_json: Json = False,
) -> None:
    """List what the sources claim, how it is tested and what is found. With --check, exit code 1 where a verdict is no
    longer the recorded one.
    """
    from normbench.claims.base import SOURCES

    if source is not None and source not in SOURCES:
        import difflib

        near = difflib.get_close_matches(source, SOURCES, 1, cutoff=0.0)
        raise BenchError(f"--source {source!r}: expected {', '.join(SOURCES)}; did you mean {near[0]!r}?")
    if record and not check:
        raise BenchError("--record keeps what --check finds: give both")
    if check and as_json:
        raise BenchError("--check prints its progress: give --json without it")
    from normbench.claims._listed import chosen

    wanted = chosen(source)
    if check:
        return _check(wanted, record=record)
    from normbench.claims._listed import listed

    rows = listed(wanted, lambda: _evidences(results))
    if as_json:
        return print_json([row.plain() for row in rows])
    return _show(rows)


def _evidences(results: str | None) -> Any:
    from normbench.pages.results import load
    from normbench.pages.study_pages import evidences

    return evidences(load(open_store(results, reads=True), None))


def _show(rows: Sequence[Listed]) -> None:
    from collections import Counter

    from rich.table import Table

    from normbench.claims.base import DECIDED, SOURCES

    console = screen()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("claim", "where", "tested", "verdict", "the number that decides"):
        table.add_column(column, no_wrap=column in {"tested", "verdict"}, overflow="fold")
    for row in rows:
        c, f = row.claim, row.finding
        table.add_row(
            shown(c.summary),
            shown(f"{SOURCES[c.source].short}: {c.place}"),
            c.test,
            shown(f.verdict, COLOURS.get(f.verdict, "")),
            shown(row.number),
        )
    console.print(table)
    counts = Counter(r.finding.verdict for r in rows)
    decided = sum(counts[v] for v in DECIDED)
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
    say(f"{len(rows)} claims, {decided} decided: {told}")


def _check(wanted: Iterable[Claim], *, record: bool) -> None:
    from normbench.claims import Computed
    from normbench.claims.base import record as keep
    from normbench.claims.base import recorded

    computed = [c for c in wanted if isinstance(c, Computed)]
    kept, found = recorded(), {}
    changed = 0
    started = time.monotonic()
    for i, claim in enumerate(computed, 1):
        begun = time.monotonic()
        finding = found[claim.name] = claim.compute()
        differs = claim.name not in kept or kept[claim.name].verdict != finding.verdict
        changed += differs
        note = f" (recorded: {_recorded(kept.get(claim.name))})" if differs else ""
        line = f"{i}/{len(computed)} {claim.name}: {finding.verdict}{note}, {time.monotonic() - begun:.1f} s"
        say(line, flush=True)
    if record:
        keep({**kept, **found})
    verb = "recorded" if record else "as recorded" if not changed else f"{changed} not as recorded"
    say(f"{len(computed)} claims computed in {time.monotonic() - started:.0f} s: {verb}")
    if changed and not record:
        raise typer.Exit(1)


def _recorded(finding: Finding | None) -> str:
    return finding.verdict if finding else "nothing"
