"""The Hessian of the loss: largest eigenvalues, trace, spectral density."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.measures.base import Measure, Probe, Value

if TYPE_CHECKING:
    from normbench.measures._loss import ProbeLoss

#: Where the spectral density is sampled: the shares of eigenvalues that lie below what is recorded. Values of given
#: shares, because the process finds a crowd of eigenvalues near zero only to within a small part of the largest one, on
#: either side of any fixed value.
SHARES = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)


class Hessian(Measure):
    """Curvature of the loss of the first `images` probe images (mean cross-entropy) in all trained parameters, raw ones
    where they are reparametrized.

    From `vectors` random sign vectors v, each followed through `steps` of the Lanczos process with full
    reorthogonalization:
    `eigenvalue.1`, `.2`, ... the largest eigenvalues (the `top` of them), `eigenvalue.min` the smallest; `residual` is
    how far `eigenvalue.1` is from an eigenvalue at most but for rounding, as a share of it; `trace` is Hutchinson's
    estimate, the mean of v' H v, and `trace.error` its standard error (none of one vector), which from few vectors is
    no interval: 95 % are `trace` +- t x `trace.error`, with Student's t of `vectors` - 1 degrees of freedom, 3.18 for 4
    vectors; `quantile@q` is the
    eigenvalue that a share q of all lies at or below, of the spectral density by the quadrature that belongs to the
    process, averaged over the vectors.

    `mode: train` takes statistics of the batch, which couple its examples, and is what the optimizer sees; `eval` takes
    running statistics, which before training are none of this network. Noise and drop-out are drawn once and stand
    still, and what a method leaves out of its gradient (u and v of spectral normalization, r and d of batch
    renormalization) is constant. Computed in the precision of the parameters; a layer without a second derivative is an
    error of the measure. Memory: `steps` vectors of the size of the network, and the graph of one backward pass.

    Source: Pearlmutter 1994 (products with the Hessian); Ghorbani, Krishnan and Xiao, ICML 2019 (density); Hutchinson
    1990 (trace).
    """

    name: ClassVar[str] = "hessian"
    summary: ClassVar[str] = "Hessian of the loss: largest eigenvalues, trace, spectral density"
    source: ClassVar[str] = "Ghorbani et al., ICML 2019; Hutchinson 1990"
    cost: ClassVar[str] = "vectors x steps second backward passes of the images, each about two backward passes"

    every: Annotated[int, Field(ge=1)] = 10
    images: Annotated[int, Field(ge=2, le=100_000)] = 64
    mode: Literal["train", "eval"] = "train"
    top: Annotated[int, Field(ge=1, le=100)] = 3
    steps: Annotated[int, Field(ge=1, le=1000)] = 20
    vectors: Annotated[int, Field(ge=1, le=1000)] = 4

    def read(self, probe: Probe) -> Iterable[Value]:
        from normbench.measures._loss import ProbeLoss

        loss = ProbeLoss(probe.model, probe.images[: self.images], probe.labels[: self.images], self.mode, probe.seed)
        yield from self.of(loss, probe.seed)

    def of(self, loss: ProbeLoss, seed: int) -> Iterable[Value]:
        """The values of one loss; `seed` draws the sign vectors."""
        import torch

        from normbench.measures._lanczos import lanczos

        times = loss.hessian()
        generator = torch.Generator().manual_seed(seed)
        spectra = []
        for _ in range(self.vectors):
            signs = torch.randint(0, 2, (loss.size,), generator=generator) * 2 - 1
            spectra.append(lanczos(times, signs.to(loss.parameters[0]), self.steps))
        best = max(spectra, key=lambda s: float(s.values[-1]))
        largest = float(best.values[-1])
        for rank, value in enumerate(best.values.flip(0)[: self.top].tolist(), 1):
            yield Value(f"hessian.eigenvalue.{rank}", "", value)
        yield Value("hessian.eigenvalue.min", "", min(float(s.values[0]) for s in spectra))
        yield Value("hessian.residual", "", float(best.residuals[-1]) / abs(largest) if largest else 0.0)
        traces = torch.stack([loss.size * (s.weights * s.values).sum() for s in spectra])
        yield Value("hessian.trace", "", float(traces.mean()))
        if self.vectors > 1:
            yield Value("hessian.trace.error", "", float(traces.std()) / math.sqrt(self.vectors))
        values, order = torch.cat([s.values for s in spectra]).sort()
        below = torch.cat([s.weights for s in spectra])[order].cumsum(0)
        for share in SHARES:
            yield Value(f"hessian.quantile@{share:g}", "", float(values[int((below < share * below[-1]).sum())]))
