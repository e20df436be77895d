"""`bench compare`: two methods against each other, by the rule of boards."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import completion
from normbench.cli.methods import Json, print_json
from normbench.cli.results import Results, open_store
from normbench.errors import BenchError
from normbench.spec.shown import counted

if TYPE_CHECKING:
    from rich.console import Console

    from normbench.board import Comparison, Entry
    from normbench.spec.trial import Trial

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
            help="Just boards of this suite, by its name or file; may be repeated [default: all that have results].",
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
    from normbench.board.pairing import named, versus, versus_json
    from normbench.cli.boards import stored_boards
    from normbench.cli.planned import new_console, warn

    store = open_store(results, reads=True)
    suites = [_name(s) for s in suite] if suite else None
    there = store.suites()
    if unstored := [s for s, name in zip(suite or (), suites or (), strict=True) if name not in there]:
        _refuse_planned([a, b], unstored, results)
    boards = stored_boards(store, suites, together=together)
    if unseen := [text for text in dict.fromkeys((a, b)) if not any(named(board, text) for board in boards)]:
        _refuse_planned(unseen, suite or there, results)
    found = versus(boards, a, b, metric or ())
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


def _name(suite: str) -> str:
    """The name of a suite that is given by its name or its file."""
    from normbench.suite import load

    return load(suite).name if suite.endswith((".yaml", ".yml")) else suite


def _refuse_planned(sides: list[str], suites: list[str], results: str | None) -> None:
    """Raise `BenchError` for sides that stand on no board because their trials were not run yet: which, and what runs
    them. Suites whose file is not found, here or among those that ship, are passed over.
    """
    from normbench.suite import load, suite_names
    from normbench.suite.only import chosen

    told = []
    for suite in suites:
        known = suite in suite_names() or suite.endswith((".yaml", ".yml"))
        if not known and not Path(f"{suite}.yaml").is_file():
            continue
        file = suite if known else f"{suite}.yaml"
        loaded = load(file)
        trials, searches = chosen(loaded, [])
        trials += [trial for search in searches for _, trial in search.finals]
        planned = {side: [t for t in trials if side in _names(t)] for side in sides}
        if there := [side for side, own in planned.items() if own]:
            labels = dict.fromkeys(t.norm_label for own in planned.values() for t in own)
            only = [word for label in labels for word in ("--only", f"norm={label}")]
            command = shlex.join(["bench", "run", file, *only, *(["--results", results] if results else [])])
            one, count = len(there) == 1, len({t.trial_id for own in planned.values() for t in own})
            told.append(
                f"{' and '.join(map(repr, there))} {'has' if one else 'have'} no results in suite {loaded.name}, which "
                f"plans {counted(count, 'trial')} of {'it' if one else 'them'}: `{command}` runs what is missing"
            )
    if told:
        raise BenchError("; ".join(told))


def _names(trial: Trial) -> set[str]:
    """What a side may be called to mean a trial, as in `normbench.board.pairing.named`."""
    return {trial.trial_id, trial.norm_label, "+".join(c.name for c in trial.norm)}


def _show(a: Entry, b: Entry, made: list[Comparison], console: Console) -> None:
    from normbench.board import STALE
    from normbench.board.pairing import differing
    from normbench.cli.say import shown
    from normbench.runner.fitted import Column, Fitted, number

    stale = [f"{side.label} is {side.stale}" for side in (a, b) if side.stale]
    apart = ", ".join(f"{k} {x} against {y}" for k, (x, y) in differing(a, b).items())
    console.print(shown(f"{a.label} minus {b.label}{f' (they differ in {apart} as well)' if apart else ''}", "italic"))
    if stale:
        console.print(shown(f"{', '.join(stale)}: {STALE}", "yellow"))
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
