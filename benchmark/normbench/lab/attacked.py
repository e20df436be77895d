"""Every attack of a trial on its test images. One that fails costs none of the others their numbers, nor the clean
accuracy: it is named at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from normbench.attacks.base import Attack
from normbench.lab import evaluate
from normbench.lab.engine.gradients import Searches
from normbench.lab.machine import memory_of
from normbench.lab.train import Tensors
from normbench.spec.outcome import AttackResult
from normbench.spec.text import said
from normbench.tensors.snapshot import Snapshot


class AttackError(RuntimeError):
    """Attacks of a trial have failed, each named with its reason; the others have their numbers."""


@dataclass
class Attacked:
    """What has come of the attacks so far."""

    results: list[AttackResult] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    """Attacks as they are written, without sizes, and what they raised."""

    def run(
        self,
        model: nn.Module,
        method: Attack,
        test: Tensors,
        correct: torch.Tensor,
        *,
        seed: int,
        batch_size: int,
        data_dir: str | None,
        report: Callable[[float], None],
        searches: Searches | None,
    ) -> None:
        """As `evaluate.attack`, each part with its search. An attack that ends with an error leaves no result, of none
        of its sizes, and the model as it was. An error of memory passes through: another try, alone on the device, may
        have enough.
        """
        parts = method.parts()
        before = Snapshot(model)
        for position, part in enumerate(parts):
            try:
                with evaluate.evaluating(model):
                    search = searches.of(part) if searches else None
                self.results += evaluate.attack(
                    model,
                    part,
                    test,
                    correct,
                    seed=seed,
                    batch_size=batch_size,
                    data_dir=data_dir,
                    report=_share(report, position, len(parts)),
                    search=search,
                )
            except Exception as error:  # an attack is foreign code
                if memory_of(error):
                    raise
                before.restore()
                self.failures.append((part.setting, error))

    def settle(self) -> None:
        """Raise `AttackError` if any attack has failed."""
        if not self.failures:
            return
        raise AttackError(self.told) from self.failures[0][1]

    @property
    def told(self) -> str:
        """The failed attacks with their reasons."""
        several = f"{len(self.failures)} attacks failed: " if len(self.failures) > 1 else ""
        return several + "; ".join(_told(self.failures))


def _told(failures: Sequence[tuple[str, Exception]]) -> list[str]:
    """A text for each reason, of all attacks that share it."""
    by_reason: dict[str, list[str]] = {}
    for setting, error in failures:
        by_reason.setdefault(f"{type(error).__name__}: {said(error)}", []).append(setting)
    return [f"attack {', '.join(settings)} failed: {reason}" for reason, settings in by_reason.items()]


def _share(report: Callable[[float], None], position: int, parts: int) -> Callable[[float], None]:
    return lambda done: report((position + done) / parts)
