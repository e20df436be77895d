"""Minimal attacks of adversarial-library: what is missing is said while a run is planned; what is there agrees with
foolbox on the same images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from normbench.attacks import registry
from normbench.attacks._advlib import AdversarialLibraryAttack
from normbench.attacks.base import Attack
from normbench.errors import BenchError
from normbench.lab.evaluate import pixels
from normbench.lab.train import Tensors
from normbench.plan import identity
from normbench.plan.foreseen import foreseen
from normbench.spec.trial import Component
from torch import nn

from tests.attacks.conftest import Trained, right_of
from tests.attacks.test_others import _linear
from tests.conftest import make_plain

NAMES = [n for n in registry.names() if issubclass(registry.get(n), AdversarialLibraryAttack)]
needs = pytest.mark.skipif(
    bool(registry.make("alma").lacks(None)), reason="the extra normbench[advlib] is not installed"
)
L2 = [n for n in NAMES if registry.get(n).threat == "l2"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_one_message_before_anything_is_trained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "adv_lib", None)  # as if it were not installed
    trial = make_plain().model_copy(update={"attacks": (Component(name=name),)})
    said = f"{name} needs the package adv-lib: install normbench[advlib]"
    assert foreseen([trial], tmp_path) == (f"{said} (1 trial)",)
    with pytest.raises(BenchError, match=r"install normbench\[advlib\]"):
        registry.make(name).perturb(nn.Flatten(), torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long), 1.0, [])


def test_the_version_of_the_package_is_a_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_version", lambda name: f"{name} 1")
    plain = make_plain()
    asked = plain.model_copy(update={"attacks": (registry.make("alma").component(),)})
    assert "adv-lib" not in identity.identity(plain, None).versions
    assert identity.identity(asked, None).versions["adv-lib"] == "adv-lib 1"


@needs
@pytest.mark.parametrize(("name", "steps"), [("ddn-advlib", 300), ("fmn-l2", 300)])
def test_they_find_the_distance_to_a_linear_boundary(name: str, steps: int) -> None:
    model, images, labels, distances = _linear()
    found = registry.make(name, {"steps": steps}).perturb(model.eval(), images, labels, 1.0, [])
    far = distances > 0.01
    fooled = (model(found).argmax(1) != labels)[far]
    ratio = ((found - images).flatten(1).norm(dim=1) / distances)[far]
    assert float(fooled.double().mean()) > 0.8  # some of FMN's end on the boundary itself
    assert float(ratio[fooled].min()) > 0.999
    assert float(ratio[fooled].median()) < 1.1


@needs
def test_alma_says_when_there_are_too_few_classes() -> None:
    model, images, labels, _ = _linear()
    with pytest.raises(BenchError, match=r"alma needs at least 3 classes .*, found 2"):
        registry.make("alma").perturb(model.eval(), images, labels, 1.0, [])


def _distances(method: Attack, model: nn.Module, data: Tensors, order: float) -> torch.Tensor:
    """Of each image to what fools; infinite where nothing was found."""
    images = pixels(data.images)
    found = method.perturb(model, images, data.labels, 1.0, [])
    with torch.no_grad():
        fooled = model(found).argmax(1) != data.labels
    return torch.where(fooled, torch.linalg.vector_norm((found - images).flatten(1), order, dim=1), torch.inf)


@needs
def test_two_sources_agree_on_the_same_images(trained: Trained, test_images: Tensors) -> None:
    """foolbox's DDN and that of adversarial-library find the same distances. ALMA finds no larger ones, which is what
    it adds; FMN and Carlini-Wagner are a little behind. In L-infinity FMN is not behind DeepFool.
    """
    model = trained("bn").eval().requires_grad_(False)
    right = right_of(model, test_images).nonzero().flatten()[:24]
    data = Tensors(test_images.images[right], test_images.labels[right])
    methods = {n: registry.make(n, {"steps": 200}) for n in (*L2, "ddn")}
    methods["cw-l2"] = registry.make("cw-l2", {"searches": 6, "steps": 100})
    found = {name: _distances(method, model, data, 2) for name, method in methods.items()}
    assert torch.allclose(found["ddn-advlib"], found["ddn"], rtol=0.02)
    medians = {name: float(d.median()) for name, d in found.items()}
    assert medians["alma"] < 1.02 * medians["ddn"], medians
    assert max(medians.values()) < 1.4 * min(medians.values()), medians
    fast, folded = (_distances(registry.make(n), model, data, torch.inf) for n in ("fmn-linf", "deepfool-linf"))
    assert float(fast.median()) < 1.05 * float(folded.median())
