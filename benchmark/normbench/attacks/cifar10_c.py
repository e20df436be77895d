"""CIFAR-10-C from its published files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normbench.attacks.base import Attack, Pool, Severities, Threat
from normbench.errors import BenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
]
FIFTEEN: tuple[Kind, ...] = (
    *(
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "snow",
        "frost",
        "fog",
    ),
    *("brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
#: Test images of CIFAR-10: the files hold so many at each severity, one after the other.
IMAGES = 10_000


class Cifar10C(Attack):
    """The corrupted test images of CIFAR-10, read from `CIFAR-10-C/` in the data folder (`<kind>.npy`, `labels.npy`).

    Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
    2019; the files: Zenodo 2535967.
    """

    name: ClassVar[str] = "cifar10-c"
    summary: ClassVar[str] = "CIFAR-10-C, from its published files in the data folder"
    aliases: ClassVar[tuple[str, ...]] = ("cifar-c",)
    source: ClassVar[str] = "Hendrycks and Dietterich, ICLR 2019"
    threat: ClassVar[Threat] = "corruption"
    size_field: ClassVar[str] = "severity"

    severity: Severities = (1, 2, 3, 4, 5)
    """From 1 to 5; no unit."""
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = FIFTEEN

    def lacks(self, data_dir: Path | None) -> str:
        folder = Path(data_dir or ".") / "CIFAR-10-C"
        missing = [name for name in (*self.kinds, "labels") if not (folder / f"{name}.npy").is_file()]
        return f"cifar10-c: expected {folder / missing[0]}.npy (Zenodo 2535967), found no such file" if missing else ""

    def parts(self) -> Sequence[Attack]:
        return tuple(Cifar10C(severity=self.severity, kinds=(kind,)) for kind in self.kinds)

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        raise TypeError("cifar10-c reads stored images by their place in the test set: use `examples`")

    def examples(
        self, model: nn.Module, pool: Pool, index: torch.Tensor, size: float, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        import numpy as np
        import torch

        folder = Path(pool.data_dir or ".") / "CIFAR-10-C"
        first = (round(size) - 1) * IMAGES
        try:
            images, labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in (self.kinds[0], "labels"))
        except (OSError, ValueError) as error:  # numpy refuses a pickle in a .npy file with a ValueError
            text = getattr(error, "strerror", None) or error
            raise BenchError(
                f"cifar10-c: expected {folder / self.kinds[0]}.npy and labels.npy beside it (Zenodo 2535967), {text}"
            ) from error
        if len(images) < first + len(pool.labels) or not np.array_equal(
            labels[first : first + len(pool.labels)], pool.labels.cpu().numpy()
        ):
            raise BenchError(
                f"cifar10-c: the labels of {folder} are not those of the test set; it belongs to CIFAR-10's test "
                "images in their own order"
            )
        for chosen in torch.split(index, batch_size):
            stored = torch.from_numpy(np.ascontiguousarray(images[first + chosen.numpy()])).permute(0, 3, 1, 2)
            yield chosen, stored.to(pool.labels.device).float() / 255
