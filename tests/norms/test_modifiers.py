"""Modifiers: what the noise is, that it is reproducible, and that without width it is not there."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from normbench.lab import data
from normbench.lab.network.swap import NormAct, swap
from normbench.lab.trial_run import Context, run
from normbench.norms import ActivationNorm, NormModifier, Site, activation_of, registry, resolve, split
from normbench.norms.layers.noise import Noisy
from normbench.spec.outcome import Outcome
from normbench.spec.plugins import PluginError
from torch import nn

from tests.conftest import MakeTrial

SILENT = "noise[mean=0,scale=1,spread=0]"
MODIFIERS = [n for n in registry.names() if issubclass(registry.get(n), NormModifier)]


def modified(text: str, channels: int = 8) -> nn.Module:
    methods = split(resolve(text)[1])
    assert methods.modifier is not None
    return methods.modifier.modify(methods.activation.layer(Site(name="here", channels=channels, eps=1e-5)))


def _outcome(make_trial: MakeTrial, data_dir: Path, norm: str) -> Outcome:
    trial = make_trial(
        norm, epochs=1, data={"augment": ("flip",)}, model={"kwargs": {"layers": [1, 1, 1, 1], "drop_path_rate": 0.2}}
    )
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    outcome = run(trial, Context(data_dir=str(data_dir), fingerprint=data.fingerprint(source)), lambda _: None)
    assert outcome.status == "ok", outcome.log
    return outcome


def _numbers(outcome: Outcome) -> dict[str, Any]:
    return {"curves": outcome.curves, "test": outcome.test_loss, "attacks": [a.outcomes for a in outcome.attacks]}


def _without_names(found: dict[str, Any]) -> dict[str, Any]:
    return found | {"curves": [(r.step, r.measure, r.value) for r in found["curves"]]}


def test_a_noisy_trial_is_reproducible_and_without_width_that_of_the_method_alone(
    make_trial: MakeTrial, data_dir: Path
) -> None:
    plain, silent, first, again = (
        _numbers(_outcome(make_trial, data_dir, norm)) for norm in ("bn", f"bn+{SILENT}", "bn+noise", "bn+noise")
    )
    assert _without_names(silent) == _without_names(plain)
    assert first == again
    assert _without_names(first)["curves"] != _without_names(plain)["curves"]


def test_the_noise_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    layer = modified("none+noise", channels=4000).double()
    with torch.no_grad():
        zeros, ones = torch.zeros(64, 4000, 2, dtype=torch.float64), torch.ones(64, 4000, 2, dtype=torch.float64)
        torch.manual_seed(1)
        shift = layer(zeros)
        torch.manual_seed(1)
        factor = layer(ones) - shift
    for drawn in (shift, factor):
        assert torch.equal(drawn[..., 0], drawn[..., 1])
    shift, factor = shift[..., 0], factor[..., 0]
    about = shift - shift.mean(0)
    assert about.abs().max() < 0.2
    assert shift.abs().max() <= 0.6
    assert float(about.var()) == pytest.approx(0.1**2 / 3, rel=0.05)
    assert float(shift.mean(0).var()) == pytest.approx(0.5**2 / 3, rel=0.1)
    assert float(factor.mean()) == pytest.approx(1.125, abs=0.01)
    assert float(factor.mean(0).var()) == pytest.approx(0.25**2 / 12, rel=0.1)
    assert float((factor - factor.mean(0)).std()) == pytest.approx(0.1, rel=0.05)


def test_each_step_and_each_layer_draws_anew() -> None:
    layers = [modified("none+noise") for _ in range(2)]
    x = torch.randn(4, 8, 3, 3)
    outputs = [layer(x) for layer in layers for _ in range(2)]
    assert all(not torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


def test_eval_mode_is_the_mean_of_the_noise_and_draws_nothing() -> None:
    layer = modified("none+noise[scale=1.5,spread=0.3]").eval()
    x = torch.randn(4, 8, 3, 3)
    stream = torch.get_rng_state()
    assert torch.equal(layer(x), 1.25 * x)
    assert torch.equal(torch.get_rng_state(), stream)
    with torch.no_grad():
        mean = torch.stack([layer.train()(x) for _ in range(4000)]).mean(0)
    assert torch.allclose(mean, 1.25 * x, atol=0.06)


@pytest.mark.parametrize("modifier", MODIFIERS)
@pytest.mark.parametrize("name", [n for n in registry.names() if issubclass(registry.get(n), ActivationNorm)])
def test_every_activation_method_can_be_modified(name: str, modifier: str) -> None:
    layer = modified(f"{name}+{modifier}")
    with torch.no_grad():
        for factor in (p for n, p in layer.named_parameters() if n.rpartition(".")[2] == "factor"):
            factor.add_(0.5)  # one that starts at zero hides what is behind it
    x = torch.randn(6, 8, 4, 3, requires_grad=True)
    out = layer(x)
    out.square().sum().backward()
    assert out.shape == x.shape
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.any()
    twin = copy.deepcopy(layer)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin.eval()(x), layer.eval()(x))
    half = layer.train()(x.detach().bfloat16()) if name == "none" else out
    assert half.dtype in (torch.bfloat16, torch.float32)


def test_the_swap_modifies_every_norm_and_keeps_what_was_fused() -> None:
    import timm

    images = torch.rand(2, 3, 32, 32)
    for model_name in ("resnetv2_18", "vit_tiny_patch16_224"):
        kwargs = {"img_size": 32, "depth": 2, "patch_size": 8} if model_name.startswith("vit") else {}
        torch.manual_seed(0)
        plain: Any = timm.create_model(model_name, num_classes=4, **kwargs)
        noisy = copy.deepcopy(plain)
        swap(plain, resolve("gn")[1], images)
        done = swap(noisy, resolve("gn+noise")[1], images)
        assert {r.after for r in done.replaced} == {"GroupNorm + Noisy"}
        assert {r.eps for r in done.replaced} <= {1e-5, 1e-6}
        assert sum(isinstance(m, Noisy) for m in noisy.modules()) == len(done.replaced)
        assert done.parameters_before == done.parameters_after
        for module in noisy.modules():
            if isinstance(module, NormAct):
                assert isinstance(module.norm, Noisy)
            if isinstance(module, Noisy):
                module.mean, module.scale, module.spread = 0.0, 1.0, 0.0
        assert torch.equal(noisy(images), plain(images))


def test_affine_values_that_start_at_zero_stay() -> None:
    import timm

    model: Any = timm.create_model("resnet18", num_classes=4)
    swap(model, resolve("bn+noise")[1], torch.rand(2, 3, 32, 32))
    assert not model.layer1[0].bn2.norm.weight.any()


def test_a_suite_finds_the_activation_method_behind_a_modifier() -> None:
    assert activation_of(resolve("ws+gn+noise")[1]) == "gn"
    for wrong in ("noise[scale=0.5]", "noise[spread=-1]"):
        with pytest.raises(PluginError, match="greater than or equal to"):
            resolve(f"bn+{wrong}")


def test_noise_is_random_and_no_other_method_is() -> None:
    assert [n for n in registry.names() if registry.get(n).claims.random] == ["noise"]
    assert dataclasses.asdict(registry.get("noise").claims)["random"] is True
