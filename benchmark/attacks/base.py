"""The contract of an attack or noise: images in pixel space in, perturbed images in pixel space out.

One file each. Sizes (`eps`, `std`) are in pixel space [0, 1]. The harness (`benchmark/lab/evaluate.py`) batches, keeps only images that are
still classified correctly where that is sound, checks bounds, size and finiteness, and scores; an attack only perturbs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from benchmark.plugins import Number, Plugin, number

if TYPE_CHECKING:
    import torch
    from torch import nn


def _ascending(value: object) -> object:
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [number(v) for v in values]
    return tuple(sorted(set(numbers))) if all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers) else tuple(numbers)


#: One size or a list, each in (0, 1], written as numbers or fractions; kept ascending without repeats.
Sizes = Annotated[
    tuple[Annotated[float, Number, Field(gt=0, le=1)], ...],
    BeforeValidator(_ascending, json_schema_input_type=float | str | list[float | str]),
    Field(min_length=1, max_length=64),
]


class Attack(Plugin, ABC):
    """Perturbs images.

    threat: the ball that `size` is the radius of, or `noise` for random perturbations that no ball bounds.
    size_field: the parameter that lists the sizes.
    """

    threat: ClassVar[Literal["linf", "l2", "l1", "noise"]]
    size_field: ClassVar[str]

    @property
    def sizes(self) -> tuple[float, ...]:
        """Ascending."""
        return tuple(getattr(self, self.size_field))

    @property
    def setting(self) -> str:
        """Everything but the sizes, as written: `bim[steps=20]`."""
        return self.label(without=frozenset({self.size_field}))

    @abstractmethod
    def perturb(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, size: float, generators: list[torch.Generator]) -> torch.Tensor:
        """Images of shape (N, C, H, W) in [0, 1], labels int64 (N,); returns perturbed images of the same shape in [0, 1].

        `model` maps pixel-space images to logits (N, classes), is in eval mode, and its parameters are frozen. `generators` holds one CPU
        generator an image, seeded by trial and image, so that results do not depend on how images are batched.
        """
