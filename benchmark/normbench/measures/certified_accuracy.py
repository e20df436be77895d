"""Accuracy that a bound of the network's Lipschitz constant certifies against every attack."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from normbench.measures.base import EndMeasure, Probe, Value
from normbench.spec.text import Number

#: Stands for a constant of 0, that of a network that gives every image the same.
_SMALLEST = 1e-300


class CertifiedAccuracy(EndMeasure):
    """Share of test images that no perturbation of an L2 norm up to a radius can turn, as a bound certifies.

    A network whose logits have a Lipschitz constant of at most c gives an image the same label within
    `margin / (sqrt(2) c)`: the difference of two logits has a constant of at most `sqrt(2) c`. margin: the right logit
    less the largest other. Images and radii are in pixel space, [0, 1].

    Quantities, of the whole network in eval mode: `certified-accuracy.lipschitz`, the bound c;
    `certified-accuracy.radius`, the mean certified radius, 0 for images that are wrong; `certified-accuracy.share@r`
    for each of `radii`. There are no test images while a suite tunes, and no values then but the bound.

    With `train: ema` it is of the weights that the optimizer moves, which are not those that are attacked.

    The bound is a product along the network: of convolutions (the smaller of two bounds), linear layers (the largest
    singular value), factors of channels, batch normalization with its running statistics, pooling, slopes of
    activations; where two paths are added, it is the sum of theirs. In deep networks it is far above the constant, and
    certifies little. There is none where statistics of the example divide (layer, group and instance normalization,
    whitening of samples), in attention, and behind any function that has no bound in `normbench.tensors.lipschitz`:
    `certified-accuracy.lipschitz` then has no value, and nothing is certified. Rounding is left out of account.

    Source: Tsuzuku, Sato and Sugiyama, Lipschitz-Margin Training, NeurIPS 2018; bounds of convolutions: Li et al.,
    NeurIPS 2019; Sedghi, Gupta and Long, ICLR 2019.
    """

    name: ClassVar[str] = "certified-accuracy"
    summary: ClassVar[str] = "Bound of the network's Lipschitz constant, and the accuracy that it certifies"
    source: ClassVar[str] = "Tsuzuku et al. 2018, arXiv:1802.04034"
    cost: ClassVar[str] = "singular values of each weight at each frequency, one forward of the test images"

    radii: tuple[Annotated[float, Number, Field(gt=0)], ...] = (36 / 255, 72 / 255, 108 / 255)
    """L2, pixel space."""

    def read(self, probe: Probe) -> Iterable[Value]:
        import torch

        from normbench.tensors.lipschitz import lipschitz

        bound = lipschitz(probe.model, probe.images[:1])
        yield Value("certified-accuracy.lipschitz", "", bound)
        if probe.test_images is None or probe.test_labels is None:
            return
        with torch.no_grad():
            logits = probe.model(probe.test_images).double()
        right = logits.gather(1, probe.test_labels.unsqueeze(1)).squeeze(1)
        others = logits.scatter(1, probe.test_labels.unsqueeze(1), -math.inf).amax(1)
        radii = (right - others).clamp_min(0) / (math.sqrt(2) * max(bound, _SMALLEST))
        yield Value("certified-accuracy.radius", "", float(radii.mean()))
        for radius in self.radii:
            yield Value(f"certified-accuracy.share@{radius:.4g}", "", float((radii >= radius).double().mean()))
