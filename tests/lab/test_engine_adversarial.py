"""Adversarial training under compiled engines: the attack climbs compiled code beside the compiled step, and the losses stay those of the eager trial."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmark import attacks
from benchmark.lab.adversarial import Adversary
from benchmark.lab.search import Search
from benchmark.trial import Component
from tests.conftest import MakeTrial
from tests.lab.test_engine import Net, losses_of, ours, some_data

#: An attack follows signs of gradients, of which rounding turns those that are nearly zero.
TOLERANCE = 1e-3


def _pgd(**params: Any) -> Component:
    return attacks.registry.make("pgd", {"eps": [8 / 255], "steps": 2, **params}).component()


@pytest.mark.parametrize("norm", ["bn", *(pytest.param(n, marks=pytest.mark.engine) for n in ("gn", "ws+gn", "wn", "sn", "bn+noise"))])
def test_attack_and_step_compile_side_by_side(norm: str, make_trial: MakeTrial) -> None:
    trial = make_trial(norm, epochs=2, lr=0.02, adversarial=_pgd())
    eager, compiled = (ours(Net(norm), trial, some_data(), e) for e in ("eager", "compile"))  # type: ignore[arg-type]
    assert (compiled.engine, compiled.engine_reason) == ("compile", "")
    assert compiled.adversary == {"adversary": "compile", "adversary_precision": "float32", "adversary_reason": ""}
    assert eager.adversary == {}
    assert losses_of(compiled) == pytest.approx(losses_of(eager), rel=TOLERANCE)
    assert losses_of(compiled) != losses_of(
        ours(Net(norm), trial.model_copy(update={"train": trial.train.model_copy(update={"adversarial": None})}), some_data(), "eager")
    )


def test_images_that_compiled_code_makes_are_those_of_the_network_as_it_is_now(make_trial: MakeTrial) -> None:
    """Not as it was when it was compiled: weights and statistics move with every step."""
    model, data = Net("bn").train(), some_data()
    images, labels = data.images[:16].float() / 255, data.labels[:16]
    fast, exact = Adversary(_pgd(steps=4)), Adversary(_pgd(steps=4))
    fast.prepare(model, images, labels, "float32")
    assert fast.search
    assert fast.search.engine == "compile"
    before = exact(model, images, labels, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.add_(torch.rand_like(tensor))
    made, expected = (a(model, images, labels, torch.Generator().manual_seed(0)) for a in (fast, exact))
    assert ((made - expected).abs() > 1e-6).float().mean() < 1e-2
    assert ((before - expected).abs() > 1e-6).float().mean() > 0.1
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_gradients_that_are_not_the_networks_are_not_climbed(monkeypatch: pytest.MonkeyPatch, make_trial: MakeTrial) -> None:
    run = Search._run

    def spoilt(self: Search, forward: Any, images: torch.Tensor) -> torch.Tensor:
        return run(self, forward, images) * (1.0 if forward == self._eager else images.detach().mean((1, 2, 3))[:, None])

    monkeypatch.setattr(Search, "_run", spoilt)
    trial = make_trial("bn", epochs=1, lr=0.02, adversarial=_pgd())
    found = ours(Net("bn"), trial, some_data(), "compile")
    assert found.engine == "compile"
    assert found.adversary["adversary"] == "eager"
    assert "gradients are off" in found.adversary["adversary_reason"]


@pytest.mark.parametrize(
    "component", [_pgd(engine="foolbox"), attacks.registry.make("deepfool", {"eps": [0.5]}).component()], ids=["foolbox", "no loss to climb"]
)
def test_other_attacks_stay_as_they_are(component: Component) -> None:
    data, adversary = some_data(), Adversary(component)
    adversary.prepare(Net("bn"), data.images[:16].float() / 255, data.labels[:16], "float32")
    assert adversary.search is None
