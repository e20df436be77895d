"""Adversarial training: what it leaves alone, and what it gains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from normbench.attacks import registry
from normbench.lab.adversarial import Adversary
from normbench.lab.evaluate import attack, pixels
from normbench.lab.observer import Observer
from normbench.lab.train import Record, Tensors, make_optimizer, train
from normbench.measures import Probe
from normbench.spec.trial import Component
from normbench.suite import SuiteError, expand
from normbench.suite._load import read
from torch import nn

from tests.attacks.conftest import Trained, right_of
from tests.conftest import MakeTrial


def _component(name: str, **params: Any) -> Component:
    return registry.make(name, params).component()


def test_crafting_leaves_the_network_as_it_was_and_stays_in_the_ball(
    trained: Trained, training_images: Tensors
) -> None:
    model = trained("bn").train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    images, labels = pixels(training_images.images[:32]), training_images.labels[:32]
    adversary = Adversary(_component("pgd", eps=[0.1], steps=3))
    made = adversary(model, images, labels, range(len(images)))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert 0.09 < float((made - images).abs().max()) <= 0.1 + 1e-6
    again = adversary(model, images, labels, range(len(images)))
    other = adversary(model, images, labels, range(1, len(images) + 1))
    assert torch.equal(made, again)
    assert not torch.equal(made, other)
    model.eval()


class _Net(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 36, 10))


@pytest.mark.parametrize("name", ["pgd", "fgsm"])
def test_it_makes_networks_more_robust(
    name: str, training_images: Tensors, test_images: Tensors, make_trial: MakeTrial
) -> None:
    params: dict[str, Any] = {
        "pgd": {"eps": [0.15], "steps": 4},
        "fgsm": {"eps": [0.15], "step_size": 0.19, "random_start": True},
    }[name]
    robust = []
    for adversarial in (None, _component(name, **params)):
        model = _Net()
        trial = make_trial(epochs=4, lr=0.05, batch_size=64, adversarial=adversarial)
        optimizer = make_optimizer(model, trial.train)
        probe = Probe(
            model=model,
            images=pixels(training_images.images[:1]),
            labels=training_images.labels[:1],
            optimizer=optimizer,
        )
        observer = Observer([], probe, trial.train)
        train(
            model,
            trial,
            training_images,
            precision="float32",
            optimizer=optimizer,
            observer=observer,
            report=lambda p: None,
            record=Record(),
        )
        right = right_of(model, test_images)
        robust.append(
            attack(
                model, registry.make("pgd", {"eps": [0.1], "steps": 10}), test_images, right, seed=0, batch_size=256
            )[0].accuracy
        )
    assert robust[1] > robust[0] + 0.08


SUITE = """suite: robust-training
data: {dataset: digits}
models: [resnet18]
norms: [bn]
batch_sizes: [32]
seeds: 1
train: {epochs: 1, adversarial: %s}
"""


def test_a_suite_states_it_as_an_attack_at_one_size(tmp_path: Any) -> None:
    (trial,) = expand(read((SUITE % "{pgd: {eps: 8/255, steps: 7}}").encode(), tmp_path / "x.yaml"))
    assert trial.train.adversarial == _component("pgd", eps=[8 / 255], steps=7)
    (plain,) = expand(read((SUITE % "null").encode(), tmp_path / "x.yaml"))
    assert plain.train.adversarial is None
    assert plain.trial_id != trial.trial_id
    both = expand(read((SUITE % "[null, {pgd: {eps: 8/255, steps: 7}}]").encode(), tmp_path / "x.yaml"))
    assert {t.trial_id for t in both} == {plain.trial_id, trial.trial_id}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("pgd", "train.adversarial: expected one size such as eps: 8/255, found 4"),
        ("{noise: {std: 0.1}}", "follows gradients"),
        ("{pgd: {epss: 8/255}}", "did you mean 'eps'"),
    ],
)
def test_what_else_is_written_there_is_refused(written: str, message: str, tmp_path: Any) -> None:
    with pytest.raises(SuiteError, match=message):
        read((SUITE % written).encode(), tmp_path / "x.yaml")
