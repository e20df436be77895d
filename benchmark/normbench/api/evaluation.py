"""The evaluation of trials, for any network: `normbench.evaluate`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from normbench.api._words import in_python
from normbench.api.networks import NetworkError
from normbench.attacks.base import Attack
from normbench.errors import BenchError
from normbench.spec.outcome import AttackResult, HealthCheck, RobustnessCurve
from normbench.spec.plugins import Plugin, Registry
from normbench.spec.robustness import CLEAN
from normbench.spec.text import show
from normbench.statistics.base import Statistics

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

#: An attack as callers write it: text, one name with its parameters, or an instance. Statistics likewise.
AttackLike = str | Mapping[str, Mapping[str, Any] | None] | Attack
StatisticsLike = str | Mapping[str, Mapping[str, Any] | None] | Statistics
P = TypeVar("P", bound=Plugin)


class ImageError(BenchError, ValueError):
    """Images or labels are not what an evaluation needs; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found. Accuracies are shares in [0, 1]. Printed, it is a summary."""

    accuracy: float
    """On the images as they are."""
    loss: float
    """Mean cross-entropy of the images as they are."""
    correct: NDArray[np.bool_] = field(repr=False)
    """(N,): which images are classified correctly as they are."""
    attacks: tuple[AttackResult, ...]
    """One for each attack and size; `outcomes` holds a bit an image (`survivors` unpacks it). By other statistics:
    `clean under precise`, `noise under batch[size=16]`.
    """
    curves: tuple[RobustnessCurve, ...]
    """Accuracy against size of each attack within a ball, and of the worst case of several."""
    health: tuple[HealthCheck, ...]
    """Whether the robust accuracies can be trusted; empty where nothing was attacked within a ball."""
    failed: Mapping[str, str]
    """Attacks that ended with an error, with its text. Without them there are no curves and no health checks."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """By which statistics there is nothing among `attacks`, and why."""

    @property
    def healthy(self) -> bool:
        """Whether all health checks passed."""
        return all(check.passed for check in self.health)

    def survivors(self, result: AttackResult) -> NDArray[np.bool_]:
        """(N,): which images are still classified correctly under one of `attacks`."""
        from normbench.spec.robustness import unpack

        return unpack(result.outcomes, result.total)

    def table(self) -> Any:
        """An Arrow table with a row for each attack and size: `attack`, `threat`, `size`, `accuracy`, `correct`,
        `total`, `model_calls`, `seconds`. `.to_pandas()` makes a frame of it.
        """
        import pyarrow as pa

        names = ("attack", "threat", "size", "accuracy", "correct", "total", "model_calls", "seconds")
        return pa.table({name: [getattr(result, name) for result in self.attacks] for name in names})

    def __str__(self) -> str:
        lines = [f"clean accuracy {self.accuracy:.2%} of {len(self.correct)} images, loss {self.loss:.4g}"]
        lines += [
            f"{a.attack}{'' if a.threat == CLEAN else f' {a.threat} {show(a.size)}'}: {a.accuracy:.2%}"
            for a in self.attacks
        ]
        lines += [f"{c.attack} {c.threat}: area {c.area:.4f} up to {show(c.sizes[-1])}" for c in self.curves]
        lines += [f"{name} failed: {reason}" for name, reason in self.failed.items()]
        lines += [f"nothing under {name}: {reason}" for name, reason in self.absent.items()]
        if self.health:
            doubts = [f"health: {c.check} did not pass: {c.evidence}" for c in self.health if not c.passed]
            lines += doubts or [f"health: all {len(self.health)} checks passed"]
        return "\n".join(lines)

    __repr__ = __str__


@in_python()
def evaluate(
    model: nn.Module,
    images: torch.Tensor | NDArray[Any],
    labels: torch.Tensor | NDArray[Any] | Sequence[int],
    attacks: Sequence[AttackLike] | AttackLike = (),
    *,
    seed: int = 0,
    batch_size: int = 500,
    data: str | Path | None = None,
    statistics: Sequence[StatisticsLike] | StatisticsLike = (),
    training: torch.Tensor | NDArray[Any] | None = None,
) -> Evaluation:
    """Accuracy of a network on images and under attacks, with the checks that say whether the numbers can be trusted.

    model: any `nn.Module` that maps pixels in [0, 1], float32 `(N, C, H, W)`, to logits `(N, classes)`. One that was
    trained on standardised images gets its standardisation in front:
    `nn.Sequential(torchvision.transforms.Normalize(mean, std), model)`. It is evaluated in eval mode, in float32, on
    the device that it is on, and is left as it was. images: `(N, C, H, W)`, floats in [0, 1] or uint8. labels: class
    numbers `(N,)`. attacks: `"bim[eps=2/255]"`, `"bim[eps=1/255;2/255, steps=10]"`, `{"bim": {"eps": [...]}}`, or an
    instance of a class in `normbench.attacks()`; sizes are in pixel space. seed: of random starts and noise, which are
    drawn for each image. batch_size: images in work at once; results do not depend on it. data: a folder for attacks
    that read stored images (`cifar10-c`). statistics: `"precise"`, `"batch[size=32]"`, `{"adapted": {"prior": 16}}`: by
    which statistics, in the place of those that layers such as batch norm keep, the images are evaluated once more, as
    they are and under each attack that is a noise or a corruption. training: images that `precise` is computed over,
    like `images`.

    As in trials, an attack runs its sizes in ascending order on the images that still stand, gives up an image at the
    step that fools it, and each perturbed image is verified: within its ball and [0, 1], and classified anew. An attack
    that fails costs none of the others; a warning names it. The health checks attack the first 64 correct images
    anew, which is most of the time that few attacks take.

    Raises `BenchError` for images that look standardised or are no images, labels that do not fit, a network that gives
    no finite logits, and unknown attacks.
    """
    from normbench.lab import evaluate as lab
    from normbench.lab import health
    from normbench.lab.attacked import Attacked
    from normbench.paths import data_dir as folder_of_data
    from normbench.spec import robustness
    from normbench.spec.text import said
    from normbench.tensors.seeding import streams_kept

    given = [attacks] if isinstance(attacks, str | Mapping | Attack) else list(attacks)
    _check_number("batch_size", batch_size, 1)
    _check_number("seed", seed, 0)
    folder = folder_of_data(None if data is None else Path(data))
    from normbench.attacks import registry as known_attacks
    from normbench.lab.restated import restated
    from normbench.statistics import registry as known_statistics

    methods = [_made(item, known_attacks, Attack, folder) for item in given]  # type: ignore[type-abstract]
    asked = [statistics] if isinstance(statistics, str | Mapping | Statistics) else list(statistics)
    others = [s for s in (_made(item, known_statistics, Statistics, folder) for item in asked) if s.name != "running"]
    test = _tensors(model, images, labels)
    if training is None and (unfit := [s.setting for s in others if s.of_training]):
        raise ImageError(f"statistics: {unfit[0]} is computed over training images: give them as training=")
    population = None if training is None else _pixels(training, "training").to(test.labels.device)
    if population is not None and population.shape[1:] != test.images.shape[1:]:
        raise ImageError(
            f"training: expected images as those to evaluate, {tuple(test.images.shape[1:])}, found "
            f"{tuple(population.shape[1:])}"
        )
    _try_out(model, test)
    attacked = Attacked()
    with _told(model), streams_kept():
        clean = lab.clean(model, test, batch_size)
        with _progress(len(methods)) as report:
            for place, method in enumerate(methods):
                attacked.run(
                    model,
                    method,
                    test,
                    clean.correct,
                    seed=seed,
                    batch_size=batch_size,
                    data_dir=None if folder is None else str(folder),
                    report=partial(report, place, method.name),
                    searches=None,
                )
        curves = () if attacked.failures else robustness.curves(lab.pack(clean.correct), attacked.results)
        checks = (
            health.examine(model, test, clean.correct, attacked.results, seed=seed, batch_size=batch_size)
            if curves
            else ()
        )
        by_others = restated(
            model,
            others,
            methods,
            test,
            population,
            seed=seed,
            batch_size=batch_size,
            data_dir=None if folder is None else str(folder),
        )
    if attacked.failures:
        warnings.warn(attacked.told, RuntimeWarning, stacklevel=3)
    return Evaluation(
        accuracy=float(clean.correct.double().mean()),
        loss=clean.loss,
        correct=clean.correct.numpy(),
        attacks=(*attacked.results, *by_others.results),
        curves=curves,
        health=checks,
        failed={setting: f"{type(error).__name__}: {said(error)}" for setting, error in attacked.failures},
        absent=by_others.absent,
    )


def _check_number(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BenchError(f"{name}: expected a whole number, {least} or more, found {value!r:.60}")


def _made(
    item: str | Mapping[str, Mapping[str, Any] | None] | P, registry: Registry[P], base: type[P], folder: Path | None
) -> P:
    """The plug-in that a caller means. Raises `BenchError` for what is none, and for one that lacks something on this
    machine.
    """
    match item:
        case base():
            made = item
        case str():
            made = registry.parse(item)
        case Mapping() if len(item) == 1 and isinstance(next(iter(item.values())), Mapping | None):
            ((name, params),) = item.items()
            made = registry.make(name, dict(params or {}))
        case _:
            kind, example = _WRITTEN[registry.kind]
            raise BenchError(
                f"{kind}: expected texts such as {example}, or instances of classes in {registry.package}; "
                f"found {item!r:.60}"
            )
    if lack := made.lacks(folder):
        raise BenchError(lack)
    return made


#: How plug-ins are written, by the kind of their registry: the argument, and an example of each form.
_WRITTEN = {
    "attack": ("attacks", '"bim[eps=2/255]", one name with its parameters such as {"bim": {"eps": [0.01]}}'),
    "statistics": ("statistics", '"batch[size=32]", one name with its parameters such as {"batch": {"size": 32}}'),
}


def _tensors(model: nn.Module, images: Any, labels: Any) -> Any:
    """Images and labels on the network's device. Raises `ImageError`, `NetworkError`."""
    import torch
    from torch import nn

    from normbench.lab.train import Tensors

    if not isinstance(model, nn.Module):
        raise NetworkError(f"evaluate: expected an nn.Module as the network, found {type(model).__name__}")
    pixels, classes = _pixels(images, "images"), _as_tensor(labels, "labels")
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise ImageError(f"labels: expected class numbers, found {classes.dtype}")
    if classes.shape != (len(pixels),):
        raise ImageError(
            f"labels: expected one class number for each of {len(pixels)} images, found shape {tuple(classes.shape)}"
        )
    tensor = next((t for t in (*model.parameters(), *model.buffers())), pixels)
    if tensor.is_floating_point() and tensor.dtype != torch.float32:
        raise NetworkError(f"the network is in {tensor.dtype}; evaluations are in float32: model.float() makes it so")
    return Tensors(pixels.detach().to(tensor.device), classes.long().to(tensor.device))


