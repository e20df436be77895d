"""The verbs of `bench` about plug-ins: what is registered, what a swap does, a new method, its check."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normbench.cli.say import say, screen
from normbench.errors import BenchError, on_disk

if TYPE_CHECKING:
    from normbench.lab.network.swap import Audit

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Kind = Annotated[str, typer.Argument(help="The kind of plug-in; norm is the one there is.", metavar="KIND")]


def norms(as_json: Json = False) -> None:
    """List the normalization methods, with their claims."""
    from dataclasses import asdict

    from normbench.norms import registry

    _list(
        registry,
        as_json,
        lambda c: {"family": c.family, "equation": c.equation, "claims": asdict(c.claims)},
        ("family", "summary", "parameters", "source"),
    )


def attacks(as_json: Json = False) -> None:
    """List the attacks and noises."""
    from normbench.attacks import registry

    _list(
        registry,
        as_json,
        lambda c: {"threat": c.threat, "size": c.size_field},
        ("threat", "summary", "parameters", "source"),
    )


def measures(as_json: Json = False) -> None:
    """List the measures."""
    from normbench.measures import registry

    _list(registry, as_json, lambda _: {}, ("summary", "parameters", "source"))


def audit(
    model: Annotated[str, typer.Argument(help="A timm architecture.", metavar="MODEL")],
    norm: Annotated[str, typer.Argument(help="A method as a suite names it: gn[groups=8], ws+gn.", metavar="NORM")],
    stem: Annotated[str, typer.Option("--stem", help="cifar or native.")] = "cifar",
    width: Annotated[float, typer.Option("--width", min=0.01, max=64, help="Multiplier of the channel numbers.")] = 1.0,
    image_size: Annotated[
        int, typer.Option("--image-size", min=4, max=1024, help="Side of the images in pixels.")
    ] = 32,
    as_json: Json = False,
) -> None:
    """Say what a swap does to an architecture: what is replaced, kept and why, and which weights end up
    scale-invariant.
    """
    from normbench.norms import resolve
    from normbench.spec.architectures import architectures, stem_problem, width_problem

    if stem not in {"cifar", "native"}:
        raise BenchError(f"--stem {stem!r}: expected cifar or native")
    if model not in architectures():
        import difflib

        near = difflib.get_close_matches(model, architectures(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise BenchError(f"timm has no architecture {model!r}{hint}")
    if problem := stem_problem(model, stem) or width_problem(model, width):
        raise BenchError(problem)
    resolve(norm)

    from normbench.lab.network.invariance import audit as examine

    try:
        done = examine(model, norm, stem="cifar" if stem == "cifar" else "native", width=width, image_size=image_size)
    except ValueError as error:  # ModelError, SwapError, FlowError, NormSiteError: each names the place
        raise BenchError(str(error)) from error
    if as_json:
        return print_json(done.model_dump(mode="json"))
    return _show_audit(done)


def _show_audit(done: Audit) -> None:
    from rich.table import Table

    console = screen()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("layer", "before", "after", "channels", "eps"):
        table.add_column(column)
    for r in done.replaced:
        table.add_row(
            r.name,
            r.before,
            r.after,
            str(r.channels),
            f"{r.eps_before} -> {r.eps}" if r.eps != r.eps_before else str(r.eps),
        )
    for w in done.wrapped:
        table.add_row(
            w.name, w.layer, f"weight reparametrized, feeds {w.feeds or 'no norm'}", "x".join(map(str, w.shape)), ""
        )
    console.print(table)
    for kept in done.kept:
        console.print(f"kept {kept.name} ({kept.layer}): {kept.reason}", highlight=False, soft_wrap=True)
    console.print(done.in_short, highlight=False, soft_wrap=True)


def new(
    kind: Kind,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.", metavar="NAME")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", help="Where to write it [default: benchmark/normbench/norms of the checkout].", metavar="DIR"
        ),
    ] = None,
) -> None:
    """Write a new method from a template that already runs."""
    _only_norms(kind)
    from normbench.norms.scaffold import scaffold
    from normbench.paths import checkout

    root = checkout()
    if folder is None and root is None:
        raise BenchError("this is an installed package, not a checkout: say with --folder where the file should go")
    place = folder or Path(str(root)) / "benchmark" / "normbench" / "norms"
    try:
        with on_disk(f"cannot write a method to {place}"):
            path = scaffold(name, place)
    except ValueError as error:
        raise BenchError(str(error)) from error
    say(f"wrote {path}; next: bench check norm {name}")


def check(
    kind: Kind,
    name: Annotated[
        str, typer.Argument(help="A registered method, with parameters if wanted: gn[groups=8].", metavar="NAME")
    ],
    smoke: Annotated[
        bool, typer.Option("--smoke/--no-smoke", help="Also train it on the digits for one epoch.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Hold a method's claims against measurements, then train it for a moment. Exit code 1 when something does not
    hold.
    """
    _only_norms(kind)
    from normbench.norms import NormModifier, registry
    from normbench.norms.check import check as measure

    method = registry.parse(name)
    rows = measure(method)
    trained = None
    if smoke:
        from normbench.runner.smoke import smoke_trial

        trained = smoke_trial(f"bn+{name}" if isinstance(method, NormModifier) else name)
    good = all(r.ok for r in rows) and (trained is None or trained.status == "ok")
    if as_json:
        print_json(
            {
                "norm": name,
                "ok": good,
                "claims": [{"claim": r.claim, "claimed": r.claimed, "measured": r.measured, "ok": r.ok} for r in rows],
                "smoke": None
                if trained is None
                else {
                    "status": trained.status.value,
                    "reason": trained.reason,
                    "clean_accuracy": trained.clean_accuracy,
                },
            }
        )
    else:
        _show_check(rows, trained)
    if not good:
        raise typer.Exit(1)


