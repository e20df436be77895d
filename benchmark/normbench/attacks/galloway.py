"""The settings that the source paper cites, as their authors ran them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.attacks.base import Attack, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn

#: CIFAR-10's mean and standard deviation of each channel as that code has them.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
#: Size of each kind in units of standardised pixels.
SIZES = {"linf": 0.03, "l2": 1.663, "noise": 0.25}
STEPS = 20
#: Standardised pixels are cut to [-2, 2], which changes pixels that were never attacked, by up to 0.15.
BOUND = 2.0

Kind = Literal["linf", "l2", "noise"]


class Galloway(Attack):
    """BIM, L2 PGD and noise in the space of standardised pixels, cut to [-2, 2]; the noise is not cut.

    linf: 20 steps of .003 within .03, no random start; l2: 20 steps of a tenth within 1.663; noise: standard deviation
    1/4. In pixels about 1.5/255, .33 and .05. For comparison with numbers of that line of work only: the cut leaves the
    ball, so `galloway` is compared with nothing else here. Source: Galloway et al., "Batch normalization is a cause of
    adversarial vulnerability", 2019, and its public code of June 2019 for CIFAR-10.
    """

    name: ClassVar[str] = "galloway"
    summary: ClassVar[str] = "attacks and noise of Galloway et al. 2019 in standardised space (RGB images)"
    source: ClassVar[str] = "Galloway et al., 2019 (arXiv 1905.02161) and its code"
    threat: ClassVar[Threat] = "standardised"
    size_field: ClassVar[str] = "kinds"

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = ("linf", "l2", "noise")

    @property
    def sizes(self) -> tuple[float, ...]:
        return tuple(sorted(SIZES[k] for k in self.kinds))

    @property
    def setting(self) -> str:
        return f"galloway[{';'.join(self.kinds)}]" if len(self.kinds) == 1 else "galloway"

    def parts(self) -> Sequence[Attack]:
        return tuple(Galloway(kinds=(kind,)) for kind in self.kinds)

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        import torch

        if images.shape[1] != len(MEAN):
            raise ValueError(f"galloway is defined for RGB images, found {images.shape[1]} channels")
        mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (MEAN, STD))
        origin = (images - mean) / std
        if size == SIZES["noise"]:
            z = origin + size * torch.stack([torch.randn(images.shape[1:], generator=g) for g in generators]).to(
                images.device
            )
        else:
            z = self._climb(model, origin, labels, size, mean, std)
        return z * std + mean

    def _climb(
        self,
        model: nn.Module,
        origin: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        mean: torch.Tensor,
        std: torch.Tensor,
    ) -> torch.Tensor:
        import torch
        from torch.nn import functional

        from normbench.attacks._balls import project, unit_step

        ball: Literal["linf", "l2"] = "linf" if size == SIZES["linf"] else "l2"
        z = origin
        for _ in range(STEPS):
            z = z.detach().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(
                    functional.cross_entropy(model(z * std + mean), labels, reduction="sum"), z
                )
            z = z + size / 10 * unit_step(gradient, ball)
            # The order of projection and cut differs between the two attacks of that code.
            z = (
                project(z, origin, size, "linf").clamp(-BOUND, BOUND)
                if ball == "linf"
                else project(z.clamp(-BOUND, BOUND), origin, size, "l2")
            )
        return z.detach().clamp(-BOUND, BOUND)
