"""Results for tests of the store: rows that hold together, of trials that differ in their seed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from normbench.plan.identity import identity
from normbench.spec.outcome import AttackResult, Outcome, Reading, Status
from normbench.spec.trial import Trial
from normbench.store.store import Store

from tests.conftest import MakeTrial

FIRST_VERSION = Path(__file__).parent / "v1"
RIGHT = np.arange(20) % 3 > 0
STOOD = RIGHT & (np.arange(20) % 2 > 0)


def outcome(started: float = 1.0, status: Status = Status.OK) -> Outcome:
    attack = AttackResult(
        attack="bim",
        threat="linf",
        size=0.1,
        correct=int(STOOD.sum()),
        total=20,
        outcomes=np.packbits(STOOD).tobytes(),
        seconds=1.0,
        model_calls=9,
    )
    return Outcome(
        status=status,
        clean_correct=int(RIGHT.sum()),
        test_total=20,
        clean_outcomes=np.packbits(RIGHT).tobytes(),
        attacks=(attack,),
        curves=tuple(Reading(step=i, epoch=i / 4, measure="loss", value=1 / (i + started)) for i in range(5)),
        started=started,
        wall_seconds=2.0,
    )


def fill(
    store: Store, make_trial: MakeTrial, seeds: Iterable[int], suite: str = "s", started: float = 1.0
) -> list[Trial]:
    """Write a row for each seed, and return the trials."""
    trials = [make_trial(seed=s) for s in seeds]
    for trial in trials:
        store.write(suite, trial, identity(trial, "f" * 64).to_dict(), outcome(started))
    return trials


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def rows(store: Store) -> list[dict[str, Any]]:
    return list(store.rows())