def _show_check(rows: list[Any], trained: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    console = screen()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("claim", "claimed", "measured", ""):
        table.add_column(column)
    for row in rows:
        table.add_row(row.claim, row.claimed, row.measured, Text("✓", "green") if row.ok else Text("✗", "red"))
    console.print(table)
    if trained is not None:
        result = f"clean accuracy {trained.clean_accuracy:.1%}" if trained.status == "ok" else trained.reason
        console.print(
            f"smoke trial on digits: {trained.status.value}, {result} ({trained.wall_seconds:.1f} s)",
            highlight=False,
            soft_wrap=True,
        )
        if trained.log:
            console.print(trained.log, highlight=False, markup=False, soft_wrap=True)


def _only_norms(kind: str) -> None:
    if kind != "norm":
        raise BenchError(f"there is no template or contract for {kind!r}; expected norm")


def _list(registry: Any, as_json: bool, extra: Any, columns: tuple[str, ...]) -> None:
    from normbench.spec.text import show

    problems = registry.problems()
    rows = []
    for name in (n for n in registry.names() if n not in problems):
        cls = registry.get(name)
        rows.append(
            {
                "name": name,
                "summary": cls.summary,
                "source": cls.source,
                "parameters": registry.make(name).component().params,
                **extra(cls),
            }
        )
    if as_json:
        return print_json([*rows, *({"name": n, "problem": p} for n, p in problems.items())])
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("name", *columns):
        table.add_column(column, no_wrap=column in {"name", "family", "threat"})
    for row in rows:
        shown = row | {"parameters": ", ".join(f"{k}={show(v)}" for k, v in row["parameters"].items() if v is not None)}
        table.add_row(*(str(shown[c]) for c in ("name", *columns)))
    screen().print(table)
    for problem in problems.values():
        say(f"bench: {problem}", file=sys.stderr)
    return None


def print_json(value: object) -> None:
    # Where the terminal does not write UTF-8, characters are escaped: it stays the same JSON.
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=ascii_only, allow_nan=False))


VERBS = (norms, attacks, measures, audit, new, check)
