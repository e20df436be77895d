"""What a shell offers for an argument when Tab is pressed: lists of texts, or of texts with what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

import typer
from rich.markup import escape

from normbench.errors import BenchError

P = ParamSpec("P")
T = TypeVar("T")


def offered(found: Callable[P, Iterable[T]]) -> Callable[P, list[T]]:
    """Nothing is offered where something is amiss: a message would stand in the line that is being typed."""

    @wraps(found)
    def offer(*args: P.args, **kwargs: P.kwargs) -> list[T]:
        try:
            return list(found(*args, **kwargs))
        except (BenchError, OSError):
            return []

    return offer


@offered
def suites(incomplete: str) -> Iterator[str]:
    """Names of suites here and of those that ship with the package, and suite files."""
    from pathlib import Path

    from normbench.suite import suite_names

    yield from (n for n in suite_names() if n.startswith(incomplete))
    folder, _, start = incomplete.rpartition("/")
    for path in sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).glob("*")):
        if path.name.startswith(start) and (path.suffix in {".yaml", ".yml"} or path.is_dir()):
            there = f"{folder}/{path.name}" if "/" in incomplete else path.name
            yield f"{there}/" if path.is_dir() and not path.name.startswith(".") else there


@offered
def norms(incomplete: str) -> Iterator[tuple[str, str]]:
    """Normalization methods; after a `+`, what may stand behind it."""
    from normbench.norms import registry

    before, plus, start = incomplete.rpartition("+")
    for name in registry.names():
        if name.startswith(start):
            yield f"{before}{plus}{name}", escape(registry.get(name).summary)


@offered
def plugins(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Plug-ins of the kind that stands before on the command line."""
    from normbench.cli.plugins import registry_of

    registry = registry_of(context.params.get("kind") or "norm")
    return ((n, escape(registry.get(n).summary)) for n in registry.names() if n.startswith(incomplete))


@offered
def models(incomplete: str) -> Iterable[str]:
    """Architectures: those of our own that can be listed, and timm's."""
    from normbench.spec.architectures import CIFAR_RESNETS, architectures

    return (n for n in (*CIFAR_RESNETS, *architectures()) if n.startswith(incomplete))


@offered
def entries(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """What two sides of a comparison may be: norms, then trials that are stored."""
    yield from norms(incomplete)
    yield from trials(context, incomplete)


@offered
def trials(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Ids of stored trials. Without a beginning there would be too many of them."""
    from normbench.cli.results import open_store

    if not incomplete:
        return
    store = open_store(context.params.get("results"))
    for row in store.rows(None, ["trial_id", "suite", "norm", "seed"]):
        if row["trial_id"].startswith(incomplete):
            yield row["trial_id"], f"{row['suite']}: {row['norm']}, seed {row['seed']}"


@offered
def only(context: typer.Context, incomplete: str) -> Iterator[str]:
    """`norm=gn`: keys, then the values that the suite's trials have."""
    from normbench.suite import expand, load
    from normbench.suite.only import KEYS, value_of

    key, equals, start = incomplete.partition("=")
    if not equals:
        yield from (f"{k}=" for k in KEYS if k.startswith(key))
        return
    # Behind an option without its value, arguments are not yet read as parameters.
    if key in KEYS and (name := context.params.get("suite") or next(iter(context.args), None)):
        values = dict.fromkeys(str(value_of(t, key)) for t in expand(load(name)))
        yield from (f"{key}={value}" for value in values if value.startswith(start))
