"""The bound of a network's constant against exact constants, and what it certifies against attacks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from normbench.measures import registry
from normbench.tensors.lipschitz import lipschitz
from torch import nn
from torch.nn import functional

from tests.measures._probes import probe_around, probe_of, read

Function = Callable[[torch.Tensor], torch.Tensor]


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Hidden(torch.autograd.Function):
    """Three times its input, by a way that no function of torch shows."""

    @staticmethod
    def forward(_: object, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(3 * x.detach().numpy())


def written(x: torch.Tensor) -> torch.Tensor:
    """x in memory that was there before."""
    memory = torch.empty(x.shape, dtype=x.dtype)
    memory[:] = 5 * x
    return memory


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def exact(model: nn.Module, x: torch.Tensor) -> float:
    """The constant of a linear function; of others, the norm of the Jacobian at x, which no constant is below."""
    jacobian = torch.autograd.functional.jacobian(model, x)
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), 2))


def batch_norm() -> nn.Module:
    norm = nn.BatchNorm2d(3).double().eval()
    norm.running_var.copy_(torch.tensor([0.1, 2.0, 5.0]))
    norm.weight.data.copy_(torch.tensor([0.2, -3.0, 1.0]))
    return norm


#: A function of an image (3, 6, 6), and how far above its constant the bound may be.
TIGHT: dict[str, tuple[nn.Module, float]] = {
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(108, 7, dtype=torch.float64)), 1.0),
    "3x3": (nn.Conv2d(3, 5, 3, padding=1, dtype=torch.float64), 1.4),
    "1x1": (nn.Conv2d(3, 5, 1, dtype=torch.float64), 1.0),
    "strided": (nn.Conv2d(3, 5, 3, stride=2, dtype=torch.float64), 2.0),
    "patches": (nn.Conv2d(3, 5, 2, stride=2, dtype=torch.float64), 1.0),
    "dilated and grouped": (nn.Conv2d(3, 6, 3, dilation=2, groups=3, padding=2, dtype=torch.float64), 1.6),
    "batch norm": (batch_norm(), 1.0),
    "mean": (Of(lambda x: x.mean((2, 3))), 1.0),
    "mean of patches": (nn.AdaptiveAvgPool2d(2), 1.0),
    "two paths": (Of(lambda x: x + functional.conv2d(x, weight(3, 3, 1, 1))), 1.6),
    "side by side": (Of(lambda x: torch.cat([x, 2 * x], 1)), 1.0),
    "factors": (Of(lambda x: (x - weight(1, 3, 1, 1)) * weight(1, 3, 1, 1) / 4), 1.0),
    "moved": (Of(lambda x: -3 * x.movedim(1, -1).flatten(1).view(1, 6, -1)), 1.0),
}


@pytest.mark.parametrize("kind", TIGHT)
def test_a_bound_is_not_below_the_constant_and_not_far_above(kind: str) -> None:
    model, slack = TIGHT[kind]
    found, constant = lipschitz(model, image(3, 6, 6)), exact(model, image(3, 6, 6))
    assert constant * (1 - 1e-9) <= found <= slack * constant * (1 + 1e-9)


@pytest.mark.parametrize(
    "function", [functional.silu, functional.gelu, torch.sigmoid, torch.erf, functional.relu, torch.tanh]
)
def test_slopes_of_activations(function: Function) -> None:
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    largest = float(slope.abs().max())
    assert largest <= lipschitz(Of(function), x.detach()) <= 1.01 * largest


@pytest.mark.parametrize("kind", ["3, 2, 1", "2, 2, 0", "3, 1, 1"])
def test_pooling_by_the_largest(kind: str) -> None:
    pool = nn.MaxPool2d(*map(int, kind.split(", ")))
    x = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    x[0, 0, 3, 3] = 1.0  # read by every window around it
    assert exact(pool, x) <= lipschitz(pool, x) == pytest.approx(math.sqrt(int((pool(x) > 0).sum())), rel=1.01)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.layer_norm(x, x.shape[1:]),
        lambda x: functional.group_norm(x, 1),
        lambda x: x * x,
        lambda x: x + x.mean((2, 3), keepdim=True),  # one value is added to many
        lambda x: weight(1) / x,
        lambda x: functional.batch_norm(x, None, None, training=True),
        lambda x: x.expand(5, 3, 6, 6),
        lambda x: functional.adaptive_avg_pool2d(x, 4),
        lambda x: torch.add(x, x, alpha=3),
        lambda x: Hidden.apply(x),
        lambda x: x + Hidden.apply(x),
        lambda x: written(x) * 2,
    ],
)
def test_what_has_no_bound_says_so(function: Function) -> None:
    assert lipschitz(Of(function), image(3, 6, 6)) == math.inf


def test_chains_of_orthonormal_layers_have_a_constant_of_one() -> None:
    from normbench.norms import registry as norms

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(32, 5)).double()
    assert lipschitz(model, image(3, 6, 6)) != pytest.approx(1, rel=0.3)
    for module in model:
        if isinstance(module, nn.Conv2d | nn.Linear):
            norms.make("bjorck").wrap(module)  # type: ignore[attr-defined]
    assert 0.3 < lipschitz(model, image(3, 6, 6)) <= 1 + 1e-6


@pytest.mark.parametrize("norm", ["bn", "bjorck", "cayley", "sn", "skipinit", "dyt", "bn+rezero"])
def test_networks_are_bounded_at_every_image(norm: str) -> None:
    probe = probe_of(norm)
    found = lipschitz(probe.model, probe.images[:1])
    assert math.isfinite(found)
    assert all(exact(probe.model, x[None]) <= found for x in probe.images[:3])


def test_statistics_of_examples_certify_nothing() -> None:
    found = read(registry.make("certified-accuracy").read(probe_of("gn")))
    assert found.pop(("certified-accuracy.lipschitz", "")) == math.inf
    assert set(found.values()) == {0.0}
    assert len(found) == 4


def test_no_image_turns_within_its_certified_radius_and_shares_are_counted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    images = torch.rand(60, 1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        labels = model(images).argmax(1)
    labels[:6] = (labels[:6] + 1) % 3  # wrong ones have no radius
    bound = lipschitz(model, images[:1])

    def margin(x: torch.Tensor) -> torch.Tensor:
        logits = model(x)
        right = logits.gather(1, labels[:, None])[:, 0]
        return right - logits.scatter(1, labels[:, None], -math.inf).amax(1)

    radii = margin(images).detach().clamp_min(0) / (math.sqrt(2) * bound)
    turned = []
    for factor in (1 - 1e-9, 30.0):
        delta = torch.zeros_like(images)
        for _ in range(30):
            given = (images + delta).requires_grad_()
            (slope,) = torch.autograd.grad(margin(given).sum(), given)
            delta = delta - radii.view(-1, 1, 1, 1) * factor / 8 * functional.normalize(slope.flatten(1)).view_as(slope)
            delta *= (factor * radii / delta.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp(max=1).view(-1, 1, 1, 1)
        turned.append(int((margin(images + delta)[6:] < 0).sum()))
    assert turned[0] == 0 < turned[1]
    measure = registry.make("certified-accuracy", {"radii": [float(radii.median()), 10.0]})
    found = {q: v for (q, _), v in read(measure.read(probe_around(model, images, labels))).items()}
    assert found["certified-accuracy.lipschitz"] == pytest.approx(bound)
    assert found["certified-accuracy.radius"] == pytest.approx(float(radii.mean()))
    shares = [v for q, v in found.items() if "share" in q]
    assert shares == [float((radii >= radii.median()).double().mean()), 0.0]
