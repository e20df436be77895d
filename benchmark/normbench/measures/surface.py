"""The loss around the trained network, on a plane of two random directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.measures._weights import raw_weights
from normbench.measures.base import EndMeasure, Probe, Value

if TYPE_CHECKING:
    import torch

    from normbench.measures._loss import ProbeLoss


class Surface(EndMeasure):
    """Mean cross-entropy of the first `images` probe images at w + x d + y e, for x and y on `points` evenly spaced
    values from -`extent` to `extent`.

    d and e are normal random directions, normalized filter by filter: each row of a convolution's or linear layer's
    weight (the raw one where it is reparametrized) gets the norm of that row of w; everything else, biases and the
    parameters of norms, stays where it is. The directions depend on the trial's seed alone: methods that share weights'
    shapes are cut along the same draws. `mode: eval`, as in the source, keeps the running statistics of w everywhere;
    `train` takes those of the batch at each point, which for scale-invariant weights is the function that was trained.

    One reading a point, `surface.loss@X,Y`, with X and Y rounded to four decimals: `surface.loss@-0.3333,1`. A chart
    splits the name at `@` and `,`. An odd number of points has the trained network itself in the middle,
    `surface.loss@0,0`.

    Source: Li, Xu, Taylor, Studer and Goldstein, Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018, section
    4.
    """

    name: ClassVar[str] = "surface"
    summary: ClassVar[str] = "Loss on a plane of two filter-normalized random directions around the trained network"
    source: ClassVar[str] = "Li et al., NeurIPS 2018, section 4"
    cost: ClassVar[str] = "points x points forwards of the images"

    points: Annotated[int, Field(ge=2, le=201)] = 7
    extent: Annotated[float, Field(gt=0, le=100)] = 1.0
    images: Annotated[int, Field(ge=2, le=100_000)] = 256
    mode: Literal["train", "eval"] = "eval"

    def read(self, probe: Probe) -> Iterable[Value]:
        import torch

        from normbench.measures._loss import ProbeLoss

        loss = ProbeLoss(probe.model, probe.images[: self.images], probe.labels[: self.images], self.mode, probe.seed)
        generator = torch.Generator().manual_seed(probe.seed)
        d, e = (self._direction(probe.model, loss, generator) for _ in range(2))
        along = torch.linspace(-self.extent, self.extent, self.points, dtype=torch.float64).tolist()
        with torch.no_grad():
            for x in along:
                for y in along:
                    with loss.moved(x * d + y * e):
                        value = float(loss.loss())
                    yield Value(f"surface.loss@{_shown(x)},{_shown(y)}", "", value)

    def _direction(self, model: torch.nn.Module, loss: ProbeLoss, generator: torch.Generator) -> torch.Tensor:
        """A random direction of all trained parameters, flat."""
        import torch

        from normbench.measures._loss import flat

        filters = {id(raw): raw.detach() for _, _, raw in raw_weights(model)}
        parts = []
        for parameter in loss.parameters:
            if (weight := filters.get(id(parameter))) is None:
                parts.append(torch.zeros_like(parameter))
                continue
            rows = torch.randn(weight.shape, generator=generator).to(weight).flatten(1)
            parts.append(
                (rows * (weight.flatten(1).norm(dim=1) / rows.norm(dim=1).clamp_min(1e-12)).unsqueeze(1)).view_as(
                    weight
                )
            )
        return flat(parts)


def _shown(coordinate: float) -> str:
    return f"{round(coordinate, 4) + 0.0:g}"
