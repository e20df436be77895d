"""Minimal attacks, AutoAttack, noises, corruptions and historic settings: each against its definition or its source."""

from __future__ import annotations

import colorsys
import importlib.util
import io
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import foolbox
import numpy as np
import pytest
import torch
from normbench.attacks import registry
from normbench.attacks._corrupt import CORRUPTIONS
from normbench.attacks.base import Pool
from normbench.errors import BenchError
from normbench.lab.evaluate import attack, pixels, unpack
from normbench.lab.train import Tensors
from PIL import Image
from scipy import ndimage
from torch import nn

from tests.attacks.conftest import Trained, right_of


def _first(data: Tensors, count: int) -> Tensors:
    return Tensors(data.images[:count], data.labels[:count])


def _linear(classes: int = 2) -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear network away from the pixel bounds, images, their labels and their L2 distances to the boundary."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    images = 0.4 + 0.2 * torch.rand(30, 1, 4, 4)
    with torch.no_grad():
        model[1].bias += -model(images).mean(0)
        logits = model(images)
    difference = model[1].weight[0] - model[1].weight[1]
    return model, images, logits.argmax(1), ((logits[:, 0] - logits[:, 1]).abs() / difference.norm()).detach()


@pytest.mark.parametrize(
    ("name", "params", "above"),
    [("deepfool", {}, 1.05), ("ddn", {"steps": 300}, 1.05), ("cw-l2", {"searches": 7, "steps": 150}, 1.1)],
)
def test_minimal_attacks_find_the_distance_to_a_linear_boundary(
    name: str, params: dict[str, Any], above: float
) -> None:
    model, images, labels, distances = _linear()
    found = registry.make(name, params).perturb(model.eval(), images, labels, 1.0, [])
    assert (model(found).argmax(1) != labels).all()
    ratio = (found - images).flatten(1).norm(dim=1) / distances
    far = distances > 0.01
    assert float(ratio[far].min()) > 0.999
    assert float(ratio[far].max()) < above


