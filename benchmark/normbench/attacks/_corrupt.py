"""Corruptions with the constants of CIFAR-10-C, on float64 images (N, C, H, W) in [0, 1]; severity from 1 to 5.

Results are not cut to 8 bits here. Constants: Hendrycks and Dietterich, "Benchmarking neural network robustness to
common corruptions and perturbations", 2019, in the version for CIFAR-10 of their public code; sizes given in pixels
there belong to 32x32 images and are kept.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

Corruption = Callable[[torch.Tensor, int, Sequence[torch.Generator]], torch.Tensor]


def _normal(images: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    return torch.stack([torch.randn(images.shape[1:], generator=g, dtype=images.dtype) for g in generators])


def gaussian_noise(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    return images + (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1] * _normal(images, generators)


def shot_noise(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return (
        torch.stack([torch.poisson(image * photons, generator=g) for image, g in zip(images, generators, strict=True)])
        / photons
    )


def impulse_noise(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    drawn = torch.stack([torch.rand((2, *images.shape[1:]), generator=g) for g in generators])
    return torch.where(drawn[:, 0] < share, (drawn[:, 1] < 0.5).to(images.dtype), images)


def speckle_noise(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    return images + images * (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1] * _normal(images, generators)


def gaussian_blur(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    return _separable(images, _gauss(int(4 * sigma + 0.5), sigma), "replicate")


def defocus_blur(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    radius, softening = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    span = torch.arange(-3, 4, dtype=images.dtype)  # wide enough for the largest radius and its softened edge
    disk = (span[:, None] ** 2 + span[None, :] ** 2 <= radius**2).to(images.dtype)
    kernel = _separable((disk / disk.sum())[None, None], _gauss(1, softening), "reflect")
    return _filter(images, kernel[0, 0], "reflect")


def contrast(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean


def brightness(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """A larger HSV value at the same hue and saturation: all channels times one factor; black becomes grey."""
    value = images.max(1, keepdim=True).values
    brighter = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]).clamp(0, 1)
    return torch.where(value > 0, images * brighter / value.clamp(min=1e-12), brighter)


def saturate(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Another HSV saturation at the same hue and value: distances to the largest channel times one factor; grey counts
    as red.
    """
    if images.shape[1] != 3:
        raise ValueError(f"the corruption saturate is defined for RGB images, found {images.shape[1]} channels")
    factor, shift = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    value = images.max(1, keepdim=True).values
    below = value - images
    saturation = below.max(1, keepdim=True).values / value.clamp(min=1e-12)
    changed = (saturation * factor + shift).clamp(0, 1)
    red = torch.tensor((0.0, 1.0, 1.0), dtype=images.dtype).view(1, 3, 1, 1)
    return value - torch.where(saturation > 0, below * changed / saturation.clamp(min=1e-12), value * changed * red)


def jpeg_compression(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def compress(image: Image.Image) -> Image.Image:
        stored = io.BytesIO()
        image.save(stored, "JPEG", quality=quality)
        return Image.open(stored)

    return _with_pillow(images, compress)


def pixelate(images: torch.Tensor, severity: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]

    def shrink(image: Image.Image) -> Image.Image:
        width, height = image.size
        return image.resize((int(width * share), int(height * share)), Image.Resampling.BOX).resize(
            (width, height), Image.Resampling.BOX
        )

    return _with_pillow(images, shrink)


def _with_pillow(images: torch.Tensor, change: Callable[[Image.Image], Image.Image]) -> torch.Tensor:
    made = []
    for image in (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        array = np.asarray(change(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)))
        made.append(torch.from_numpy(np.array(array)).view(image.shape).permute(2, 0, 1))
    return torch.stack(made).to(images.dtype) / 255


def _gauss(radius: int, sigma: float) -> torch.Tensor:
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return kernel / kernel.sum()


def _separable(images: torch.Tensor, kernel: torch.Tensor, border: str) -> torch.Tensor:
    return _filter(_filter(images, kernel[:, None], border), kernel[None, :], border)


def _filter(images: torch.Tensor, kernel: torch.Tensor, border: str) -> torch.Tensor:
    """Correlation of every channel with `kernel` (height, width)."""
    height, width = kernel.shape
    padded = functional.pad(images, (width // 2, width // 2, height // 2, height // 2), mode=border)
    return functional.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view_as(images)


CORRUPTIONS: dict[str, Corruption] = {
    f.__name__: f
    for f in (
        *(gaussian_noise, shot_noise, impulse_noise, speckle_noise, gaussian_blur, defocus_blur),
        *(brightness, contrast, saturate, pixelate, jpeg_compression),
    )
}
