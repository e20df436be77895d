"""The verbs of `bench` about methods that are there: what is registered, what a swap does."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normbench.cli import completion
from normbench.cli.say import in_json, say, screen, working
from normbench.errors import BenchError

if TYPE_CHECKING:
    from normbench.lab.network.swap import Audit

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def norms(as_json: Json = False) -> None:
    """List the normalization methods; with --json also their equations and claims."""
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


def models(
    beginning: Annotated[
        str, typer.Argument(help="How their names begin.", metavar="BEGINNING", autocompletion=completion.models)
    ] = "",
    as_json: Json = False,
) -> None:
    """List the architectures: our own, and timm's."""
    from normbench.spec.architectures import listed

    rows = [row for row in listed() if row["name"].startswith(beginning)]
    if not rows:
        raise BenchError(f"no architecture begins with {beginning!r}; `bench models` lists all")
    if as_json:
        return print_json(rows)
    from normbench.runner.fitted import Column, Fitted

    table = Fitted(
        [Column("name", key=True), Column("from"), Column("family"), Column("small images"), Column("width")]
    )
    for row in rows:
        table.add_row(row["name"], row["from"], row["family"], *("yes" if row[k] else "" for k in ("cifar", "width")))
    return screen().print(table)


def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="An architecture: `bench models` lists them.", metavar="MODEL", autocompletion=completion.models
        ),
    ],
    norm: Annotated[
        str,
        typer.Argument(
            help="A method as a suite names it: gn[groups=8], ws+gn.", metavar="NORM", autocompletion=completion.norms
        ),
    ],
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
    from normbench.spec.architectures import problem_with

    if stem not in {"cifar", "native"}:
        raise BenchError(f"--stem {stem!r}: expected cifar or native")
    if problem := problem_with(model, stem, width):
        raise BenchError(problem)
    resolve(norm)

    try:
        with working(f"auditing {model} with {norm}: loading torch and timm"):
            from normbench.lab.network.invariance import audit as examine

        with working(f"auditing {model} with {norm}: building, swapping, measuring which weights are scale-invariant"):
            done = examine(
                model, norm, stem="cifar" if stem == "cifar" else "native", width=width, image_size=image_size
            )
    except ValueError as error:  # ModelError, SwapError, FlowError, NormSiteError: each names the place
        raise BenchError(str(error)) from error
    if as_json:
        return print_json(done.model_dump(mode="json"))
    return _show_audit(done)


def _show_audit(done: Audit) -> None:
    from normbench.runner.fitted import Column, Fitted, number

    console = screen()
    table = Fitted(
        [Column("layer", key=True), Column("before"), Column("after", words=True), number("channels"), number("eps")]
    )
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


def _list(registry: Any, as_json: bool, extra: Any, columns: tuple[str, ...]) -> None:
    from normbench.spec.text import parameters

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
    from normbench.runner.fitted import Column, Fitted

    table = Fitted(
        [Column("name", key=True), *(Column(c, words=c in {"summary", "parameters", "source"}) for c in columns)]
    )
    for row in rows:
        shown = row | {"parameters": parameters(row["parameters"])}
        table.add_row(*(str(shown[c]) for c in ("name", *columns)))
    screen().print(table)
    for problem in problems.values():
        say(f"bench: {problem}", file=sys.stderr)
    return None


def json_text(value: object) -> str:
    """A value as JSON, in which what a terminal would obey is written as `\\u001b`."""
    # Where the terminal does not write UTF-8, characters are escaped: it stays the same JSON.
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    return in_json(json.dumps(value, indent=2, ensure_ascii=ascii_only, allow_nan=False))


def print_json(value: object) -> None:
    print(json_text(value))


VERBS = (norms, attacks, measures, models, audit)
