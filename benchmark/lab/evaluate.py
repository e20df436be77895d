"""Evaluation: clean accuracy, noise and attacks over the whole test set, in float32, one bit an image.

An attack sees sizes in ascending order and only images that are still classified correctly: what falls at one size counts as fallen at every larger one,
which the ball of the larger size contains. Noise is drawn for every image at every size, since no ball contains it. Random draws are seeded by trial and image, so that
results do not depend on the batch size.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmark.attacks import Attack
from benchmark.lab.train import Tensors
from benchmark.trial import AttackResult

#: Rounding that a float32 step, projection and clip may add to a perturbation.
SIZE_TOLERANCE = 1e-6


class EvaluationError(RuntimeError):
    """The model or the attack broke the rules under which a number would mean something."""


@dataclass(frozen=True)
class Clean:
    """Outcome on unperturbed images: `right` bool (N,) on the CPU, mean cross-entropy."""

    right: torch.Tensor
    loss: float


def pack(right: torch.Tensor) -> bytes:
    """Bool (N,) to packed bits, first image in the highest bit."""
    return np.packbits(right.numpy()).tobytes()


def unpack(outcomes: bytes, total: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The inverse of `pack`."""
    return np.unpackbits(np.frombuffer(outcomes, np.uint8), count=total).astype(bool)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode, parameters without gradients, full float32 precision; raises `EvaluationError` if a buffer moved meanwhile."""
    model.eval()
    needs = {p: p.requires_grad for p in model.parameters()}
    before = {name: b.clone() for name, b in model.named_buffers()}
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for parameter in needs:
            parameter.requires_grad_(False)
        yield
        moved = [name for name, b in model.named_buffers() if not torch.equal(b, before[name])]
        if moved:
            raise EvaluationError(f"evaluation changed the model's state: {', '.join(moved[:3])}")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution
        for parameter, value in needs.items():
            parameter.requires_grad_(value)


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits without gradient, checked to be finite: a NaN must never count as a prediction."""
    with torch.no_grad():
        logits: torch.Tensor = model(images)
    if not torch.isfinite(logits).all():
        raise EvaluationError("the logits are not finite")
    return logits


def pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, C, H, W) to float32 in [0, 1]."""
    return images.float() / 255


def clean(model: nn.Module, data: Tensors, batch_size: int) -> Clean:
    """Predictions on every image of `data`."""
    right, loss = [], 0.0
    with frozen(model):
        for start in range(0, len(data.labels), batch_size):
            labels = data.labels[start : start + batch_size]
            logits = predict(model, pixels(data.images[start : start + batch_size]))
            right.append((logits.argmax(1) == labels).cpu())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return Clean(torch.cat(right), loss / len(data.labels))


class _Counted(nn.Module):
    """Counts the images that go through the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.images = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        logits: torch.Tensor = self.model(images)
        return logits


def attack(
    model: nn.Module, method: Attack, data: Tensors, right: torch.Tensor, *, seed: int, batch_size: int, report: Callable[[float], None] = lambda _: None
) -> list[AttackResult]:
    """Perturb with one method at all its sizes. `right`: bool (N,), which images are classified correctly as they are.

    `report` gets the share of the sizes that is done. Raises `EvaluationError` when logits are not finite or a perturbation leaves its ball or [0, 1].
    """
    results = []
    noise = method.threat == "noise"
    standing = right.clone()
    with frozen(model):
        for position, size in enumerate(method.sizes):
            counted = _Counted(model).eval()
            started = time.perf_counter()
            candidates = torch.arange(len(right)) if noise else standing.nonzero().flatten()
            survived = torch.zeros_like(right)
            for start in range(0, len(candidates), batch_size):
                chosen = candidates[start : start + batch_size]
                index = chosen.to(data.labels.device)
                images, labels = pixels(data.images[index]), data.labels[index]
                perturbed = method.perturb(counted, images, labels, size, [_generator(seed, method, int(i)) for i in chosen]).detach()
                _check(method, size, images, perturbed)
                survived[chosen] = (predict(counted, perturbed).argmax(1) == labels).cpu()
                report((position + (start + len(chosen)) / len(candidates)) / len(method.sizes))
            standing = survived
            results.append(
                AttackResult(
                    attack=method.setting,
                    threat=method.threat,
                    size=size,
                    correct=int(survived.sum()),
                    total=len(right),
                    outcomes=pack(survived),
                    seconds=time.perf_counter() - started,
                    model_calls=counted.images,
                )
            )
    return results


def _generator(seed: int, method: Attack, image: int) -> torch.Generator:
    """One stream a trial's seed, method and image; the same for every norm and size."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}/{method.name}/{image}".encode()))


def _check(method: Attack, size: float, images: torch.Tensor, perturbed: torch.Tensor) -> None:
    if perturbed.shape != images.shape or not torch.isfinite(perturbed).all():
        raise EvaluationError(f"{method.setting} at {size:g} returned images of another shape or with non-finite pixels")
    if float(perturbed.min()) < 0 or float(perturbed.max()) > 1:
        raise EvaluationError(f"{method.setting} at {size:g} left the pixel range [0, 1]")
    if method.threat == "noise":
        return
    order = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[method.threat]
    largest = float((perturbed.double() - images.double()).flatten(1).norm(p=order, dim=1).max())
    if largest > size + SIZE_TOLERANCE * (1 if method.threat == "linf" else max(1.0, images[0].numel() ** 0.5)):
        raise EvaluationError(f"{method.setting} at {size:g} returned a perturbation of size {largest:g}")
