"""`bench board` and `bench table`: boards in the terminal, and as tables to take home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli.methods import Json, json_text
from normbench.cli.planned import Only, SuiteName, new_console, wanted, warn
from normbench.cli.results import Results
from normbench.cli.wishes import Set, Wishes
from normbench.errors import BenchError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from normbench.board import Board, Metric
    from normbench.board.sheets import Sheet


class Format(StrEnum):
    TEXT = "text"
    MD = "md"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


#: What the name of a file says of its format.
SUFFIXES = {
    ".txt": Format.TEXT,
    ".md": Format.MD,
    ".tex": Format.LATEX,
    ".csv": Format.CSV,
    ".json": Format.JSON,
}
Chosen = Annotated[
    Format | None,
    typer.Option("--format", help="[default: what the name after -o says, else text]"),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write to this file in place of the terminal.", metavar="FILE")
]
Together = Annotated[
    bool,
    typer.Option("--together", help="Average over classes of devices and precisions, which stand apart without it."),
]


def board(
    suite: SuiteName,
    results: Results = None,
    only: Only = None,
    changes: Set = None,
    together: Together = False,
    chosen: Chosen = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show a suite's boards: in the terminal, or as Markdown, LaTeX (booktabs), CSV or JSON."""
    from normbench.board import boards_json, sheets
    from normbench.cli.boards import boards_of, lacking_of
    from normbench.cli.terminal import render_all
    from normbench.plan.plan import known

    kind = _format(chosen, out, as_json=as_json)
    loaded, trials, searches, store = wanted(suite, results, only, Wishes(changes), reads=True)
    asked = known(loaded.name, trials, searches, store)
    made, tried = boards_of(loaded, store, asked, together=together)
    warn(store)
    if kind is Format.TEXT and out is None:
        console = new_console()
        if made or tried:
            console.print(render_all(made, tried))
            if lacking := lacking_of(loaded, store, asked):
                where = f"bench status {suite} --why"
                console.print(f"{lacking} of {len(asked)} trials have no result yet: {where}", soft_wrap=True)
        else:
            console.print(f"no results of {loaded.name} in {store.root} yet: bench run {suite}", soft_wrap=True)
        return
    found = [sheet for b in made for sheet in sheets.sheets(b)]
    if not made and kind is not Format.JSON:
        raise BenchError(f"no results of {loaded.name} in {store.root} yet: bench run {suite}")
    writers: dict[Format, Callable[[], str]] = {
        Format.TEXT: lambda: _captured([render_all(made, tried)]),
        Format.MD: lambda: sheets.markdown(found),
        Format.LATEX: lambda: sheets.latex(found),
        Format.CSV: lambda: sheets.tidy_csv(made),
        Format.JSON: lambda: json_text(boards_json(made)),
    }
    _write(writers[kind](), out)


def table(
    suite: SuiteName,
    results: Results = None,
    only: Only = None,
    changes: Set = None,
    noise: Annotated[
        str | None,
        typer.Option(help="The noise, by key or label [default: the paper's, else the first].", metavar="METRIC"),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(help="The attack, by key or label [default: the paper's BIM, else the first].", metavar="METRIC"),
    ] = None,
    together: Together = False,
    chosen: Chosen = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Print a suite in the layout of the source paper's tables: methods with and without weight decay; clean accuracy,
    under noise, under BIM, and both differences.
    """
    from normbench.board import layout, sheets
    from normbench.cli.boards import boards_of
    from normbench.plan.plan import known

    kind = _format(chosen, out, as_json=as_json)
    loaded, trials, searches, store = wanted(suite, results, only, Wishes(changes), reads=True)
    made, _ = boards_of(loaded, store, known(loaded.name, trials, searches, store), together=together)
    picked = [(b, _metric(b, made, noise, "--noise"), _metric(b, made, attack, "--attack")) for b in made]
    found = [sheet for b, n, a in picked if (sheet := layout.paper_layout(b, n, a))]
    warn(store)
    if kind is Format.TEXT and out is None:
        console = new_console()
        for part in _render(found):
            console.print(part)
        if not found:
            console.print(f"no results of {loaded.name} in {store.root} yet: bench run {suite}", soft_wrap=True)
        return
    if not found and kind is not Format.JSON:
        raise BenchError(f"no results of {loaded.name} in {store.root} yet: bench run {suite}")
    writers: dict[Format, Callable[[], str]] = {
        Format.TEXT: lambda: _captured(_render(found)),
        Format.MD: lambda: sheets.markdown(found),
        Format.LATEX: lambda: sheets.latex(found),
        Format.CSV: lambda: sheets.write_csv(layout.layout_csv(found)),
        Format.JSON: lambda: json_text(layout.layout_json(found)),
    }
    _write(writers[kind](), out)


def _metric(board: Board, boards: Sequence[Board], text: str | None, option: str) -> Metric | None:
    """The metric that an option names on a board; None where it names none, or this board has not that one."""
    from normbench.board.pairing import metrics_of, near

    if text is None:
        return None
    if not any(metrics_of(b, [text]) for b in boards):
        keys = [m.key for b in boards for m in b.of("robust")]
        raise BenchError(f"{option} {text!r}: no board has this metric{near(text, keys)}")
    return next(iter(metrics_of(board, [text])), None)


def _render(found: Sequence[Sheet]) -> list[RenderableType]:
    from normbench.cli.say import shown
    from normbench.runner.fitted import Column, Fitted, number

    parts: list[RenderableType] = []
    for sheet in found:
        fitted = Fitted([*(Column(h, key=True) for h in sheet.heads), *map(number, sheet.columns)])
        for words, numbers in sheet.rows:
            fitted.add_row(*words, *(n.text for n in numbers))
        parts += [shown(f"\n{sheet.title}", "bold"), fitted, shown(sheet.note, "dim")]
    return parts


def _captured(parts: Sequence[RenderableType]) -> str:
    """What a terminal of any width would show, as text."""
    import io

    from normbench.cli.say import WIDE, Screen

    console = Screen(file=io.StringIO(), width=WIDE, markup=False, highlight=False, emoji=False, color_system=None)
    with console.capture() as shown:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in shown.get().splitlines()) + "\n"


def _format(chosen: Format | None, out: Path | None, *, as_json: bool) -> Format:
    """What was asked for, or what the name of the file says. Raises `BenchError` where two say different things."""
    if as_json and chosen not in {None, Format.JSON}:
        raise BenchError(f"--json and --format {chosen} exclude each other: give one of them")
    if as_json or chosen:
        return chosen or Format.JSON
    if out is None:
        return Format.TEXT
    if out.suffix.lower() not in SUFFIXES:
        raise BenchError(f"-o {out}: the name says no format: give --format, or end it in {', '.join(SUFFIXES)}")
    return SUFFIXES[out.suffix.lower()]


def _write(text: str, out: Path | None) -> None:
    """To a file in one step, or to standard output."""
    from normbench.cli.say import say
    from normbench.store.files import write_named

    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    if not out.parent.is_dir():
        raise BenchError(f"-o {out}: there is no folder {out.parent}")
    try:
        write_named(out, text.encode(errors="replace"))
    except OSError as error:
        raise BenchError(f"-o {out}: cannot be written: {error.strerror or error}") from error
    say(f"wrote {out}")
