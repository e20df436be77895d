"""Methods that are special cases of each other, and the layers of torch and timm."""

from __future__ import annotations

import copy
import math

import pytest
import timm.layers
import torch
from normbench.norms import ActivationNorm, Site, WeightNorm, registry
from torch import nn
from torch.nn.utils import parametrizations

CHANNELS = 12
SITE = Site(name="here", channels=CHANNELS, eps=1e-5, momentum=0.1, positions=25, ends_branch=True)


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 2, CHANNELS, dtype=torch.float64).view(1, -1, 1, 1)
    mixed = torch.randn(8, CHANNELS, 5, 5, generator=generator, dtype=torch.float64) * scale + scale.flip(1)
    return torch.einsum("nchw,cd->ndhw", mixed, torch.eye(CHANNELS, dtype=torch.float64) + 0.2)


def layer(text: str, site: Site = SITE) -> nn.Module:
    method = registry.parse(text)
    assert isinstance(method, ActivationNorm)
    made = method.layer(site).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(made, name).copy_(torch.linspace(0.5, 1.5, CHANNELS))
    return made


def like(reference: nn.Module) -> nn.Module:
    reference = reference.double()
    with torch.no_grad():
        for parameter in (reference.weight, reference.bias):
            parameter.copy_(torch.linspace(0.5, 1.5, CHANNELS))
    return reference


def close(a: nn.Module, b: nn.Module, x: torch.Tensor, tolerance: float = 1e-12, *, evaluate: bool = True) -> None:
    assert float((a(x) - b(x)).detach().abs().max()) < tolerance
    if evaluate:
        a(2 * x + 1), b(2 * x + 1)
        assert float((a.eval()(x) - b.eval()(x)).detach().abs().max()) < tolerance


def test_ln_is_gn_with_one_group(x: torch.Tensor) -> None:
    close(layer("ln"), layer("gn[groups=1]"), x)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_in_is_gn_with_a_group_a_channel(x: torch.Tensor, memory: torch.memory_format) -> None:
    """By the same kernel where the memory is contiguous: there `test_layers_of_torch_and_timm` holds it against
    another.
    """
    close(layer("in"), layer(f"gn[groups={CHANNELS}]"), x.contiguous(memory_format=memory))


def test_ln_tok_is_its_equation(x: torch.Tensor) -> None:
    """torch's kernel computes it, and timm's layer, so that it is held against neither alone."""
    made = layer("ln-tok")
    var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    expected = (x - mean) / torch.sqrt(var + 1e-5) * made.weight.view(1, -1, 1, 1) + made.bias.view(1, -1, 1, 1)
    assert torch.allclose(made(x), expected, atol=1e-12)


def test_whitening_of_single_channels_is_bn(x: torch.Tensor) -> None:
    for name in ("bw-zca", "bw-pca", "bw-cd"):
        close(layer(f"{name}[group=1]"), layer("bn"), x, evaluate=False)
    whitened, bn = layer("bw-zca[group=1]"), layer("bn")
    for module in (whitened, bn):
        for _ in range(400):
            module(x)
        module.eval()
    assert float((whitened(x) - bn(x)).detach().abs().max()) < 0.01  # torch keeps the unbiased variance: 200 / 199


def test_lp_bn_at_two_is_bn(x: torch.Tensor) -> None:
    close(layer("lp-bn[p=2]"), layer("bn"), x, evaluate=False)


