"""`bench compare`: two methods against each other, by the rule of boards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import completion
from normbench.cli.methods import Json, print_json
from normbench.cli.results import Results, open_store

if TYPE_CHECKING:
    from rich.console import Console

    from normbench.board import Comparison, Entry

Side = Annotated[
    str,
    typer.Argument(
        help="A method as a suite names it (gn, gn[groups=8], ws+gn), the label of an entry, or the id of a trial.",
        autocompletion=completion.entries,
    ),
]


def compare(
    a: Side,
    b: Side,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            help="Just boards of this suite; may be repeated [default: all that have results].",
            metavar="SUITE",
            autocompletion=completion.suites,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="A metric by its key or label, or all; may be repeated [default: clean accuracy, and the robust "
            "accuracy that the board is ordered by].",
            metavar="METRIC",
        ),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Average over classes of devices and precisions.")
    ] = False,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Compare two methods on every board that has both: their difference, its interval, and whether it can be told."""
    from normbench.board.pairing import versus, versus_json
    from normbench.cli.boards import stored_boards
    from normbench.cli.planned import new_console, warn

    store = open_store(results, reads=True)
    found = versus(stored_boards(store, suite, together=together), a, b, metric or ())
    if as_json:
        return print_json(versus_json(found))
    from normbench.cli.say import shown
    from normbench.cli.terminal import COMPARED

    console = new_console()
    title = ""
    for board, one, other, made in found:
        if board.title != title:
            console.print(shown(f"\n{board.title}", style="bold"))
            title = board.title
        _show(one, other, made, console)
    console.print(shown(COMPARED, style="dim"))
    warn(store)
    return None


def _show(a: Entry, b: Entry, made: list[Comparison], console: Console) -> None:
    from normbench.board.pairing import differing
    from normbench.cli.say import shown
    from normbench.runner.fitted import Column, Fitted, number

    apart = ", ".join(f"{k} {x} against {y}" for k, (x, y) in differing(a, b).items())
    console.print(shown(f"{a.label} minus {b.label}{f' (they differ in {apart} as well)' if apart else ''}", "italic"))
    table = Fitted(
        [
            Column("Metric", key=True),
            *map(number, ("A", "B", "A − B", "from", "to", "p", "Seeds")),
            Column("Verdict", words=True),
        ]
    )
    for c in made:
        cells = [e.cells.get(c.metric.key) for e in (a, b)]
        factor = 100 if c.metric.share else 1
        ends = (c.mean, c.interval.low if c.interval else None, c.interval.high if c.interval else None)
        verdict = f"A is {c.verdict}" if c.verdict in {"higher", "lower"} else c.verdict
        table.add_row(
            f"{c.metric.heading}, {c.metric.unit}",
            *(c.metric.display(cell.value if cell else None) for cell in cells),
            *("–" if v is None else f"{factor * v:+.2f}" for v in ends),
            "–" if c.p is None else f"{c.p:.3g}",
            str(len(c.pairs)),
            verdict,
        )
    console.print(table)
