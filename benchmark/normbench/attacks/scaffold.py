"""Writes the file of a new attack (`bench new attack NAME`)."""

from __future__ import annotations

from pathlib import Path
from string import Template

from normbench.attacks import registry
from normbench.spec.scaffold import write

_CARD = Template('''"""TODO: the attack in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.attacks.base import Attack, Sizes, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn


class $class_name(Attack):
    """x' = clip(x + eps * u, 0, 1) with u uniform in [-1, 1]. TODO: the equation, and what its symbols are.

    Source: TODO: authors, title, where and when it was published.
    """

    name: ClassVar[str] = "$name"
    summary: ClassVar[str] = "TODO: a few words for tables"
    source: ClassVar[str] = "TODO: authors year, arXiv number"
    # What a size measures: linf, l2 and l1 are balls, which the harness holds every image to; noise and corruption
    # have none.
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"

    # Parameters are typed fields with defaults, written so in a suite:
    # `{$name: {eps: [2/255, 8/255]}}`. Sizes are in pixel space: the images lie in [0, 1].
    eps: Sizes = (8 / 255,)
    """Radii of the L-infinity ball in pixel space."""

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        import torch

        # TODO: the attack, e.g. along the gradient of a loss: `logits = model(images.requires_grad_())`. Random numbers
        # come from `generators`, one for each image, so that no result depends on how images are batched.
        drawn = torch.stack([torch.rand(images.shape[1:], generator=g) for g in generators])
        return (images + size * (2 * drawn.to(images.device) - 1)).clamp(0, 1)
''')


def scaffold(name: str, folder: Path) -> Path:
    """Write the file of an attack called `name` into `folder`; it passes its checks as it is, as uniform noise. Raises
    as `normbench.spec.scaffold.write`.
    """
    return write(registry, _CARD, name, folder)