@pytest.mark.parametrize("p", ["1", "1.5", "3", "8"])
def test_lp_bn_keeps_the_standard_deviation_of_normal_values(p: str) -> None:
    normal = torch.randn(500, CHANNELS, 10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    method = registry.parse(f"lp-bn[p={p}]")
    assert isinstance(method, ActivationNorm)
    out = method.layer(SITE).double()(3 * normal - 1).detach()
    assert out.std((0, 2, 3)).numpy() == pytest.approx(1, abs=0.03)


def test_lp_bn_at_infinity_has_hoffers_constant(x: torch.Tensor) -> None:
    made = layer("lp-bn[p=inf]")
    centred = x - x.mean((0, 2, 3), keepdim=True)
    c = (1 + math.sqrt(math.pi * math.log(4))) / (2 * math.sqrt(2 * math.log(200)))
    xhat = centred / (c * centred.abs().amax((0, 2, 3), keepdim=True) + 1e-5)
    expected = xhat * made.weight.view(1, -1, 1, 1) + made.bias.view(1, -1, 1, 1)
    assert torch.allclose(made(x), expected, atol=1e-12)


def test_ghost_bn_of_the_whole_batch_is_bn(x: torch.Tensor) -> None:
    close(layer("ghost-bn[size=8]"), layer("bn"), x)


def test_ghost_bn_sees_chunks_and_the_last_takes_the_rest(x: torch.Tensor) -> None:
    ghost, bn = layer("ghost-bn[size=3]"), layer("bn")
    assert torch.allclose(ghost(x), torch.cat([bn(x[:3]), bn(x[3:])]))


def test_iternorm_approaches_zca(x: torch.Tensor) -> None:
    zca = layer("bw-zca[group=12]")(x)
    gaps = [float((layer(f"iternorm[group=12,iterations={t}]")(x) - zca).detach().abs().max()) for t in (2, 5, 10, 40)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-6 < gaps[0]


def test_batch_renorm_starts_as_bn(x: torch.Tensor) -> None:
    close(layer("batch-renorm"), layer("bn"), x, evaluate=False)
    renorm, bn = layer("batch-renorm[r_max=1,d_max=0]"), layer("bn")
    renorm(x), bn(x)
    close(renorm, bn, 2 * x + 1, evaluate=False)


def test_batch_renorm_opens_towards_running_statistics(x: torch.Tensor) -> None:
    renorm = layer("batch-renorm[warmup=1]")
    for _ in range(300):
        renorm(x)
    shifted = 1.1 * x + 0.2
    evaluated = copy.deepcopy(renorm).eval()(shifted)
    trained = renorm(shifted)
    assert (
        float((trained - evaluated).detach().abs().max()) < 1e-9
    )  # r and d are within their bounds, so training sees what eval mode sees
    assert float((trained - layer("bn")(shifted)).detach().abs().max()) > 0.1


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("bn", nn.BatchNorm2d(CHANNELS)),
        ("syncbn", nn.BatchNorm2d(CHANNELS)),
        ("ln", timm.layers.GroupNorm1(CHANNELS)),
        ("gn[groups=4]", nn.GroupNorm(4, CHANNELS)),
        ("in", nn.InstanceNorm2d(CHANNELS, affine=True)),
        ("ln-tok[eps=1e-6]", timm.layers.LayerNorm2d(CHANNELS)),
    ],
)
def test_layers_of_torch_and_timm(text: str, reference: nn.Module, x: torch.Tensor) -> None:
    close(layer(text), like(copy.deepcopy(reference)), x)


@pytest.mark.parametrize(
    ("text", "reference", "activated"),
    [
        ("rms[eps=1e-6]", timm.layers.RmsNorm2d(CHANNELS), False),
        ("frn[eps=1e-6]", timm.layers.FilterResponseNormTlu2d(CHANNELS), True),
        ("evonorm-b0[eps=1e-3]", timm.layers.EvoNorm2dB0(CHANNELS), True),
        ("evonorm-s0[groups=4]", timm.layers.EvoNorm2dS0(CHANNELS, groups=4), True),
    ],
)
def test_layers_of_timm_in_float32(text: str, reference: nn.Module, activated: bool, x: torch.Tensor) -> None:
    """timm computes these in float32 whatever the input. RmsNorm has no beta."""
    method = registry.parse(text)
    assert isinstance(method, ActivationNorm)
    ours = method.layer(Site(name="here", channels=CHANNELS, eps=1e-5, activated=activated))
    out, expected = ours(x.float()), reference(x.float())
    assert torch.allclose(out, expected, atol=2e-5), float((out - expected).detach().abs().max())


