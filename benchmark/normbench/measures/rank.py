"""Rank of the input of convolutions and linear layers, and what of the weight lies in its kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.measures._capture import mode, watching
from normbench.measures._unfold import positions, weight_rows, windows
from normbench.measures._weights import PREFIX
from normbench.measures.base import Measure, Probe, Value
from normbench.spec.text import Number

if TYPE_CHECKING:
    import torch
    from torch import nn


class InputRank(Measure):
    """Rank of the covariance of what each convolution and linear layer multiplies with, and the kernel that it leaves.

    `Sigma_X = 1/m Xc Xc^T`, X (n, m) the unfolded input: n, the fan-in, is C kh kw of a convolution; m = B H W counts
    its output positions over a batch of B images; Xc has the mean over m taken out. A row w of the weight in the kernel
    of Sigma_X gives an output that is the same everywhere, and beta behind batch norm. The rank is at most min(n, m -
    1): the mean costs one (the paper has min(n, B), for a linear layer, where m = B).

    Recorded per layer, in counts: `rank.rank`; `rank.kernel`, n less the rank; `rank.fan-in`, n; `rank.positions`, the
    m that was used; and without unit `rank.energy`, the share of the effective weight's squared norm that lies in the
    range of Sigma_X, over all rows. A random weight has rank / n there; exactly in the kernel it lies with probability
    zero. Of a grouped convolution each group has its own input; recorded is the mean over the groups.

    The batch is the first images of the probe, as many as the trial has in a batch, in training mode. float64, from
    float32 activations: eigenvalues of Sigma_X below `tolerance` of the largest count as zero (1e-10 is a singular
    value of X of 1e-5; rounding to float32 leaves about 1e-7, in eigenvalues 1e-14).

    positions: most positions that are used, but never fewer than 2 n: of more, every k-th of the flattened (B, H, W)
    with the smallest k that fits. The
        rank found is then that of this sample.
    largest: layers where min(n, m) is more have a fan-in and positions alone: it is the side of the symmetric matrix
    whose eigenvectors are needed.

    Source: Sun et al., AAAI 2020, section 2.2.
    """

    name: ClassVar[str] = "rank"
    summary: ClassVar[str] = "Rank and kernel of each layer's input, and the weight's share in its range"
    source: ClassVar[str] = "Sun et al., AAAI 2020, section 2.2"
    cost: ClassVar[str] = "one forward of a batch and an eigendecomposition for each layer"

    every: Annotated[int, Field(ge=1)] = 5
    tolerance: Annotated[float, Number, Field(gt=0, lt=1)] = 1e-10
    positions: Annotated[int, Field(ge=2)] = 4096
    largest: Annotated[int, Field(ge=1)] = 1536

    def read(self, probe: Probe) -> Iterable[Value]:
        import torch
        from torch import nn

        modules = {
            n.removeprefix(PREFIX): m for n, m in probe.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
        }
        found: list[Value] = []

        def see(name: str, given: torch.Tensor, made: torch.Tensor) -> None:
            found.extend(self._values(name, modules[name], given, made))

        with torch.no_grad(), mode(probe.model, training=True), watching(modules, see):
            probe.model(probe.images[: probe.batch_size])
        return found

    def _values(
        self, layer: str, module: nn.Conv2d | nn.Linear, given: torch.Tensor, made: torch.Tensor
    ) -> Iterable[Value]:
        weight = weight_rows(module).double()
        n = weight.shape[2]
        every = -(-positions(module, made) // max(self.positions, 2 * n))
        x = windows(module, given, made, every).double()
        m = x.shape[1]
        yield Value("rank.fan-in", layer, n)
        yield Value("rank.positions", layer, m)
        if min(n, m) > self.largest:
            return
        rank, energy = rank_and_energy(x, weight, self.tolerance)
        yield Value("rank.rank", layer, rank)
        yield Value("rank.kernel", layer, n - rank)
        if energy is not None:
            yield Value("rank.energy", layer, energy)


def rank_and_energy(x: torch.Tensor, weight: torch.Tensor, tolerance: float) -> tuple[float, float | None]:
    """Rank of the covariance of x (groups, m, n) over m, a mean over groups, and the share of the energy of weight
    (groups, rows, n) in its range.

    Both from the smaller of the covariance (n, n) and the matrix of inner products (m, m), which share their
    eigenvalues. The share is None for a weight of zeros; the rank of a constant input, and of one that is not finite,
    is 0.
    """
    import torch

    tiny, eps = torch.finfo(x.dtype).tiny, torch.finfo(x.dtype).eps
    centred = x - x.mean(1, keepdim=True)
    _, m, n = x.shape
    wide = m < n
    square = centred @ centred.mT if wide else centred.mT @ centred
    if not bool(square.isfinite().all()):
        return 0.0, None
    values, vectors = torch.linalg.eigh(square)
    inside = (values > tolerance * values[:, -1:]) & (values > 0)
    # rounding of the mean alone leaves a constant input with values of this size
    inside &= values > m * eps**2 * x.square().sum((1, 2))[:, None]
    # an eigenvector u of the inner products is X^T u / sqrt(eigenvalue) of the covariance
    along = weight @ centred.mT @ vectors / values.clamp_min(tiny).sqrt().unsqueeze(1) if wide else weight @ vectors
    total = weight.square().sum()
    energy = (along * inside.unsqueeze(1)).square().sum() / total if total > 0 else None
    return inside.sum(1).double().mean().item(), None if energy is None else energy.item()