def _as_tensor(values: Any, what: str) -> torch.Tensor:
    import torch

    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(f"{what}: expected a tensor or an array, found {type(values).__name__} ({error})") from None


def _pixels(images: Any, what: str) -> torch.Tensor:
    """Images as they may be stored, (N, C, H, W): uint8, or float32 in [0, 1]. Raises `ImageError`."""
    import torch

    pixels = _as_tensor(images, what)
    if pixels.ndim != 4 or not pixels.numel():
        raise ImageError(f"{what}: expected (N, C, H, W), found shape {tuple(pixels.shape)}")
    if pixels.shape[1] > 4 and pixels.shape[3] in {1, 3}:
        raise ImageError(
            f"{what}: expected (N, C, H, W), found shape {tuple(pixels.shape)}; torch.as_tensor(images).movedim(-1, 1) "
            "puts the channels in front"
        )
    if pixels.dtype == torch.uint8:
        if int(pixels.max()) <= 1:
            raise ImageError(f"{what}: uint8 counts to 255, and these hold nothing above 1; floats are taken in [0, 1]")
    elif pixels.is_floating_point():
        _check_range(pixels, what)
        pixels = pixels.float()
    else:
        raise ImageError(f"{what}: expected floats in [0, 1] or uint8, found {pixels.dtype}")
    return pixels


