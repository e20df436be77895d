"""What published layers get wrong, and what a layer must bear: layouts, shapes, compilation, copying, repeated backward
passes.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from normbench.norms import ActivationNorm, NormSiteError, Site, WeightNorm, registry, resolve
from normbench.norms.layers.batch import BatchNorm
from normbench.spec.plugins import PluginError
from torch import nn

CHANNELS = 8
ACTIVATION = [n for n in registry.names() if issubclass(registry.get(n), ActivationNorm)]
#: Those with a gamma and a beta of each channel.
AFFINE = [n for n in ACTIVATION if n != "fixup"]
WEIGHT = [n for n in registry.names() if issubclass(registry.get(n), WeightNorm)]


def site(**changes: Any) -> Site:
    return Site(**{"name": "layer1.0.bn1", "channels": CHANNELS, "eps": 1e-5, "activated": True, **changes})


def layer(text: str, **changes: Any) -> nn.Module:
    method = registry.parse(text)
    assert isinstance(method, ActivationNorm)
    return method.layer(site(**changes))


def convolution(text: str) -> nn.Conv2d:
    method = registry.parse(text)
    assert isinstance(method, WeightNorm)
    conv = nn.Conv2d(4, 6, 3)
    method.wrap(conv)
    return conv


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 0.3


@pytest.mark.parametrize("name", ACTIVATION)
@pytest.mark.parametrize("training", [True, False])
def test_memory_layout_does_not_matter(name: str, training: bool) -> None:
    x = images(6, CHANNELS, 5, 3)
    outputs, gradients = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        given = x.clone(memory_format=layout).requires_grad_()
        out = layer(name).train(training)(given)
        (out * images(6, CHANNELS, 5, 3)).sum().backward()
        outputs.append(out.detach())
        gradients.append(given.grad)
    assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-3)


def test_batch_norm_takes_any_number_of_positions() -> None:
    """torch's own class asks a method of its own, which ours answers, how many axes it takes."""
    for axes in range(4):
        x = images(6, CHANNELS, *[3] * axes)
        kind = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes]
        assert torch.equal(BatchNorm(CHANNELS)(x), kind(CHANNELS)(x))
    assert BatchNorm(CHANNELS)(images(6, CHANNELS, 2, 2, 2, 2)).shape == (6, CHANNELS, 2, 2, 2, 2)
    with pytest.raises(ValueError, match=r"expected \(N, C, \*\), got a tensor of shape \(8,\)"):
        BatchNorm(CHANNELS)(images(CHANNELS))


@pytest.mark.parametrize("name", ["in", "ln-tok"])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_means_far_from_zero_cost_no_digits_and_the_layout_stays(name: str, memory: torch.memory_format) -> None:
    """torch's group norm, whose kernel is at hand for `in`, loses 2 % in channels_last on a CPU where the mean is 100
    deviations.
    """
    x = (torch.randn(6, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0)) + 100).to(memory_format=memory)
    exact = layer(name).double()(x.double())
    found = layer(name)(x)
    assert (found - exact).abs().max() < 5e-5
    assert found.is_contiguous(memory_format=memory)


@pytest.mark.parametrize("name", ACTIVATION)
@pytest.mark.parametrize("shape", [(6, CHANNELS), (6, CHANNELS, 7), (6, CHANNELS, 4, 3), (3, CHANNELS, 2, 3, 2)])
def test_any_number_of_positions(name: str, shape: tuple[int, ...]) -> None:
    out = layer(name)(images(*shape))
    assert out.shape == shape
    assert out.isfinite().all()


@pytest.mark.parametrize("name", AFFINE)
def test_affine_parameters_follow_the_site(name: str) -> None:
    with_affine, without = layer(name), layer(name, affine=False)
    assert with_affine.weight.shape == with_affine.bias.shape == (CHANNELS,)
    assert with_affine.weight.eq(1).all()
    assert with_affine.bias.eq(0).all()
    assert getattr(without, "weight", None) is None
    x = images(6, CHANNELS, 4, 4)
    assert torch.allclose(with_affine(x), without(x), atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATION)
def test_eps_and_momentum_are_those_of_the_site_unless_set(name: str) -> None:
    fields = registry.get(name).model_fields
    if "eps" in fields:
        assert (layer(name, eps=1e-3).eps, layer(f"{name}[eps=1e-2]", eps=1e-3).eps) == (1e-3, 1e-2)
    if "momentum" in fields:
        assert (layer(name, momentum=0.3).momentum, layer(f"{name}[momentum=0.2]").momentum) == (0.3, 0.2)
    assert ("momentum" in fields) == registry.get(name).claims.running_statistics


