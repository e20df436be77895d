"""Contracts of attacks and measures: what keeps them passes, and each way to break them is named."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from normbench.attacks import Attack
from normbench.attacks import registry as attacks
from normbench.attacks.base import Sizes, Threat
from normbench.attacks.scaffold import scaffold as new_attack
from normbench.lab import contracts
from normbench.lab.contracts import check_attack, check_measure
from normbench.measures import Measure, Probe, StepMeasure, Value
from normbench.measures import registry as measures
from normbench.measures.scaffold import scaffold as new_measure
from normbench.norms.check import Row
from normbench.spec.plugins import Registry
from torch import nn

from tests.matrix import sample


def wrong(rows: Iterable[Row]) -> list[str]:
    return [r.claim for r in rows if not r.ok]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plug-ins of these tests come back from their stored form, though no folder has them."""
    for registry in (attacks, measures):
        plain = registry.from_component
        monkeypatch.setattr(
            registry, "from_component", lambda c, plain=plain: OWN[c.name](**c.params) if c.name in OWN else plain(c)
        )


@pytest.mark.parametrize("kind", ["attack", "measure"])
def test_a_new_one_keeps_its_contract(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"{kind}_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    write, base, known = {"attack": (new_attack, Attack, attacks), "measure": (new_measure, Measure, measures)}[kind]
    assert write("my-own", folder).name == "my_own.py"
    method = Registry(kind, folder.name, base, "no.such.group").make("my-own")
    monkeypatch.setattr(known, "from_component", lambda c: type(method)(**c.params))
    rows = check_attack(method)[0] if kind == "attack" else check_measure(method)
    assert len(rows) > 6
    assert wrong(rows) == []
    with pytest.raises(FileExistsError):
        write("my-own", folder)
    with pytest.raises(ValueError, match=f"an? {kind} is called"):
        write(known.names()[0], folder)


@pytest.mark.parametrize(
    "name", sample([n for n in attacks.names() if n not in {"cifar10-c"}], ["noise", "fgsm", "galloway"])
)
def test_attacks_that_are_there_keep_it(name: str) -> None:
    method = attacks.make(name)
    if method.lacks(None):
        pytest.skip(method.lacks(None))
    rows, results = check_attack(method)
    assert wrong(rows) == []
    assert [r.total for r in results] == [contracts.IMAGES] * len(results)


@pytest.mark.parametrize("name", sample(measures.names(), ["weight-norm", "sphere"]))
def test_measures_that_are_there_keep_it(name: str) -> None:
    assert wrong(check_measure(measures.make(name))) == []


class Bad(Attack):
    """Uniform noise in the ball, broken by `how`."""

    name: ClassVar[str] = "bad"
    summary: ClassVar[str] = "x"
    source: ClassVar[str] = "x"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"
    eps: Sizes = (0.3, 1.0)
    how: str = ""

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        if self.how == "raises":
            raise RuntimeError("no idea")
        drawn = torch.stack([torch.rand(images.shape[1:], generator=g) for g in generators])
        if self.how == "draws":
            drawn = torch.rand(images.shape)
        if self.how == "batches":
            drawn = drawn if len(images) > 10 else (images < 0.5).float()
        if self.how == "trains":
            with torch.no_grad():
                next(model.parameters()).add_(0.5)
        made = images + (3 if self.how == "leaves" else 1) * size * (2 * drawn - 1)
        return made if self.how == "pixels" else made.clamp(0, 1)


class Odd(Measure):
    name: ClassVar[str] = "odd"
    summary: ClassVar[str] = "x"
    source: ClassVar[str] = "x"
    cost: ClassVar[str] = "none"
    how: str = ""

    def read(self, probe: Probe) -> Iterable[Value]:
        if self.how == "raises":
            raise RuntimeError("no idea")
        if self.how == "silent":
            return
        value = {"nan": float("nan"), "random": random.random()}.get(self.how, 1.0)
        yield Value("else.x" if self.how == "named" else "odd.x", "nowhere" if self.how == "layer" else "", value)
        if self.how == "twice":
            yield Value("odd.x", "", value)


class OddSteps(StepMeasure):
    name: ClassVar[str] = "odd-steps"
    summary: ClassVar[str] = "x"
    source: ClassVar[str] = "x"
    cost: ClassVar[str] = "none"
    steps: int = 2

    def follow(self, step: Any) -> Iterable[Value]:
        yield Value("odd-steps.lr", "", step.lr)


OWN: dict[str, type[Attack | Measure]] = {"bad": Bad, "odd": Odd, "odd-steps": OddSteps}
RUNS = "runs at every size, in [0, 1] and its ball"


@pytest.mark.parametrize(
    ("how", "claim"),
    [
        ("", []),
        ("raises", [RUNS]),
        ("leaves", [RUNS]),
        ("pixels", [RUNS]),
        ("draws", ["draws from its generators alone"]),
        ("batches", ["smaller batches give the same"]),
    ],
)
def test_a_broken_attack_is_told_by_its_fault(how: str, claim: list[str]) -> None:
    rows, _ = check_attack(Bad(how=how))
    assert set(wrong(rows)) >= set(claim)
    assert bool(wrong(rows)) == bool(claim)
    if how == "raises":
        assert rows[-1].measured == "RuntimeError: no idea"


@pytest.mark.parametrize(
    ("how", "claim"),
    [
        ("", []),
        ("raises", ["raises nothing"]),
        ("silent", ["says something of a network of bn, gn, ws+gn or none"]),
        ("nan", ["every value is finite"]),
        ("random", ["again gives the same"]),
        ("named", ["quantities are called odd.*"]),
        ("layer", ["layers are those of the network"]),
        ("twice", ["says nothing twice"]),
    ],
)
def test_a_broken_measure_is_told_by_its_fault(how: str, claim: list[str]) -> None:
    assert wrong(check_measure(Odd(how=how))) == claim


def test_steps_are_followed() -> None:
    assert wrong(check_measure(OddSteps())) == []
