"""An attack that fails costs none of the others their numbers, nor the clean accuracy, and is named."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from normbench import attacks
from normbench.attacks import Attack
from normbench.attacks.base import Threat
from normbench.board import boards, why_not
from normbench.lab import data
from normbench.lab.attacked import Attacked, AttackError
from normbench.lab.evaluate import EvaluationError
from normbench.lab.train import Tensors
from normbench.lab.trial_run import Context, run
from normbench.plan.identity import identity
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Component, Trial
from normbench.store.schema import to_row
from torch import nn

from tests.conftest import MakeTrial


def _component(name: str, **params: object) -> Component:
    return attacks.registry.make(name, params).component()


BIM = _component("bim", eps=[1 / 255, 8 / 255], steps=2)
PGD = _component("pgd", eps=[8 / 255], steps=2)
#: Fails on three classes.
AUTOATTACK = _component("autoattack")
#: Fails without its files, each of its kinds by itself.
STORED = _component("cifar10-c", kinds=["fog", "snow"])


def _run(trial: Trial, data_dir: Path) -> tuple[Outcome, dict[str, object]]:
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    content = data.fingerprint(source)
    outcome = run(trial, Context(data_dir=str(data_dir), fingerprint=content), lambda _: None)
    return outcome, to_row("s", trial, identity(trial, content).placed(outcome).to_dict(), outcome)


@pytest.mark.parametrize("failing", [AUTOATTACK, STORED], ids=lambda c: c.name)
def test_what_ended_before_and_after_a_failed_attack_stays(
    data_dir: Path, make_trial: MakeTrial, failing: Component
) -> None:
    whole = make_trial().model_copy(update={"attacks": (BIM, PGD)})
    good, _ = _run(whole, data_dir)
    trial = whole.model_copy(update={"attacks": (BIM, failing, PGD)})
    outcome, row = _run(trial, data_dir)
    assert good.status is Status.OK
    assert outcome.status is Status.ERROR
    assert (outcome.clean_correct, outcome.clean_outcomes) == (good.clean_correct, good.clean_outcomes)
    assert [(a.attack, a.size, a.outcomes) for a in outcome.attacks] == [
        (a.attack, a.size, a.outcomes) for a in good.attacks
    ]
    assert failing.name in outcome.reason
    assert "failed: BenchError: " in outcome.reason
    assert "Traceback" in outcome.log

    (board,) = boards([row])
    (entry,) = board.entries
    shown = {metric.key: metric for metric in board.metrics}
    assert entry.cells["clean"].value == good.clean_accuracy
    assert {key for key in shown if key.startswith(("bim", "pgd"))} == set(shown) - {"clean"} - {
        key for key in shown if key.startswith("growth")
    }
    assert entry.status == "1 of 1 error"
    assert entry.failed[0].reason == outcome.reason


def test_there_is_no_worst_case_without_an_attack_of_it(data_dir: Path, make_trial: MakeTrial) -> None:
    """Images that only the failed attack would have fooled must not count as standing."""
    trials = [make_trial(seed=s).model_copy(update={"attacks": (BIM, AUTOATTACK, PGD)}) for s in (0, 1)]
    _, failed = _run(trials[0], data_dir)
    ended, row = _run(trials[1].model_copy(update={"attacks": (BIM, PGD)}), data_dir)
    assert any(c.attack == "worst case" for c in ended.robustness)
    assert failed["robustness"] == []
    assert failed["health"] == []
    (board,) = boards([row | {k: failed[k] for k in ("spec", "entry", "board")}, failed])
    (worst,) = [m for m in board.metrics if m.key == f"worst-linf@{8 / 255:.9g}"]
    (entry,) = board.entries
    assert [p.seed for p in entry.cells[worst.key].points] == [1]
    assert entry.cells["clean"].n == 2
    (alone,) = boards([failed])
    assert worst.key not in {m.key for m in alone.metrics}
    assert why_not(alone.entries[0], worst) == "error"


class _Spoils(Attack):
    """Writes into the model, then fails in the way of `how`."""

    name: ClassVar[str] = "spoils"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"
    eps: tuple[float, ...] = (0.1, 0.2)
    how: str = ""

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.add_(1)
        if self.how == "raises at the second size" and size == self.eps[0]:
            return images
        if self.how == "moves a buffer":
            return images
        if self.how == "out of memory":
            raise MemoryError
        if self.how == "leaves the ball":
            return images + 0.5
        raise ZeroDivisionError("of its own")


def _failed(how: str) -> tuple[Attacked, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    test = Tensors(torch.randint(0, 100, (6, 1, 2, 2), dtype=torch.uint8), torch.zeros(6, dtype=torch.int64))
    attacked = Attacked()
    correct = torch.ones(6, dtype=torch.bool)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        attacked.run(
            model,
            _Spoils(how=how),
            test,
            correct,
            seed=0,
            batch_size=4,
            data_dir=None,
            report=lambda _: None,
            searches=None,
        )
    finally:
        same = all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert same == (how != "out of memory")
    return attacked, model


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("raises", ZeroDivisionError, "attack spoils.* failed: ZeroDivisionError: of its own"),
        ("raises at the second size", ZeroDivisionError, "ZeroDivisionError"),
        ("moves a buffer", EvaluationError, "changed the model's state"),
        ("leaves the ball", EvaluationError, "perturbation of size 0.5"),
    ],
)
def test_a_failed_attack_leaves_no_number_and_the_model_as_it_was(how: str, kind: type[Exception], said: str) -> None:
    attacked, _ = _failed(how)
    assert attacked.results == []
    ((_, error),) = attacked.failures
    assert isinstance(error, kind)
    with pytest.raises(AttackError, match=said):
        attacked.settle()


def test_want_of_memory_ends_the_trial_as_that() -> None:
    with pytest.raises(MemoryError):
        _failed("out of memory")
