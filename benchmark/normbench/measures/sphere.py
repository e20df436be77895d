"""The sphere that normalized pre-activations lie on, and the ellipsoid that the effective weights before them lie
on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from normbench.measures._capture import flows, watching
from normbench.measures._unfold import products
from normbench.measures.base import Measure, NormLayer, Probe, Value

if TYPE_CHECKING:
    import torch
    from torch import nn


class Sphere(Measure):
    """Relative deviation of a layer's normalized output from its sphere, and of the weights before it from their
    ellipsoid, in training mode.

    Lemma 1: m values with variance s2 that are normalized with eps in the denominator, scaled by gamma and shifted by
    beta have the squared norm `m (gamma^2 s2 / (s2 + eps) + beta^2)`. The m values are the unit that the layer
    normalizes: a channel over batch and positions (batch norm; ghost batch norm: of each chunk, added up), a channel of
    an example over positions (instance norm), the channels of a group and the positions of an example (group and layer
    norm), the channels of a position (token layer norm, RMS norm). In the last two gamma and beta differ within a unit,
    which makes the sphere an ellipsoid: there the output at gamma 1, beta 0 is looked at. Where the mean stays in (RMS
    and filter response norm, without their activation), s2 is the mean square.

    Per layer, mean and largest over the units: `sphere.radius-mean`, `-worst`, from the form above;
    `sphere.paper-mean`, `-worst`, from the paper's, `m (gamma^2 + beta^2)`, which leaves eps out. Units whose sphere is
    a point (gamma 0, beta 0) have no value. Layers of other methods, which have no sphere, or one that eps does not
    enter by this formula (whitening), have no values; nor has instance norm on maps of one position.

    Equation 12: the effective weight `w' = gamma w / sqrt(s2 + eps)`, w a row of the convolution or linear layer whose
    output goes straight into a layer that normalizes channels over the whole batch, s2 the variance of that output,
    fulfils `w' S w'^T = gamma^2`, S the covariance of the unfolded input. `sphere.ellipsoid-mean`, `-worst`: the
    deviation of the left side, recomputed from the input in float64, as a share of gamma^2; channels with gamma 0 are
    left out. eps takes the share `eps / (s2 + eps)`, and a mistake about what feeds what shows as a share of about 1.

    The batch is the first images of the probe, as many as the trial has in a batch. All without unit, in float64 from
    float32 activations, whose rounding leaves about 1e-7.

    Source: Sun et al., AAAI 2020, Lemma 1 and equations 10 and 12.
    """

    name: ClassVar[str] = "sphere"
    summary: ClassVar[str] = (
        "Deviation of normalized outputs from their sphere and of effective weights from their ellipsoid"
    )
    source: ClassVar[str] = "Sun et al., AAAI 2020, Lemma 1, equation 12"
    cost: ClassVar[str] = "two forwards of a batch, one of them in float64"

    def read(self, probe: Probe) -> Iterable[Value]:
        from torch import nn

        units = {name: unit for name, norm in probe.norms.items() if (unit := unit_of(norm.layer)) is not None}
        linear = {n: m for n, m in probe.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
        last: list[Any] = [None, None, None]
        energies: dict[str, torch.Tensor] = {}

        def fed(name: str, given: torch.Tensor, made: torch.Tensor) -> None:
            last[:] = linear[name], given, made

        def place(name: str, given: torch.Tensor, _: torch.Tensor) -> None:
            if units[name].kind == "channel" and units[name].chunk is None and given is last[2]:
                energies[name] = products(*last).var(1, correction=0)

        places, layers = ({n: part(probe.norms[n]) for n in units} for part in (_place, _layer))
        with watching(linear, fed), watching(places, place):
            seen = flows(probe, layers, training=True)
        for name, flow in seen.items():
            yield from _sphere(name, layers[name], units[name], flow.input, flow.output)
            if name in energies:
                yield from _ellipsoid(name, layers[name], flow.input, energies[name])


def _place(norm: NormLayer) -> nn.Module:
    return norm.module


def _layer(norm: NormLayer) -> nn.Module:
    return norm.layer


@dataclass(frozen=True)
class Unit:
    """What a layer normalizes at a time."""

    kind: Literal["channel", "instance", "group", "position"]
    centred: bool = True
    groups: int = 1
    chunk: int | None = None
    """Examples whose statistics are taken together, where that is not the whole batch."""

    @property
    def uniform(self) -> bool:
        """gamma and beta are the same throughout a unit, and the normalized values have mean 0."""
        return self.centred and self.kind in ("channel", "instance")


def unit_of(layer: nn.Module) -> Unit | None:
    """The unit that `layer` normalizes; None where Lemma 1 does not describe it."""
    from torch import nn

    from normbench.norms.layers.batch import GhostBatchNorm, LpBatchNorm
    from normbench.norms.layers.instance import InstanceNorm
    from normbench.norms.layers.sample import FilterResponseNorm, RmsNorm, TokenLayerNorm
    from normbench.tensors.private import AnyBatchNorm

    match layer:
        case GhostBatchNorm():
            return Unit("channel", chunk=layer.size)
        case AnyBatchNorm():
            return Unit("channel")
        case LpBatchNorm(p=2):
            return Unit("channel")
        case InstanceNorm():
            return Unit("instance")
        case FilterResponseNorm():
            return Unit("instance", centred=False)
        case nn.GroupNorm():
            return Unit("group", groups=layer.num_groups)
        case TokenLayerNorm():
            return Unit("position")
        case RmsNorm():
            return Unit("position", centred=False)
    return None


def _sphere(name: str, layer: Any, unit: Unit, x: torch.Tensor, y: torch.Tensor) -> Iterator[Value]:
    import torch

    if unit.kind == "instance" and x[0, 0].numel() == 1:
        return
    gamma, beta = _affine(layer, x)
    if not unit.uniform:
        y, gamma, beta = _standardized(layer, x), torch.ones_like(gamma), torch.zeros_like(beta)
    # a list of chunks of examples, each with the channels first: (C, units a channel, values) or, where channels share
    # a unit, (1, units, values)
    chunks = torch.tensor_split(x, [unit.chunk * i for i in range(1, len(x) // unit.chunk)]) if unit.chunk else (x,)
    exact, paper = torch.zeros(()), torch.zeros(())
    for part in chunks:
        values = _units(part.double(), unit)
        size = values.shape[2]
        square = values.var(2, correction=0) if unit.centred else values.square().mean(2)
        g2, b2 = (a.square().unsqueeze(1) if unit.uniform else a[:1].square().unsqueeze(1) for a in (gamma, beta))
        exact = exact + size * (g2 * square / (square + layer.eps) + b2)
        paper = paper + (size * (g2 + b2)).expand_as(square)
    found = _units(y.double(), unit).square().sum(2)
    for what, expected in (("radius", exact), ("paper", paper)):
        there = expected > 0
        yield from _deviation(f"sphere.{what}", name, ((found - expected).abs() / expected)[there])


def _ellipsoid(name: str, layer: Any, x: torch.Tensor, energy: torch.Tensor) -> Iterator[Value]:
    import torch

    gamma, _ = _affine(layer, x)
    variance = x.double().transpose(0, 1).flatten(1).var(1, correction=0)
    yield from _deviation(
        "sphere.ellipsoid", name, (energy / (variance + layer.eps) - 1).abs()[torch.nonzero(gamma, as_tuple=True)]
    )


def _deviation(quantity: str, layer: str, shares: torch.Tensor) -> Iterator[Value]:
    if shares.numel():
        yield Value(f"{quantity}-mean", layer, shares.mean().item())
        yield Value(f"{quantity}-worst", layer, shares.max().item())


def _units(x: torch.Tensor, unit: Unit) -> torch.Tensor:
    """`(N, C, *)` as (C, units a channel, values a unit); where channels share a unit, (1, units, values)."""
    flat = x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)
    match unit.kind:
        case "channel":
            return flat.transpose(0, 1).flatten(1).unsqueeze(1)
        case "instance":
            return flat.transpose(0, 1)
        case "group":
            return flat.reshape(1, len(flat) * unit.groups, -1)
        case "position":
            return flat.transpose(1, 2).reshape(1, -1, flat.shape[1])


def _affine(layer: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """gamma and beta (C,), float64; 1 and 0 where the layer has none."""
    import torch

    channels = x.shape[1]
    gamma = (
        torch.ones(channels, dtype=torch.float64, device=x.device)
        if layer.weight is None
        else layer.weight.detach().double()
    )
    beta = (
        torch.zeros(channels, dtype=torch.float64, device=x.device)
        if layer.bias is None
        else layer.bias.detach().double()
    )
    return gamma, beta


def _standardized(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The output of a layer without batch statistics at gamma 1, beta 0 and without an activation of its own."""
    import torch

    start = {"weight": 1.0, "bias": 0.0, "tau": -torch.inf}
    plain = {name: torch.full_like(p, start[name]) for name, p in layer.named_parameters()}
    with torch.no_grad():
        y: torch.Tensor = torch.func.functional_call(layer, plain, (x,))
    return y
