"""Adversarial training under compiled engines: the attack climbs compiled code beside the compiled step, and the losses
stay those of the eager trial.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from normbench import attacks
from normbench.lab.adversarial import Adversary
from normbench.lab.engine.gradients import CompiledGradients
from normbench.spec.trial import Component

from tests.conftest import MakeTrial
from tests.lab.engines import Net, _settled, losses_of, ours, some_data  # noqa: F401
from tests.lab.test_checkpoint import Lab, numbers

#: An attack follows signs of gradients, of which rounding turns those that are nearly zero.
TOLERANCE = 1e-3


def _pgd(**params: Any) -> Component:
    return attacks.registry.make("pgd", {"eps": [8 / 255], "steps": 2, **params}).component()


@pytest.mark.engine
@pytest.mark.parametrize("norm", ["bn", "gn", "ws+gn", "wn", "sn", "bn+noise"])
def test_attack_and_step_compile_side_by_side(norm: str, make_trial: MakeTrial) -> None:
    trial = make_trial(norm, epochs=2, lr=0.02, adversarial=_pgd())
    eager, compiled = (ours(Net(norm), trial, some_data(), e) for e in ("eager", "compile"))  # type: ignore[arg-type]
    assert (compiled.engine, compiled.engine_reason) == ("compile", "")
    assert (compiled.adversary, compiled.adversary_reason, eager.adversary) == ("compile", "", "")
    assert losses_of(compiled) == pytest.approx(losses_of(eager), rel=TOLERANCE)
    unperturbed = ours(Net(norm), make_trial(norm, epochs=2, lr=0.02), some_data(), "eager")
    assert losses_of(unperturbed) != pytest.approx(losses_of(eager), rel=3 * TOLERANCE), "the attack matters"


@pytest.mark.engine
def test_a_head_that_starts_at_zero_compiles_too(make_trial: MakeTrial) -> None:
    """As timm's mixers begin: the first gradient is zero everywhere."""
    net = Net("bn")
    with torch.no_grad():
        for parameter in net.head.parameters():
            parameter.zero_()
    record = ours(net, make_trial("bn", epochs=1, lr=0.02, adversarial=_pgd()), some_data(), "compile")
    assert (record.engine, record.adversary, record.adversary_reason) == ("compile", "compile", "")


@pytest.mark.engine
def test_an_interrupted_trial_ends_with_the_same_bits_and_says_what_attacked(
    make_trial: MakeTrial, data_dir: Path, tmp_path: Path
) -> None:
    trial = make_trial("gn", epochs=3, lr=0.02, adversarial=_pgd()).model_copy(update={"attacks": ()})
    lab = Lab(data_dir, tmp_path / "kept", trial)
    for settings in (lab.settings, lab.kept):
        settings["engine"] = "compile"
    lab.killed_in(3)
    resumed, whole = lab.go_on(), lab.whole()
    assert resumed.provenance["resumed_at"] == [2]
    for outcome in (resumed, whole):
        assert (outcome.provenance["adversary"], outcome.provenance["adversary_reason"]) == ("compile", "")
        outcome.provenance.pop("compile_seconds")
    assert numbers(resumed) == numbers(whole)


@pytest.mark.engine
def test_images_that_compiled_code_makes_are_those_of_the_network_as_it_is_now() -> None:
    """Not as it was when it was compiled: weights and statistics move with every step."""
    model, data = Net("bn").train(), some_data()
    images, labels = data.images[:16].float() / 255, data.labels[:16]
    fast, exact = Adversary(_pgd(steps=4)), Adversary(_pgd(steps=4))
    fast.prepare(model, images, labels)
    assert fast.search
    before = exact(model, images, labels, range(len(images)))
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.add_(torch.rand_like(tensor))
    made, expected = (a(model, images, labels, range(len(images))) for a in (fast, exact))
    assert ((made - expected).abs() > 1e-6).float().mean() < 1e-2
    assert ((before - expected).abs() > 1e-6).float().mean() > 0.1
    assert fast.search.engine == "compile", "to the end"
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.engine
def test_gradients_that_are_not_the_networks_are_not_climbed(
    monkeypatch: pytest.MonkeyPatch, make_trial: MakeTrial
) -> None:
    run = CompiledGradients._run

    def spoilt(self: CompiledGradients, forward: Any, images: torch.Tensor) -> torch.Tensor:
        return run(self, forward, images) * (
            1.0 if forward == self._eager else images.detach().mean((1, 2, 3))[:, None]
        )

    monkeypatch.setattr(CompiledGradients, "_run", spoilt)
    trial = make_trial("bn", epochs=1, lr=0.02, adversarial=_pgd())
    found = ours(Net("bn"), trial, some_data(), "compile")
    assert found.engine == "compile"
    assert found.adversary == "eager"
    assert "gradients are off" in found.adversary_reason


def test_foolbox_climbs_the_same_gradients() -> None:
    model, data = Net("bn").train(), some_data()
    images, labels = data.images[:16].float() / 255, data.labels[:16]
    fast, exact = Adversary(_pgd(engine="foolbox")), Adversary(_pgd())
    fast.prepare(model, images, labels)
    made, expected = (a(model, images, labels, range(len(images))) for a in (fast, exact))
    assert ((made - expected).abs() > 1e-6).float().mean() < 1e-2
    assert model.training


def test_an_attack_without_a_loss_to_climb_stays_as_it_is() -> None:
    data, adversary = some_data(), Adversary(attacks.registry.make("deepfool", {"eps": [0.5]}).component())
    adversary.prepare(Net("bn"), data.images[:16].float() / 255, data.labels[:16])
    assert adversary.search is None