def _check_range(pixels: torch.Tensor, what: str) -> None:
    """Refuse floats that are no pixels in [0, 1]."""
    import torch

    if not torch.isfinite(pixels).all():
        raise ImageError(f"{what}: some pixels are not finite")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0:
        raise ImageError(
            f"{what}: pixels from {low:.4g} to {high:.4g} look standardised; attacks are sized in pixels, so give "
            "pixels in [0, 1], and put the standardisation into the network: "
            "nn.Sequential(torchvision.transforms.Normalize(mean, std), model)"
        )
    if high > 1:
        raise ImageError(
            f"{what}: pixels from {low:.4g} to {high:.4g}; expected floats in [0, 1], which images / 255 makes of "
            "pixels that count to 255, or uint8"
        )


def _try_out(model: nn.Module, test: Any) -> None:
    """Raise `NetworkError` where the first images do not give logits, one for each class of the labels."""
    import torch

    from normbench.lab.evaluate import evaluating, pixels
    from normbench.spec.text import said

    try:
        with evaluating(model), torch.no_grad():
            logits = model(pixels(test.images[:2]))
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        size = "x".join(map(str, test.images.shape[1:]))
        raise NetworkError(f"{type(model).__name__} cannot take {size} images: {said(error)[:300]}") from error
    count = min(2, len(test.images))
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != count:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise NetworkError(f"{type(model).__name__} gives {found} for {count} images, not logits ({count}, classes)")
    low, high = int(test.labels.min()), int(test.labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ImageError(
            f"labels: class numbers from {low} to {high}, and the network tells {logits.shape[1]} classes apart: "
            f"expected 0 to {logits.shape[1] - 1}"
        )


@contextmanager
def _told(model: nn.Module) -> Iterator[None]:
    """Errors that a caller can mend, as `NetworkError`."""
    from normbench.lab.evaluate import EvaluationError
    from normbench.lab.machine import memory_of

    try:
        yield
    except EvaluationError as error:
        raise NetworkError(f"{type(model).__name__}: {error}") from error
    except Exception as error:
        if memory := memory_of(error):
            raise NetworkError(f"out of {memory}: give a smaller batch_size, or fewer images") from error
        raise


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, str, float], None]]:
    """Shows a bar in a terminal. Yields a function of how many attacks are done, which one runs, and the
    share of it that is done.
    """
    from rich.progress import Progress

    from normbench.cli.say import screen

    console = screen()
    console.stderr = True
    if not total or not console.is_terminal:
        yield lambda place, name, done: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda place, name, done: bar.update(task, completed=place + done, description=name)