def test_hopskipjump_needs_predictions_only_and_comes_near() -> None:
    model, images, labels, distances = _linear()
    pool = Pool(images=images, labels=labels, seed=0)

    class Signs(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(model(x).argmax(1), 2).float()

    far = (distances > 0.02).nonzero().flatten()[:4]
    found = dict(
        zip(
            *[
                torch.cat(t).unbind()
                for t in zip(
                    *registry.make("hopskipjump", {"steps": 20}).examples(Signs(), pool, far, 1.0, 2), strict=True
                )
            ],
            strict=True,
        )
    )
    for index, image in found.items():
        assert int(model(image[None]).argmax(1)) != int(labels[index])
        assert float((image - images[index]).norm() / distances[index]) < 1.5


def test_square_finds_what_random_search_can_and_stays_inside(trained: Trained, test_images: Tensors) -> None:
    model, data = trained("bn"), _first(test_images, 60)
    right = right_of(model, data)
    few, many = (
        attack(model, registry.make("square", {"eps": [0.15], "queries": q}), data, right, seed=0, batch_size=32)[0]
        for q in (5, 200)
    )
    white = attack(model, registry.make("pgd", {"eps": [0.15]}), data, right, seed=0, batch_size=32)[0]
    assert white.correct <= many.correct < few.correct


needs_autoattack = pytest.mark.skipif(
    importlib.util.find_spec("pyautoattack") is None, reason="the extra normbench[autoattack] is not installed"
)


@pytest.mark.matrix
@needs_autoattack
@pytest.mark.parametrize(
    ("name", "norm", "eps"),
    [("autoattack", "Linf", 0.06), ("autoattack-l2", "L2", 0.4)],
)
def test_autoattack_is_pyautoattack_image_by_image_and_never_above_pgd(
    name: str, norm: str, eps: float, trained: Trained, test_images: Tensors
) -> None:
    import pyautoattack

    model, data = trained("gn"), _first(test_images, 24)
    right = right_of(model, data)
    (ours,) = attack(model, registry.make(name, {"eps": [eps]}), data, right, seed=7, batch_size=32)
    chosen = right.nonzero().flatten()
    direct = pyautoattack.AutoAttack(model, attacks=["apgd-ce", "apgd-t"], eps=eps, norm=norm, seed=7, version="custom")
    direct.apgd.n_restarts, direct.apgd_targeted.n_target_classes = 1, 9
    images, labels = pixels(data.images[chosen]), data.labels[chosen]
    adversarial, _ = direct.run_standard_evaluation(images, labels, batch_size=250)
    stands = torch.zeros(24, dtype=torch.bool)
    stands[chosen] = model(adversarial).argmax(1) == labels
    assert unpack(ours.outcomes, 24).tolist() == stands.tolist()
    (pgd,) = attack(
        model,
        registry.make("pgd" if norm == "Linf" else "pgd-l2", {"eps": [eps], "steps": 20}),
        data,
        right,
        seed=7,
        batch_size=16,
    )
    assert 0 < ours.correct <= pgd.correct < int(right.sum())


@needs_autoattack
def test_autoattack_leaves_tracing_as_it_was(trained: Trained, test_images: Tensors) -> None:
    def tracer(frame: FrameType, event: str, argument: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        images = pixels(test_images.images[:2])
        registry.make("autoattack").perturb(trained("gn"), images, test_images.labels[:2], 0.01, [])
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


@needs_autoattack
def test_autoattack_says_when_there_are_too_few_classes() -> None:
    model, images, labels, _ = _linear()
    with pytest.raises(BenchError, match="at least 4 classes"):
        registry.make("autoattack").perturb(model, images, labels, 0.1, [])


def _draw(name: str, size: float, count: int = 200) -> torch.Tensor:
    images = torch.full((count, 3, 8, 8), 0.5)
    return registry.make(name).perturb(
        nn.Identity(), images, torch.zeros(count), size, [torch.Generator().manual_seed(i) for i in range(count)]
    )


def test_noises_have_the_size_that_they_say() -> None:
    uniform = _draw("uniform-noise", 0.1) - 0.5
    assert float(uniform.abs().max()) == pytest.approx(0.1, rel=1e-3)
    assert float(uniform.std()) == pytest.approx(0.1 / 3**0.5, rel=0.02)
    salted = _draw("salt-and-pepper", 0.1)
    assert set(salted.unique().tolist()) == {0.0, 0.5, 1.0}
    assert float((salted != 0.5).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert (
        (salted == _draw("salt-and-pepper", 0.3)) | (salted == 0.5)
    ).all()  # what is salt at one share is salt at a larger one


def _photo(count: int = 4, side: int = 32) -> torch.Tensor:
    """Smooth colour images of whole grey levels, float64, with some black and grey pixels."""
    torch.manual_seed(0)
    images = nn.functional.interpolate(torch.rand(count, 3, 5, 5), size=side, mode="bicubic").clamp(0, 1)
    images[:, :, 0, 0] = 0
    images[:, :, 0, 1] = 0.4
    return (images.double() * 255).round() / 255


def _corrupt(kind: str, severity: int, images: torch.Tensor) -> torch.Tensor:
    return CORRUPTIONS[kind](images, severity, [torch.Generator().manual_seed(i) for i in range(len(images))])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_are_worse_at_larger_severity_and_are_whole_grey_levels(kind: str) -> None:
    """By their constants, `saturate` takes colour away up to severity 2 and adds it from 3, and `pixelate` goes from 30
    pixels to 28 and 27.
    """
    images = _photo().float()
    method = registry.make("corruptions", {"kinds": [kind]})
    (part,) = method.parts()
    made = [
        part.perturb(nn.Identity(), images, torch.zeros(4), s, [torch.Generator().manual_seed(i) for i in range(4)])
        for s in part.sizes
    ]
    away = [float((m - images).square().mean()) for m in made]
    assert away[0] > 0
    if kind == "saturate":
        assert away[0] < away[1]
        assert away[2] < away[3] < away[4]
    elif kind == "pixelate":
        assert max(away) == away[4]
    else:
        assert away == sorted(away)
    assert torch.allclose(made[2] * 255, (made[2] * 255).round(), atol=1e-4)
    assert float(made[4].min()) >= 0
    assert float(made[4].max()) <= 1


def test_random_corruptions_have_their_constants() -> None:
    grey = torch.full((300, 1, 8, 8), 0.5, dtype=torch.float64)
    assert float(_corrupt("gaussian_noise", 2, grey).std()) == pytest.approx(0.06, rel=0.03)
    assert float(_corrupt("speckle_noise", 4, grey).std()) == pytest.approx(0.5 * 0.16, rel=0.03)
    assert float(_corrupt("shot_noise", 5, grey).var()) == pytest.approx(0.5 / 50, rel=0.05)
    impulse = _corrupt("impulse_noise", 5, grey)
    assert float((impulse != 0.5).double().mean()) == pytest.approx(0.07, abs=0.006)


def test_colour_corruptions_change_hsv_and_nothing_else() -> None:
    images = _photo(1)

    def through_hsv(change: Any) -> torch.Tensor:
        made = torch.empty_like(images)
        for row in range(32):
            for column in range(32):
                h, s, v = colorsys.rgb_to_hsv(*images[0, :, row, column].tolist())
                made[0, :, row, column] = torch.tensor(colorsys.hsv_to_rgb(*change(h, s, v)), dtype=torch.float64)
        return made

    assert torch.allclose(
        _corrupt("brightness", 3, images), through_hsv(lambda h, s, v: (h, s, min(1, v + 0.15))), atol=1e-9
    )
    for severity, factor, shift in ((1, 0.3, 0), (4, 2, 0.1)):
        expected = through_hsv(lambda h, s, v, f=factor, d=shift: (h, min(1, s * f + d), v))
        assert torch.allclose(_corrupt("saturate", severity, images), expected, atol=1e-9)
    with pytest.raises(ValueError, match="RGB"):
        _corrupt("saturate", 1, images[:, :1])


def test_blurs_are_those_of_their_definitions() -> None:
    images = _photo(2)
    expected = ndimage.gaussian_filter(images.numpy(), sigma=(0, 0, 0.8, 0.8), mode="nearest", truncate=4)
    assert np.allclose(_corrupt("gaussian_blur", 4, images).numpy(), expected, atol=1e-9)
    line = np.exp(-0.5 * (np.arange(-1, 2) / 0.1) ** 2)
    line /= line.sum()
    span = np.arange(-8, 9)
    disk = (span[:, None] ** 2 + span[None] ** 2 <= 1.5**2).astype(float)
    kernel = ndimage.convolve(disk / disk.sum(), np.outer(line, line), mode="mirror")
    expected = np.stack([[ndimage.correlate(c, kernel, mode="mirror") for c in image] for image in images.numpy()])
    assert np.allclose(_corrupt("defocus_blur", 5, images).numpy(), expected, atol=1e-9)


def test_contrast_keeps_the_mean_and_pillow_does_the_rest() -> None:
    images = _photo(2)
    flat = _corrupt("contrast", 5, images)
    assert torch.allclose(flat.mean((2, 3)), images.mean((2, 3)))
    assert torch.allclose(flat.std((2, 3)), 0.15 * images.std((2, 3)))
    picture = Image.fromarray((images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=40)
    assert np.array_equal(
        (_corrupt("jpeg_compression", 5, images)[0] * 255).round().permute(1, 2, 0).numpy(),
        np.asarray(Image.open(stored)),
    )
    small = picture.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    assert np.array_equal(
        (_corrupt("pixelate", 5, images)[0] * 255).round().permute(1, 2, 0).numpy(), np.asarray(small)
    )


class _Colours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 900, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def test_galloway_works_in_standardised_space() -> None:
    """Against foolbox on the standardised network with its bounds; the noise against its definition."""
    model, images = _Colours().eval(), _photo(6).float()
    labels = model(images).argmax(1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    parts = {p.setting: p for p in registry.make("galloway").parts()}
    assert list(parts) == ["galloway[linf]", "galloway[l2]", "galloway[noise]"]

    class Standardised(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return model(z * std + mean)  # type: ignore[no-any-return]

    z = ((images - mean) / std).clamp(-2, 2)  # foolbox refuses images outside its bounds
    inside = z * std + mean
    ours = parts["galloway[linf]"].perturb(model, inside, labels, 0.03, [])
    theirs = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.003, steps=20)
    _, clipped, _ = theirs(foolbox.PyTorchModel(Standardised().eval(), bounds=(-2, 2)), z, labels, epsilons=0.03)
    assert (
        float(((ours - mean) / std - clipped).abs().max()) < 0.0061
    )  # equal but for signs of gradients at rounding; a step more or less
    assert float((((ours - mean) / std - clipped).abs() > 1e-4).float().mean()) < 0.02
    l2 = ((parts["galloway[l2]"].perturb(model, inside, labels, 1.663, []) - mean) / std - z).flatten(1).norm(dim=1)
    assert float(l2.max()) <= 1.663 + 1e-4
    assert float(l2.min()) > 1.0
    noisy = parts["galloway[noise]"].perturb(
        model, images, labels, 0.25, [torch.Generator().manual_seed(i) for i in range(6)]
    )
    assert float(((noisy - images) / std).std()) == pytest.approx(0.25, rel=0.03)
    with pytest.raises(ValueError, match="RGB"):
        parts["galloway[noise]"].perturb(model, images[:, :1], labels, 0.25, [])


def test_galloway_leaves_its_ball_where_pixels_are_bright() -> None:
    """The cut at 2 darkens white pixels although they were not attacked: why it is compared with nothing else."""
    white = torch.ones(1, 3, 32, 32)
    moved = registry.make("galloway", {"kinds": ["linf"]}).perturb(
        _Colours().eval(), white, torch.tensor([0]), 0.03, []
    )
    assert float((white - moved).max()) > 0.1


def test_cifar10_c_says_which_files_it_misses(tmp_path: Path, trained: Trained, test_images: Tensors) -> None:
    model, data = trained("gn"), _first(test_images, 10)
    method = registry.make("cifar10-c", {"kinds": ["fog"], "severity": 1})
    with pytest.raises(BenchError, match=r"CIFAR-10-C/fog\.npy and labels\.npy"):
        attack(model, method, data, right_of(model, data), seed=0, batch_size=8, data_dir=str(tmp_path))
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "fog.npy", np.zeros((10, 8, 8, 1), np.uint8))
    np.save(folder / "labels.npy", np.full(10, 11, np.uint8))
    with pytest.raises(BenchError, match="not those of the test set"):
        attack(model, method, data, right_of(model, data), seed=0, batch_size=8, data_dir=str(tmp_path))
    np.save(folder / "fog.npy", data.images.permute(0, 2, 3, 1).numpy())
    np.save(folder / "labels.npy", data.labels.numpy().astype(np.uint8))
    (result,) = attack(model, method, data, right_of(model, data), seed=0, batch_size=8, data_dir=str(tmp_path))
    assert unpack(result.outcomes, 10).tolist() == right_of(model, data).tolist()
