"""Constraint numbers: formulas against ranks, and against the tutorial's table."""

from __future__ import annotations

import copy

import pytest
import torch
from normbench import norms
from normbench.measures import Constraints, registry
from normbench.norms import ActivationNorm
from normbench.norms.check import evaluate, sizes_of

from tests.measures._probes import layer_of, probe_of, read

#: With groups wherever there are some, and chunks of the batch.
GROUPED = (
    "gn[groups=3]",
    "gn[groups=2]",
    "gw[groups=3]",
    "bcn[groups=2]",
    "bw-zca[group=3]",
    "bw-cd[group=2]",
    "bw-pca[group=2]",
    "iternorm[group=3]",
)
ACTIVATIONS = [n for n in norms.registry.names() if issubclass(norms.registry.get(n), ActivationNorm)]


def missing_rank(norm: str, examples: int, channels: int, side: int) -> int:
    """What the rank of the Jacobian of a layer in training lacks, by singular values."""
    method = norms.registry.parse(norm)
    if "eps" in type(method).model_fields:
        method = method.model_copy(update={"eps": 1e-12})
    assert isinstance(method, ActivationNorm)
    layer = (
        method.layer(
            norms.Site(
                name="here",
                channels=channels,
                eps=1e-12,
                momentum=0.5,
                positions=side**2,
                ends_branch=method.own_branch_start,
            )
        )
        .double()
        .train()
    )
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(examples, channels, side, side, generator=generator, dtype=torch.float64)
    for _ in range(30):
        layer(1.2 * torch.randn(x.shape, generator=generator, dtype=torch.float64))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 + torch.rand(parameter.shape, generator=generator))
        if hasattr(layer, "num_batches_tracked"):
            layer.num_batches_tracked.fill_(10**6)
    jacobian = torch.autograd.functional.jacobian(lambda given: copy.deepcopy(layer)(given), x).reshape(x.numel(), -1)
    values = torch.linalg.svdvals(jacobian)
    return int((values < 1e-10 * values[0]).sum())


@pytest.mark.parametrize("norm", [*ACTIVATIONS, *GROUPED, "ghost-bn[size=2]"])
def test_the_formula_is_the_rank_that_is_missing(norm: str) -> None:
    """At other sizes than those that the claims are checked at."""
    examples, channels, side = 5, 6, 2
    claims = norms.registry.parse(norm).claims
    layer = layer_of(norm, channels, positions=side**2)
    counted = evaluate(claims.constraints, sizes_of(layer, d=channels, n=examples, p=side**2))
    assert counted == missing_rank(norm, examples, channels, side)


@pytest.mark.parametrize(
    ("norm", "number"),
    [
        ("bn", lambda d, n: 2 * d),
        ("ln", lambda d, n: 2 * n),
        ("in", lambda d, n: 2 * d * n),
        ("none", lambda d, n: 0),
        ("wn", lambda d, n: 0),
    ],
)
def test_every_layer_of_a_network_has_its_number(norm: str, number: object) -> None:
    probe = probe_of(norm, batch_size=8)
    found = read(registry.make("constraints").read(probe))
    for name, layer in probe.norms.items():
        assert found["constraints.number", name] == number(layer.channels, 8)  # type: ignore[operator]
    first = probe.norms["bn1"].channels
    assert found["constraints.share", "bn1"] == pytest.approx(number(first, 8) / (8 * first * 16 * 16))  # type: ignore[operator]


def test_weight_methods_constrain_the_weight() -> None:
    found = read(registry.make("constraints").read(probe_of("ws")))
    assert found["constraints.number", "conv1"] == 2 * 8
    assert found["constraints.share", "conv1"] == pytest.approx(2 / 27)


def test_whitening_of_a_small_batch_has_more_equations_than_values() -> None:
    """The tutorial's range: m >= (d + 3) / 2."""
    probe = probe_of("bn")
    shares = {}
    for m in (9, 10):
        number = evaluate(norms.registry.get("bw-zca").claims.constraints, {"d": 16, "n": m, "p": 1, "g": 1})
        probe.constraints["x"] = Constraints(number=number, values=16 * m)  # type: ignore[index]
        shares[m] = read(registry.make("constraints").read(probe))["constraints.share", "x"]
    assert shares[9] > 1 > shares[10]
