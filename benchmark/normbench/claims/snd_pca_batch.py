"""A larger batch does not calm PCA whitening."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part


class DisturbancePca(Computed):
    name = "snd-pca-batch"
    summary = "PCA whitening has nearly the same large disturbance at all batch sizes"
    source = "huang"
    theme = "whitening"
    place = "Slide: investigation into the stochasticity"
    test = "simulated"
    scope = (
        "d = 16, batches of 64 and 256, normally distributed inputs of unit covariance, 12 batches of examples and 6 "
        "examples each, 6 repetitions, float64"
    )
    study = "stochasticity"
    note = "That of ZCA whitening, of Cholesky and of batch norm falls by half, as the root of the batch."

    def about(self) -> Any:
        """The method."""
        return "bw-pca[group=16]"

    def turned(self) -> Any:
        return "bw-zca[group=16]"

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        from normbench.claims._chance import mean
        from normbench.claims._disturbed import snd

        ratio = snd(about, 16, 256, seed) / snd(about, 16, 64, seed)
        yield mean("SND at a batch of 256 over that at 64", ratio, at_least=0.8, at_most=1.2)
