"""How much accuracy is left when channels are merged that have similar gamma and beta."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from normbench.measures.base import EndMeasure, Probe, Value
from normbench.spec.text import Number

if TYPE_CHECKING:
    import torch
    from torch import nn


class Merge(NamedTuple):
    """channel: which gives way. into: which takes its place. distance: between their (gamma, beta)."""

    channel: int
    into: int
    distance: float


class SimilarityPruning(EndMeasure):
    """Accuracy on test images after a share of the channels of every normalization layer was merged by similarity, next
    to two other ways to choose.

    The claim: units with close (gamma, beta) have similar outputs, so one of them can be removed. Channel c is within
    tau of c' when `max(|gamma_c - gamma_c'|, |beta_c - beta_c'|) <= tau`; merging it puts the output of c' in place of
    that of c. In each layer the closest two of the channels that are left are merged (the one with the larger index
    gives way, with all that it stands for), until the share is reached.

    Quantities at each share s of `shares`, in eval mode, on the first `images` of the probe's test images:
    `pruning.similarity@s`; `pruning.tau@s`, the largest distance merged in any layer; `pruning.gamma@s`, where the
    channels with the smallest |gamma| get gamma = 0, so that their output is beta, a constant that the next layer can
    absorb (Liu et al.'s network slimming, share by layer); `pruning.random@s`, the mean over `draws` of the same for
    random channels; and `pruning.unpruned`. All ways remove `round(s C)` channels of C in each layer, at most C - 1.
    Nothing is retrained.

    Only layers with a gamma and a beta of each channel count, whose channels differ in them. Where there are none
    (before training all gammas are 1), or no test images (tuning), there are no values.

    Source: Sun et al. 2020, section 3.1, left there as future work; Liu et al., Learning Efficient Convolutional
    Networks through Network Slimming, ICCV 2017.
    """

    name: ClassVar[str] = "pruning"
    summary: ClassVar[str] = (
        "Accuracy after merging channels of similar gamma and beta, and after pruning by gamma or at random"
    )
    source: ClassVar[str] = "Sun et al., AAAI 2020, section 3.1"
    cost: ClassVar[str] = "(2 + draws) x shares + 1 forwards of the images"

    shares: Annotated[tuple[Annotated[float, Number, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (0.125, 0.25, 0.5)
    """Of the channels of each layer that are removed."""
    draws: Annotated[int, Field(ge=1)] = 3
    """Random choices that an accuracy is averaged over."""
    images: Annotated[int, Field(ge=1)] = 500

    def read(self, probe: Probe) -> Iterable[Value]:
        import torch

        layers = [norm.layer for norm in probe.norms.values() if _differ(norm.layer)]
        if probe.test_images is None or probe.test_labels is None or not layers:
            return
        images, labels = probe.test_images[: self.images], probe.test_labels[: self.images]
        generator = torch.Generator().manual_seed(probe.seed)
        orders = [merges(layer.weight.detach(), layer.bias.detach()) for layer in layers]  # type: ignore[operator]

        def accuracy() -> float:
            with torch.no_grad():
                return float((probe.model(images).argmax(1) == labels).double().mean())

        def without(choose: Callable[[nn.Module], torch.Tensor], share: float) -> float:
            with _zero_gamma(layers, [choose(layer)[: _count(layer, share)] for layer in layers]):
                return accuracy()

        yield Value("pruning.unpruned", "", accuracy())
        for share in self.shares:
            steps = [order[: _count(layer, share)] for layer, order in zip(layers, orders, strict=True)]
            with merged(layers, steps):
                yield Value(f"pruning.similarity@{share:g}", "", accuracy())
            yield Value(f"pruning.tau@{share:g}", "", max((m.distance for step in steps for m in step), default=0.0))
            yield Value(f"pruning.gamma@{share:g}", "", without(_by_gamma, share))
            drawn = [
                without(lambda layer: torch.randperm(_channels(layer), generator=generator), share)
                for _ in range(self.draws)
            ]
            yield Value(f"pruning.random@{share:g}", "", sum(drawn) / len(drawn))


def merges(gamma: torch.Tensor, beta: torch.Tensor) -> list[Merge]:
    """The C - 1 merges of C channels, closest first among those left; of equal distances the one of lower indices."""
    import torch

    points = torch.stack([gamma, beta], 1).double().cpu()
    distance = torch.cdist(points, points, p=torch.inf)
    distance[torch.tril(torch.ones_like(distance, dtype=torch.bool))] = torch.inf
    found = []
    for _ in range(len(points) - 1):
        into, channel = divmod(int(distance.argmin()), len(points))
        found.append(Merge(channel, into, float(distance[into, channel])))
        distance[channel, :] = distance[:, channel] = torch.inf
    return found


@contextmanager
def merged(layers: Sequence[nn.Module], steps: Sequence[Sequence[Merge]]) -> Iterator[None]:
    """Inside, each of `layers` shows, for every channel that gave way, the output of the channel that took its
    place.
    """
    handles = []
    for layer, step in zip(layers, steps, strict=True):
        place = list(range(_channels(layer)))
        for channel, into, _ in step:
            place = [into if p == channel else p for p in place]
        handles.append(layer.register_forward_hook(_shown(place)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shown(place: list[int]) -> Callable[[nn.Module, Any, torch.Tensor], torch.Tensor]:
    return lambda _, given, made: made[:, place]


@contextmanager
def _zero_gamma(layers: Sequence[nn.Module], channels: Sequence[torch.Tensor]) -> Iterator[None]:
    import torch

    gammas: list[torch.Tensor] = [layer.weight.detach() for layer in layers]  # type: ignore[operator]
    before = [gamma.clone() for gamma in gammas]
    with torch.no_grad():
        for gamma, chosen in zip(gammas, channels, strict=True):
            gamma[chosen.to(gamma.device)] = 0
        try:
            yield
        finally:
            for gamma, value in zip(gammas, before, strict=True):
                gamma.copy_(value)


def _differ(layer: nn.Module) -> bool:
    """A gamma and a beta of each channel, not all the same, and none that is not finite."""
    import torch

    gamma, beta = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if (
        not isinstance(gamma, torch.Tensor)
        or not isinstance(beta, torch.Tensor)
        or gamma.ndim != 1
        or gamma.shape != beta.shape
    ):
        return False
    both = torch.stack([gamma.detach(), beta.detach()])
    return bool(both.isfinite().all()) and bool((both != both[:, :1]).any())


def _channels(layer: nn.Module) -> int:
    return len(layer.weight)  # type: ignore[arg-type]


def _count(layer: nn.Module, share: float) -> int:
    return min(round(share * _channels(layer)), _channels(layer) - 1)


def _by_gamma(layer: nn.Module) -> torch.Tensor:
    gamma: torch.Tensor = layer.weight.detach()  # type: ignore[operator]
    return gamma.abs().argsort(stable=True)