def test_whitening_whitens(x: torch.Tensor) -> None:
    for name in ("bw-pca", "bw-zca", "bw-cd"):
        method = registry.parse(f"{name}[group=12,eps=1e-12]")
        assert isinstance(method, ActivationNorm)
        out = method.layer(SITE).double()(x).detach().transpose(0, 1).flatten(1)
        assert torch.allclose(out @ out.mT / out.shape[1], torch.eye(CHANNELS, dtype=torch.float64), atol=1e-9)


def test_group_whitening_whitens_each_example(x: torch.Tensor) -> None:
    method = registry.parse("gw[groups=4,eps=1e-12]")
    assert isinstance(method, ActivationNorm)
    rows = method.layer(SITE).double()(x).detach().reshape(8, 4, -1)
    assert torch.allclose(rows @ rows.mT / rows.shape[2], torch.eye(4, dtype=torch.float64).expand(8, 4, 4), atol=1e-9)


@pytest.mark.parametrize("eps", [1e-5, 0.05])
@pytest.mark.parametrize(
    ("name", "axes", "values"), [("bn", (0, 2, 3), 200), ("in", (2, 3), 25), ("ln", (1, 2, 3), 300)]
)
def test_lemma_1(name: str, axes: tuple[int, ...], values: int, eps: float, x: torch.Tensor) -> None:
    """The norm of the normalized pre-activations is sqrt(m (gamma^2 sigma^2 / (sigma^2 + eps) + beta^2)) (Sun et al.
    2020).
    """
    method = registry.parse(f"{name}[eps={eps}]")
    assert isinstance(method, ActivationNorm)
    made = method.layer(SITE).double()
    made.weight.data.fill_(1.7)
    made.bias.data.fill_(-0.4)
    variance = x.var(axes, correction=0)
    expected = (values * (1.7**2 * variance / (variance + eps) + 0.4**2)).sqrt()
    assert torch.allclose(made(x).detach().square().sum(axes).sqrt(), expected, rtol=1e-10)


def conv(text: str | None, shape: tuple[int, ...] = (6, 4, 3, 3)) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Conv2d(shape[1], shape[0], shape[2], bias=False).double()
        if text:
            method = registry.parse(text)
            assert isinstance(method, WeightNorm)
            method.wrap(made)
    return made


def test_cwn_is_ws_over_the_root_of_the_fan_in() -> None:
    cwn, ws = conv("cwn"), conv("ws[eps=1e-12]")
    cwn.parametrizations["weight"][0].g.data.fill_(1)
    assert torch.allclose(cwn.weight, ws.weight / math.sqrt(36), atol=1e-9)


def test_weight_methods_start_where_the_weight_is() -> None:
    plain = conv(None).weight
    assert torch.allclose(conv("wn").weight, plain, atol=1e-14)
    assert torch.allclose(conv("cwn").weight, plain - plain.mean((1, 2, 3), keepdim=True), atol=1e-14)


def test_ws_and_sws_are_timms() -> None:
    std, scaled = (
        timm.layers.StdConv2d(4, 6, 3, padding=0).double(),
        timm.layers.ScaledStdConv2d(4, 6, 3, padding=0, gamma=1.7139588594446636, bias=False, eps=1e-12).double(),
    )
    std.weight.data.copy_(conv(None).weight.detach())
    scaled.weight.data.copy_(conv(None).weight.detach())
    z = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    assert torch.allclose(conv("ws")(z), std(z), atol=1e-10)
    assert torch.allclose(
        conv("sws[eps=1e-12]")(z), scaled(z), atol=1e-9
    )  # timm's eps stands beside var, ours beside fan_in var, as in the paper


def test_sn_is_torchs_once_converged() -> None:
    ours = conv("sn")
    reference = parametrizations.spectral_norm(conv(None), n_power_iterations=1)
    z = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    for _ in range(300):
        ours(z), reference(z)
    assert torch.allclose(ours.weight, reference.eval().weight, atol=1e-9)
    assert float(torch.linalg.matrix_norm(ours.weight.flatten(1), 2).detach()) == pytest.approx(1, abs=1e-9)
