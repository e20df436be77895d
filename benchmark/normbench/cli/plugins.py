"""`bench new` and `bench check`: a norm, an attack or a measure of one's own, from its template to its contract."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normbench.cli import completion
from normbench.cli.methods import Json, print_json
from normbench.cli.say import say, screen, shown
from normbench.errors import BenchError, on_disk

if TYPE_CHECKING:
    from normbench.norms.check import Row
    from normbench.spec.outcome import Outcome
    from normbench.spec.plugins import Registry

#: The room of each kind of plug-in.
ROOMS = {"norm": "norms", "attack": "attacks", "measure": "measures"}
Kind = Annotated[
    str,
    typer.Argument(
        help=f"{', '.join(list(ROOMS)[:-1])} or {list(ROOMS)[-1]}.",
        metavar="KIND",
        autocompletion=lambda incomplete: [k for k in ROOMS if k.startswith(incomplete)],
    ),
]


def registry_of(kind: str) -> Registry[Any]:
    """The registry of a kind of plug-in. Raises `BenchError`."""
    registry: Registry[Any] = importlib.import_module(f"normbench.{_room(kind)}").registry
    return registry


def _room(kind: str) -> str:
    if kind not in ROOMS:
        raise BenchError(f"there is no template or contract for {kind!r}; expected {', '.join(ROOMS)}")
    return ROOMS[kind]


def new(
    kind: Kind,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.", metavar="NAME")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Where to write it [default: the folder of its kind in benchmark/normbench of the checkout].",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Write a new norm, attack or measure from a template that already runs."""
    from normbench.paths import checkout

    room, root = _room(kind), checkout()
    if folder is None and root is None:
        raise BenchError("this is an installed package, not a checkout: say with --folder where the file should go")
    scaffold = importlib.import_module(f"normbench.{room}.scaffold").scaffold
    place = folder or Path(str(root)) / "benchmark" / "normbench" / room
    try:
        with on_disk(f"cannot write a {kind} to {place}"):
            path = scaffold(name, place)
    except ValueError as error:
        raise BenchError(str(error)) from error
    say(f"wrote {path}; next: bench check {kind} {name}")


def check(
    kind: Kind,
    name: Annotated[
        str,
        typer.Argument(
            help="A registered one, with parameters if wanted: gn[groups=8].",
            metavar="NAME",
            autocompletion=completion.plugins,
        ),
    ],
    smoke: Annotated[bool, typer.Option("--smoke/--no-smoke", help="Also a trial on the digits of one epoch.")] = True,
    as_json: Json = False,
) -> None:
    """Hold a norm's claims against measurements, or an attack or a measure to its contract; then a short trial. Exit
    code 1 when something does not hold.
    """
    method = registry_of(kind).parse(name)
    rows, notes, trained = _EXAMINE[kind](method, name, smoke)
    good = all(r.ok for r in rows) and (trained is None or trained.status == "ok")
    if as_json:
        ended = trained and {
            "status": trained.status.value,
            "reason": trained.reason,
            "clean_accuracy": trained.clean_accuracy,
        }
        claims = [{"claim": r.claim, "claimed": r.claimed, "measured": r.measured, "ok": r.ok} for r in rows]
        print_json({kind: name, "ok": good, "claims": claims, "notes": notes, "smoke": ended})
    else:
        _show(rows, notes, trained)
    if not good:
        raise typer.Exit(1)


_Examined = tuple[list["Row"], list[str], "Outcome | None"]


def _norm(method: Any, name: str, smoke: bool) -> _Examined:
    from normbench.norms import NormModifier
    from normbench.norms.check import check as examine
    from normbench.norms.check import lacking
    from normbench.runner.smoke import smoke_trial

    named = f"bn+{name}" if isinstance(method, NormModifier) else name
    return examine(method), lacking(method), smoke_trial(named) if smoke else None


def _attack(method: Any, name: str, smoke: bool) -> _Examined:
    from normbench.lab.contracts import check_attack
    from normbench.runner.smoke import smoke_trial
    from normbench.spec.text import show

    data = os.environ.get("BENCH_DATA")
    if missing := method.lacks(Path(data) if data else None):
        raise BenchError(f"{name} cannot be checked here: {missing}")
    rows, results = check_attack(method, data)
    told = [f"{r.attack} at {show(r.size)}: {r.correct} of {r.total} images of a small network stand" for r in results]
    trained = smoke_trial("bn", attack=method.component()) if smoke and all(r.ok for r in rows) else None
    if trained:
        told += [f"health check in the smoke trial: {h.check}: {h.evidence}" for h in trained.health if not h.passed]
    return rows, told, trained


def _measure(method: Any, _: str, smoke: bool) -> _Examined:
    from normbench.lab.contracts import check_measure
    from normbench.norms.check import Row
    from normbench.runner.smoke import smoke_trial

    rows = check_measure(method)
    if not smoke or not all(r.ok for r in rows):
        return rows, [], None
    measured, plain = smoke_trial("bn", measure=method.component()), smoke_trial("bn")
    same = (measured.train_loss, measured.clean_outcomes) == (plain.train_loss, plain.clean_outcomes)
    rows.append(Row("a trial's numbers are the same without it", "yes", "yes" if same else "no"))
    quantities = dict.fromkeys(r.measure for r in measured.curves)
    return rows, [f"in the smoke trial: {', '.join(quantities)}"] if quantities else [], measured


_EXAMINE = {"norm": _norm, "attack": _attack, "measure": _measure}


def _show(rows: list[Row], notes: list[str], trained: Outcome | None) -> None:
    from rich.text import Text

    from normbench.runner.fitted import Column, Fitted

    console = screen()
    table = Fitted([Column("claim", key=True), Column("claimed"), Column("measured", words=True), Column("")])
    for row in rows:
        table.add_row(row.claim, row.claimed, row.measured, Text("✓", "green") if row.ok else Text("✗", "red"))
    console.print(table)
    for note in notes:
        console.print(shown(note), soft_wrap=True)
    if trained is not None:
        result = f"clean accuracy {trained.clean_accuracy:.1%}" if trained.status == "ok" else trained.reason
        line = f"smoke trial on digits: {trained.status.value}, {result} ({trained.wall_seconds:.1f} s)"
        console.print(shown(line), soft_wrap=True)
        if trained.log:
            console.print(shown(trained.log), soft_wrap=True)
