"""How far the affine parameters of a norm are from the statistics of its input."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from normbench.measures._capture import flows
from normbench.measures.base import Measure, NormLayer, Probe, Value
from normbench.spec.plugins import PluginError

if TYPE_CHECKING:
    import torch

#: Where blocks do not start: stems, as timm names them, numbered or not.
_STEM = re.compile(r"(stem|conv|patch_embed)", re.IGNORECASE)


class NormInput(Measure):
    """`|gamma^2 - sigma^2|`, `|gamma - sigma|` and `|beta - mu|` of the input of normalization layers, over their
    channels.

    gamma and beta (C,) are the layer's parameters, mu and sigma^2 (C,) mean and biased variance of each channel of its
    input over examples and positions, whatever the layer itself normalizes over. With gamma = sigma and beta = mu batch
    norm is the identity, which the paper says training comes near. The paper's text speaks of gamma^2 and sigma^2 in
    one place and of gamma and sigma in another; both are recorded.

    Quantities, each as `-mean`, `-median` (of an even number the middle of both) and `-max` over channels:
    `norm-input.variance` for `|gamma^2 - sigma^2|`, `norm-input.deviation` for `|gamma - sigma|`, `norm-input.shift`
    for `|beta - mu|`, in units of the layer's input. The batch is the first images of the probe, as many as the trial
    has in a batch, in training mode. Where the layer keeps running statistics of its channels, the same of these in
    `norm-input.running-variance`, ... (torch's running variance is the unbiased one). Layers without gamma and beta
    have no values.

    layer: `first` is the first norm of the first residual block, the paper's: the first whose path has a number before
    its last part, in a part that is
        not a stem's (`layer1.0.bn1`, `stages.0.blocks.0.norm1`; where there is none, as in VGG, the first of the
        network); `all` is every norm; or a place, as the audit lists them. The layer is named in the values. Raises
        `PluginError` where no norm stands at that place.

    Source: Sun et al., AAAI 2020, section 3.1 and Figure 2 (there one channel, drawn at random).
    """

    name: ClassVar[str] = "norm-input"
    summary: ClassVar[str] = "Distance of gamma and beta from standard deviation and mean of a norm's input"
    source: ClassVar[str] = "Sun et al., AAAI 2020, Figure 2"
    cost: ClassVar[str] = "one forward of a batch"

    layer: str = "first"

    def read(self, probe: Probe) -> Iterable[Value]:
        import torch

        places = {name: norm for name, norm in chosen(self.layer, probe.norms).items() if affine(norm) is not None}
        running = {
            name: running_statistics(norm.layer) for name, norm in places.items()
        }  # before the forward moves them
        seen = flows(probe, {name: norm.module for name, norm in places.items()}, training=True)
        for name, flow in seen.items():
            norm = places[name]
            parameters = affine(norm)
            if parameters is None:
                continue
            channels = flow.input.double().movedim(norm.axis, 0).flatten(1)
            variance, mean = torch.var_mean(channels, 1, correction=0)
            yield from _values("norm-input.", name, *parameters, mean, variance)
            if (kept := running[name]) is not None:
                yield from _values("norm-input.running-", name, *parameters, *kept)


def chosen(which: str, norms: Mapping[str, NormLayer]) -> dict[str, NormLayer]:
    """The layers that `which` (`first`, `all` or a place) stands for. Raises `PluginError` for a place without a
    norm.
    """
    if which == "all" or not norms:
        return dict(norms)
    if which == "first":
        which = next((n for n in norms if _in_block(n)), next(iter(norms)))
    if which not in norms:
        near = difflib.get_close_matches(which, norms, 1)
        raise PluginError(
            f"measure 'norm-input': no normalization layer at {which!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(norms)}")
        )
    return {which: norms[which]}


def _in_block(name: str) -> bool:
    parents = name.split(".")[:-1]
    return any(re.search(r"\d", p) for p in parents) and not any(_STEM.match(p) for p in parents[:1])


def affine(norm: NormLayer) -> tuple[torch.Tensor, torch.Tensor] | None:
    """gamma and beta (C,), float64; None where the layer has none."""
    gamma, beta = getattr(norm.layer, "weight", None), getattr(norm.layer, "bias", None)
    return None if gamma is None or beta is None else (gamma.detach().double(), beta.detach().double())


def running_statistics(layer: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Copies of running mean and variance (C,) of a layer, float64; None where it keeps none."""
    mean = getattr(layer, "running_mean", None)
    if (variance := getattr(layer, "running_var", None)) is None:
        if (deviation := getattr(layer, "running_std", None)) is not None:
            variance = deviation.double().square()
        elif (covariance := getattr(layer, "running_covariance", None)) is not None:
            variance = covariance.diagonal(dim1=-2, dim2=-1).flatten()
    return (
        None
        if mean is None or variance is None
        else (mean.detach().double().clone(), variance.detach().double().clone())
    )


def _values(
    prefix: str, layer: str, gamma: torch.Tensor, beta: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor
) -> Iterator[Value]:
    gaps = {"variance": gamma.square() - variance, "deviation": gamma - variance.sqrt(), "shift": beta - mean}
    for what, gap in gaps.items():
        size = gap.abs()
        middle = size.quantile(0.5)
        for kind, value in (("mean", size.mean()), ("median", middle), ("max", size.max())):
            yield Value(f"{prefix}{what}-{kind}", layer, value.item())