@pytest.mark.parametrize("name", ACTIVATION)
def test_copies_and_state_dicts_are_whole(name: str) -> None:
    x = images(6, CHANNELS, 4, 4)
    trained = layer(name)
    for _ in range(3):
        trained(x + 1)
    copied, loaded = copy.deepcopy(trained), layer(name)
    loaded.load_state_dict(trained.state_dict())
    for twin in (copied, loaded):
        assert torch.equal(twin.eval()(x), trained.eval()(x))


@pytest.mark.parametrize("name", WEIGHT)
def test_wrapped_copies_and_state_dicts_are_whole(name: str) -> None:
    x = images(2, 4, 5, 5)
    conv = convolution(name)
    conv(x)
    copied, loaded = copy.deepcopy(conv), convolution(name)
    loaded.load_state_dict(conv.state_dict())
    for twin in (copied, loaded):
        assert torch.equal(
            twin(x), copy.deepcopy(conv)(x)
        )  # a training step of each: a copy's hooks must act on the copy


@pytest.mark.parametrize("name", ACTIVATION)
def test_two_backward_passes_through_one_graph(name: str) -> None:
    """IterNorm's reference changes saved tensors in place. Hessian measures need a gradient of the gradient, too."""
    x = images(6, CHANNELS, 4, 4).double().requires_grad_()
    out = (layer(name).double()(x) * images(6, CHANNELS, 4, 4)).square().sum()
    (first,) = torch.autograd.grad(out, x, retain_graph=True)
    (again,) = torch.autograd.grad(out, x, create_graph=True)
    assert torch.allclose(first, again, rtol=1e-9, atol=1e-9)
    (second,) = torch.autograd.grad((again * images(6, CHANNELS, 4, 4)).sum(), x)
    assert second.isfinite().all()


@pytest.mark.parametrize("name", ["bw-zca", "bw-pca", "gw"])
def test_second_derivatives_of_whitening(name: str) -> None:
    made = layer(f"{name}[{'groups=2' if name == 'gw' else 'group=4'}]", channels=4).double()
    assert torch.autograd.gradgradcheck(
        lambda x: copy.deepcopy(made)(x), (images(3, 4, 2, 2).double().requires_grad_(),)
    )


def test_gradients_with_dead_channels_are_those_of_the_live_ones() -> None:
    """The gradient of eigenvectors is 0/0 where eigenvalues coincide; that of ZCA exists, of PCA it is left out."""
    for name in ("bw-pca", "bw-zca", "bw-cd", "iternorm", "gw"):
        x = images(16, CHANNELS, 3, 3).double()
        x[:, :3] = 0
        x.requires_grad_()
        layer(name).double()(x).mul(images(16, CHANNELS, 3, 3)).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all(), name
        assert x.grad[:, 3:].abs().max() > 0


def test_zca_gradient_with_equal_eigenvalues_is_right() -> None:
    """Four channels of the same variance and no correlation: eigh's own gradient is infinite here."""
    signs = torch.tensor(
        [
            [1, 1, 1, 1, -1, -1, -1, -1],
            [1, 1, -1, -1, 1, 1, -1, -1],
            [1, -1, 1, -1, 1, -1, 1, -1],
            [1, -1, -1, 1, 1, -1, -1, 1],
        ]
    )
    x = signs.T.double().clone().requires_grad_()
    made = layer("bw-zca", channels=4).double()
    assert torch.autograd.gradcheck(lambda x: copy.deepcopy(made)(x), (x,))


def test_whitening_by_fewer_values_than_channels_is_finite() -> None:
    for name in ("bw-pca", "bw-zca", "bw-cd", "iternorm"):
        x = images(3, CHANNELS, 1, 1).requires_grad_()
        out = layer(name)(x)
        out.square().sum().backward()
        assert x.grad is not None
        assert out.isfinite().all()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", ACTIVATION)
def test_a_network_that_has_diverged_gives_no_error(name: str) -> None:
    """The trial then ends as diverged, not as an error of a decomposition."""
    x = images(16, CHANNELS, 4, 4)
    x[0] = torch.inf
    assert not layer(name)(x).isfinite().all() or name in ("dyt", "derf")


