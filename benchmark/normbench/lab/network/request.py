"""What is asked of the builder of networks, and its error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from normbench.spec.architectures import file_of


class ModelError(ValueError):
    """An architecture cannot be built as asked."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to build. `channels`: of the images. `width`: multiplier of the channel numbers."""

    name: str
    stem: str = "cifar"
    width: float = 1.0
    channels: int = 3
    image_size: int = 32
    classes: int = 10
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file of `timm.models` that defines the architecture."""
        return file_of(self.name)

    def scaled(self, channels: int, multiple: int = 4) -> int:
        """A number of channels times the width, rounded to `multiple`; unchanged at width 1."""
        return channels if self.width == 1 else max(multiple, round(channels * self.width / multiple) * multiple)

    def __str__(self) -> str:
        return (
            f"{self.name}, stem {self.stem}, width {self.width:g}, "
            f"{self.channels}x{self.image_size}x{self.image_size} images"
        )
