"""`bench cost`: time and memory of each method beside batch norm, on this machine."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli.methods import Json, print_json
from normbench.cli.results import Results, open_store
from normbench.cli.say import say, screen, shown
from normbench.errors import BenchError

if TYPE_CHECKING:
    from normbench.spec.cost import Cost, Costs


def cost(
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", help="Only these, as a suite names them: gn,ws+gn [default: all].", metavar="NORM,..."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu or cuda [default: cuda where there is a GPU].")
    ] = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Time the layer of each method, and a network with it, in turns with batch norm's, and count the memory that is
    kept for the backward pass. What was measured on this machine before, with the same code, is not measured again.
    """
    wanted = _wanted(methods)
    store = open_store(results)
    if device not in {None, "cpu", "cuda"}:
        raise BenchError(f"--device {device!r}: expected cpu or cuda")
    import torch

    from normbench.lab.cost import code_of, measure
    from normbench.lab.machine import machine
    from normbench.norms import resolve
    from normbench.runner.progress import duration
    from normbench.spec.cost import Costs
    from normbench.store import costs as files

    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("--device cuda: torch sees no GPU here; --device cpu measures on the processor")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    facts = machine(place, 1) | {"torch": torch.__version__.partition("+")[0]}
    found = files.read(store, files.name_of(Costs(machine=facts))) or Costs(machine=facts)
    where, began = "", time.monotonic()
    waiting = [label for label in wanted if _stale(found, label, code_of(resolve(label)[1]))]
    for number, label in enumerate(waiting, 1):
        row = measure(label, place)
        found = Costs(machine=facts, methods=found.methods | {label: row})
        where = files.keep(store, found)
        left = (time.monotonic() - began) / number * (len(waiting) - number)
        line = f"{number}/{len(waiting)} {_line(row)}{f', about {duration(left)} left' if left else ''}"
        say(line, file=sys.stderr if as_json else None, flush=True)
    if as_json:
        return print_json(found.model_dump(mode="json"))
    _show(found, wanted)
    if where:
        say(f"kept in {where}; bench site shows it on cost.html")
    return None


def _wanted(methods: str | None) -> list[str]:
    """Labels of the methods asked for. Raises `BenchError` for what is none."""
    from normbench.norms import NormModifier, registry, resolve

    if methods is not None:
        texts = [text.strip() for text in methods.split(",") if text.strip()]
        if not texts:
            raise BenchError("--methods: expected names such as gn,ws+gn, found none")
        return list(dict.fromkeys(resolve(text)[0] for text in texts))
    broken = registry.problems()
    there = [n for n in registry.names() if n not in broken]
    return [f"bn+{n}" if issubclass(registry.get(n), NormModifier) else resolve(n)[0] for n in there]


def _stale(found: Costs, label: str, code: str) -> bool:
    return label not in found.methods or found.methods[label].code != code


def _line(row: Cost) -> str:
    """`gn: layer x1.02 forward, ...; network x1.05`, at the last shape of each."""
    last = {(t.what, t.step): t for t in row.timings}
    parts = [f"{what} {step} {t.ratio:.2f}x" for (what, step), t in last.items()]
    return f"{row.method}: {', '.join(parts) or '; '.join(row.failed.values())}"


def _show(found: Costs, wanted: list[str]) -> None:
    from normbench.runner.fitted import Column, Fitted, number
    from normbench.spec.cost import REFERENCE

    say(f"{found.device}, torch {found.machine.get('torch')}: time and memory over those of {REFERENCE}")
    columns = list(dict.fromkeys((t.what, t.shape, t.step) for label in wanted for t in found.methods[label].timings))
    table = Fitted(
        [
            Column("method", key=True),
            *(number(f"{what}\n{shape}\n{step}") for what, shape, step in columns),
            number("network\nkept"),
        ]
    )
    for label in wanted:
        row = found.methods[label]
        there = {(t.what, t.shape, t.step): f"{t.ratio:.2f}" for t in row.timings}
        kept = [k.bytes / k.reference for k in row.kept if k.what == "network" and k.reference]
        table.add_row(shown(label), *(there.get(c, "–") for c in columns), f"{kept[-1]:.2f}" if kept else "–")
    screen().print(table)
    for label in wanted:
        for case, reason in found.methods[label].failed.items():
            say(f"{label}: nothing of {case}: {reason}")
