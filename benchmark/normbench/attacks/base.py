"""The contract of an attack or noise: images in pixel space in, perturbed images in pixel space out.

One file each. Sizes (`eps`, `std`) are in pixel space [0, 1], unless the attack says otherwise. The harness
(`benchmark/normbench/lab/evaluate`) runs the sizes in ascending order, keeps only images that are still classified
correctly where that is sound, checks bounds, size and finiteness, and scores; an attack only perturbs. Files whose name
starts with `_` hold what several attacks share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from zlib import crc32

from pydantic import BeforeValidator, Field

from normbench.spec.plugins import Plugin
from normbench.spec.text import Number, number

if TYPE_CHECKING:
    import torch
    from torch import nn


def _ascending(value: object) -> object:
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [number(v) for v in values]
    return (
        tuple(sorted(set(numbers)))
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in numbers)
        else tuple(numbers)
    )


_read = BeforeValidator(_ascending, json_schema_input_type=float | str | list[float | str])
_some = Field(min_length=1, max_length=64)

#: One size or a list, each in (0, 1], written as numbers or fractions; kept ascending without repeats.
Sizes = Annotated[tuple[Annotated[float, Number, Field(gt=0, le=1)], ...], _read, _some]
#: Radii of L2 and L1 balls, which may be larger than one pixel's range.
Radii = Annotated[tuple[Annotated[float, Number, Field(gt=0, le=10_000)], ...], _read, _some]
#: Severities of corruptions.
Severities = Annotated[tuple[Annotated[float, Number, Field(ge=1, le=5, multiple_of=1)], ...], _read, _some]

#: `linf`, `l2`, `l1`: within the ball of that norm. `noise`: random, unbounded. `corruption`: weather, optics,
#: compression; size is a severity. `standardised`: sizes are in units of standardised pixels, and no ball is kept.
Threat = Literal["linf", "l2", "l1", "noise", "corruption", "standardised"]
#: Threats whose larger ball contains the smaller one, so that an image that fell at one size has fallen at every larger
#: one.
BALLS = frozenset({"linf", "l2", "l1"})


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The images that an attack is let loose on, in test-set order.

    images: uint8 (N, C, H, W) or float in [0, 1]; labels: int64 (N,). `seed` is the trial's; `restart` counts repeated
    attempts from 0.
    """

    images: torch.Tensor
    labels: torch.Tensor
    seed: int
    restart: int = 0
    data_dir: str | None = None

    def at(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (float32 in [0, 1], where they are stored as uint8) and labels of an index tensor (on the CPU)."""
        index = index.to(self.labels.device)
        images = self.images[index]
        return (images if images.is_floating_point() else images.float() / 255), self.labels[index]

    def seed_of(self, stream: str, image: int) -> int:
        """A seed for one stream of random numbers and one image: the same for every model and size, whatever the
        batches are.
        """
        return crc32(f"{self.seed}/{stream}/{image}{f'/{self.restart}' if self.restart else ''}".encode())

    def generators(self, stream: str, index: torch.Tensor) -> list[torch.Generator]:
        """One CPU generator an image."""
        import torch

        return [torch.Generator().manual_seed(self.seed_of(stream, int(i))) for i in index]


class Attack(Plugin, ABC):
    """Perturbs images.

    threat: what `size` measures; see `Threat`.
    size_field: the parameter that lists the sizes.
    minimal: True where one run looks for the smallest perturbation that fools, of whatever size; it is then scored at
    every size by its distance.
    """

    threat: ClassVar[Threat]
    size_field: ClassVar[str]
    minimal: ClassVar[bool] = False

    @property
    def sizes(self) -> tuple[float, ...]:
        """Ascending."""
        return tuple(getattr(self, self.size_field))

    @property
    def setting(self) -> str:
        """Everything but the sizes, as written: `bim[steps=20]`."""
        return self.label(without=frozenset({self.size_field}))

    @property
    def attempts(self) -> int:
        """How often images that stand are attacked anew, with other random numbers."""
        return 1

    def parts(self) -> Sequence[Attack]:
        """The attacks that are scored one by one: this one, or its kinds where it stands for several."""
        return (self,)

    @abstractmethod
    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        """Images of shape (N, C, H, W) in [0, 1], labels int64 (N,); returns perturbed images of the same shape in [0,
        1].

        `model` maps pixel-space images to logits (N, classes), is in eval mode, and its parameters are frozen.
        `generators` holds one CPU generator an image, seeded by trial and image, so that results do not depend on how
        images are batched.
        """

    def examples(
        self, model: nn.Module, pool: Pool, index: torch.Tensor, size: float, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Perturbed versions of the images `index` of `pool`, in any order, as pairs of indices and images; each image
        once.

        Replaced by attacks that gain from seeing all images at once; at most `batch_size` images may be in work
        together.
        """
        import torch

        for chosen in torch.split(index, batch_size):
            images, labels = pool.at(chosen)
            yield chosen, self.perturb(model, images, labels, size, pool.generators(self.name, chosen))


def plain(value: Any) -> Any:
    """The tensor behind an eagerpy tensor."""
    return getattr(value, "raw", value)
