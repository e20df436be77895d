"""What a command wishes besides a suite's own file: other values of its keys, weights that are kept, loggers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from normbench.plan.plan import Plan
    from normbench.spec.trial import Trial
    from normbench.store.store import Store
    from normbench.suite import Suite

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Another value for a key of the suite, e.g. train.epochs=2 or norms=bn,gn; may be repeated.",
        metavar="KEY=VALUE",
    ),
]
KeepWeights = Annotated[
    bool, typer.Option("--keep-weights", help="Keep the weights of trained networks beside the results.")
]
Log = Annotated[
    list[str] | None,
    typer.Option("--log", help="Write trials to tensorboard, wandb or mlflow too; may be repeated.", metavar="LOGGER"),
]


@dataclass(frozen=True)
class Wishes:
    """The options of a command."""

    changes: Sequence[str] | None = None
    keep_weights: bool = False
    log: Sequence[str] | None = None

    def load(self, suite: str) -> Suite:
        """The suite with what is wished. Raises `SuiteError`, and `BenchError` for a logger that does not exist."""
        from normbench.suite import load

        return self.of(load(suite, self.changes or ()))

    def of(self, loaded: Suite) -> Suite:
        """The same of a suite that was loaded."""
        keep = {*loaded.keep, *(["weights"] if self.keep_weights else [])}
        log = {*loaded.log, *map(_logger, self.log or ())}
        return loaded.model_copy(update={"keep": tuple(sorted(keep)), "log": tuple(sorted(log))})


def _logger(name: str) -> str:
    from normbench.errors import BenchError
    from normbench.spec.loggers import LOGGERS
    from normbench.suite import nearest

    if name not in LOGGERS:
        raise BenchError(
            f"--log {name}: there is no such logger; there are {', '.join(LOGGERS)}{nearest(name, [*LOGGERS])}"
        )
    return name


def weights_size(plan: Plan, trials: Sequence[Trial]) -> dict[str, Any]:
    """About how large the weights of a suite's final trials are: `each`, the least and the most bytes of one, and
    `bytes`, of all; and `missing`, how many are cached without theirs.
    """
    from normbench.lab.weights import size_of

    sides = {images.side for images in plan.datasets.values()}
    side = next(iter(sides)) if len(sides) == 1 else None
    known: dict[str, int] = {}
    for trial in trials:
        key = _network(trial)
        if key not in known:
            known[key] = size_of(trial, image_size=side or 32)
    sizes = [known[_network(trial)] for trial in trials]
    missing = sum(i.without_weights for i in plan.items)
    return {"trials": len(sizes), "each": [min(sizes), max(sizes)], "bytes": sum(sizes), "missing": missing}


def _network(trial: Trial) -> str:
    return f"{trial.model.model_dump_json()} {trial.data.image_size}"


def say_size(plan: Plan, store: Store, size: dict[str, Any], console: Console) -> None:
    """One line about what `weights_size` found."""
    from normbench.store.weights import FOLDER

    least, most = map(_bytes, size["each"])
    each = f"about {least}" if least == most else f"{least} to {most}"
    count = f"{size['trials']} trial{'s' if size['trials'] != 1 else ''}"
    where = store.files.where(f"{plan.suite}/{FOLDER}")
    console.print(
        f"  weights: {count}, {each} each, {_bytes(size['bytes'])} in all, in {where}", highlight=False, soft_wrap=True
    )


def say_missing(plan: Plan, console: Console) -> None:
    """What is asked for and will not be there: loggers without their package, weights of trials that are cached."""
    for text in plan.unlogged:
        console.print(f"  missing: {text}; nothing is logged there", highlight=False, soft_wrap=True)
    if count := sum(i.without_weights for i in plan.items):
        have = "1 cached trial has" if count == 1 else f"{count} cached trials have"
        console.print(
            f"  weights: {have} none, since they were not kept; --retry runs such trials again",
            highlight=False,
            soft_wrap=True,
        )


def _bytes(count: float) -> str:
    """`512 kB`, `44.8 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
