"""What becomes of a trial: its status, and everything that was measured on the way. Plain values only."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from normbench.spec.text import bounded, plain
from normbench.spec.trial import Value

#: Threats that a ball bounds. The larger ball contains the smaller one, so an image that fell at one size has fallen at
#: every larger one. Noises, corruptions and the historic setting in standardised space have no ball.
BALLS = frozenset({"linf", "l2", "l1"})
#: Most bytes of a reason or of a note in the provenance, and most bytes and lines that are kept of what a trial wrote.
REASON_BYTES, LOG_BYTES, LOG_LINES = 500, 8_000, 30


T = TypeVar("T")
#: Left out of `repr`: long.
Unshown = Annotated[T, Field(repr=False)]


class Status(StrEnum):
    """How a trial ended. Every planned trial ends in one of these."""

    OK = "ok"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    ERROR = "error"
    KILLED = "killed"
    STOPPED = "stopped"
    """A candidate of a tuning search that its scheduler gave up early."""


class AttackResult(Value):
    """One attack or noise at one size, over the test set."""

    attack: str
    """Name and parameters as written, without the size: `bim[steps=20]`."""
    threat: str
    """`linf`, `l2`, `l1` for attacks within a ball; `noise` for random perturbations; `corruption`; `standardised`: see
    `normbench.attacks.base.Threat`.
    """
    size: float
    """eps of an attack, standard deviation of a noise, in pixel space [0, 1]; severity of a corruption."""
    correct: int
    total: int
    outcomes: Unshown[bytes]
    """Packed bits (`numpy.packbits`), one an example in test-set order: 1 = still classified correctly."""
    seconds: float
    model_calls: int
    """Forward passes times examples."""
    largest: float | None = None
    """Largest perturbation among the images that were scored, in the threat's norm; None where the threat is no
    ball.
    """

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


class RobustnessCurve(Value):
    """Accuracy against size, image by image: of one attack, or of the worst case over all attacks of a threat."""

    attack: str
    """As in `AttackResult`, or `worst case`."""
    threat: str
    sizes: tuple[float, ...]
    """Ascending, without 0."""
    fell_at: Unshown[bytes]
    """One byte an example in test-set order: 0 = wrong as it is, k = fell at the k-th size, len(sizes) + 1 = stood."""
    area: float
    """Mean accuracy over sizes from 0 to the largest (trapezoids)."""
    median_size: float | None
    """Size at which half of the images have fallen, interpolated; None where more than half stand at the largest."""


class HealthCheck(Value):
    """One check of whether a robustness number can be trusted."""

    check: str
    passed: bool
    evidence: str
    """One line: what was measured, and the limit."""


class Reading(Value):
    """One point of a curve."""

    step: int
    epoch: float
    measure: str
    """Quantity: `loss`, `accuracy`, `weight-norm.raw`, ..."""
    layer: str = ""
    """Parameter or module name; empty for the whole network."""
    value: float | None
    """None where the quantity was not finite (Parquet keeps it as null, never as a NaN that averages would swallow)."""


class Outcome(Value):
    """What became of a trial. A failed one carries the reason and whatever was measured before."""

    status: Status
    reason: Annotated[str, BeforeValidator(partial(bounded, limit=REASON_BYTES))] = ""
    """One line for people; empty when ok."""
    log: Annotated[str, BeforeValidator(partial(bounded, limit=2 * LOG_BYTES, end=True))] = ""
    """Last lines (traceback, warnings) when it is not ok, after a line for each earlier try."""
    epoch: int = 0
    """Finished epochs."""
    clean_correct: int | None = None
    test_total: int | None = None
    clean_outcomes: Unshown[bytes | None] = None
    """Packed bits as in `AttackResult`."""
    test_loss: float | None = None
    train_loss: float | None = None
    """Mean over the last epoch."""
    validation_accuracy: float | None = None
    attacks: tuple[AttackResult, ...] = ()
    robustness: tuple[RobustnessCurve, ...] = ()
    health: tuple[HealthCheck, ...] = ()
    """Checks on the attacks' numbers; empty where nothing was attacked within a ball."""
    curves: Unshown[tuple[Reading, ...]] = ()
    measure_seconds: Unshown[dict[str, float]] = {}  # noqa: RUF012
    """What each measure cost, by name."""
    attempts: int = 1
    """How often the trial was started until it ended like this."""
    audit: Unshown[dict[str, Any]] = {}  # noqa: RUF012
    """What the swap did: see `normbench.lab.network.swap.Audit`."""
    provenance: Annotated[Unshown[dict[str, Any]], BeforeValidator(partial(plain, limit=REASON_BYTES))] = {}  # noqa: RUF012
    """Commit, package versions, device, precision; in `measure_errors` a line for each measure that failed, by name."""
    started: float = 0.0
    """Unix time."""
    wall_seconds: float = 0.0
    train_seconds: float = 0.0
    images_per_second: float | None = None
    """Training images divided by training seconds."""
    peak_memory: int | None = None
    """Bytes: of the GPU where one was used, else resident set of the process."""

    @property
    def clean_accuracy(self) -> float | None:
        return None if self.clean_correct is None or not self.test_total else self.clean_correct / self.test_total