def test_pca_signs_do_not_depend_on_the_solver() -> None:
    x = images(16, CHANNELS, 4, 4)
    assert torch.allclose(layer("bw-pca")(x), layer("bw-pca")(x.flip(0)).flip(0), atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(2, 1), (16, 8), (24, 12), (32, 16), (36, 18), (48, 24), (64, 32), (40, 20), (27, 9), (13, 1), (1, 1)],
)
def test_default_groups(channels: int, groups: int) -> None:
    assert layer("gn", channels=channels).num_groups == groups


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(
        NormSiteError, match=r"layer1.0.bn1: 32 groups do not divide 48 channels; the nearest number that does is 24"
    ):
        layer("gn[groups=32]", channels=48)
    for text in ("gw[groups=5]", "bcn[groups=5]", "evonorm-s0[groups=5]", "bw-zca[group=3]", "iternorm[group=5]"):
        with pytest.raises(NormSiteError, match=r"layer1.0.bn1: .* do not divide 8 channels"):
            layer(text)


def test_in_on_one_position() -> None:
    x = images(4, CHANNELS, 1, 1)
    assert torch.equal(layer("in")(x), x)
    with pytest.raises(NormSiteError, match=r"layer1.0.bn1: a map with one position has no variance"):
        layer("in[one_position=error]")(x)


def test_reading_a_spectral_weight_is_free_and_training_is_not() -> None:
    conv = convolution("sn")
    before = [b.clone() for b in conv.buffers()]
    first = conv.weight.detach().clone()
    assert torch.equal(conv.weight, first)
    conv.eval()(images(1, 4, 4, 4))
    assert all(torch.equal(a, b) for a, b in zip(before, conv.buffers(), strict=True))
    conv.train()(images(1, 4, 4, 4))
    assert not all(torch.equal(a, b) for a, b in zip(before, conv.buffers(), strict=True))


def test_a_spectral_weight_can_be_used_twice_before_backward() -> None:
    conv = convolution("sn")
    (conv(images(1, 4, 4, 4)).sum() + conv(images(1, 4, 4, 4)).sum()).backward()
    assert conv.parametrizations["weight"].original.grad.isfinite().all()


@pytest.mark.parametrize("text", ["in", "bw-zca", "batch-renorm"])
def test_compiled_layers_give_the_same_numbers(text: str) -> None:
    """The graph is captured whole where the method allows it; inductor's code is not under test."""
    torch.compiler.reset()
    x = images(6, CHANNELS, 4, 4)
    plain = layer(text)
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager")
    outputs = []
    for made in (plain, compiled):
        given = x.clone().requires_grad_()
        out = made(given)
        (out * images(6, CHANNELS, 4, 4)).sum().backward()
        outputs += [out.detach(), given.grad]
    assert torch.allclose(outputs[0], outputs[2], atol=1e-5)
    assert torch.allclose(outputs[1], outputs[3], atol=1e-4)


@pytest.mark.parametrize("text", WEIGHT)
def test_compiled_weights_give_the_same_numbers(text: str) -> None:
    torch.compiler.reset()
    plain = convolution(text)
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager")
    x = images(2, 4, 5, 5)
    assert torch.allclose(plain(x), compiled(x), atol=1e-5)
    assert torch.allclose(plain(x), compiled(x), atol=1e-5)


def test_combinations() -> None:
    label, components = resolve("ws+gn[groups=8]")
    assert (label, [c.name for c in components]) == ("ws+gn[groups=8]", ["ws", "gn"])
    assert [c.name for c in resolve("wn")[1]] == ["wn", "none"]
    assert resolve("bn + wn")[0] == "wn+bn"
    assert resolve("noise[mean=1] + bn + ws")[0] == "ws+bn+noise[mean=1]"
    assert [c.name for c in resolve("none+noise")[1]] == ["none", "noise"]
    assert resolve("lp-bn[p=inf]")[1][0].params["p"] == "inf"
    for text, message in [
        ("bn+gn", "joins one weight method"),
        ("ws+wn+bn", "joins one weight method"),
        ("bn+noise+noise", "found 0, 1 and 2"),
        ("ws+noise", r"noise modifies an activation method, which must be named, for example ws\+bn\+noise"),
        ("gn[group=8]", "did you mean 'groups'"),
        ("lp-bn[p=0.5]", "p"),
    ]:
        with pytest.raises(PluginError, match=message):
            resolve(text)
