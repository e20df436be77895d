"""`bench data`: what it shows, what it writes, and what it says of what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from normbench.lab import data
from normbench.spec.trial import DataSpec
from PIL import Image

from tests.command import bench
from tests.lab.datasets import both, encoded, noise
from tests.lab.layouts import class_folders, made, npz

NAMES = ["ape", "[red]x", "\x1b[31mz"]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """24 training and 9 test images in class folders with names that a terminal would obey."""
    return class_folders(tmp_path / "pets", made(0, 24, 16, 3, 3), made(1, 9, 16, 3, 3), NAMES)


def test_what_was_read_is_shown_as_text_and_as_json(pets: Path) -> None:
    done = bench("data", "./pets", cwd=pets.parent, COLUMNS="60")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.stdout.startswith("./pets: class folders, 16x16 RGB, 3 classes\n")
    for row in (["images", "24", "9"], ["[red]x", "8", "3"], ["ape", "8", "3"], ["\\x1b[31mz", "8", "3"]):
        assert row in lines
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 60
    images = np.stack([np.asarray(Image.open(p)) for p in sorted(pets.glob("train/*/*.png"))]) / 255
    found = json.loads(bench("data", "./pets", "--json", cwd=pets.parent).stdout)
    assert found["classes"] == sorted(NAMES)
    assert (found["side"], found["channels"], found["layout"]) == (16, 3, "class folders")
    assert found["train"]["mean"] == pytest.approx(images.mean((0, 1, 2)).tolist())
    assert found["train"]["std"] == pytest.approx(images.std((0, 1, 2)).tolist())
    assert (found["train"]["least"], found["train"]["largest"]) == (0, 255)
    assert found["train"]["levels"] == len(np.unique(images))
    assert found["test"]["counts"] == [3, 3, 3]
    source = data.locate(DataSpec(dataset=str(pets)), None, download=False)
    assert source is not None
    assert found["fingerprint"] == data.fingerprint(source)


def test_the_sheet_shows_the_first_images_of_every_class(pets: Path) -> None:
    done = bench("data", "show", "./pets", "--sheet", "sheet.png", "--json", cwd=pets.parent)
    assert done.returncode == 0, done.stderr
    sheet = np.asarray(Image.open(pets.parent / "sheet.png"))
    first = np.asarray(Image.open(pets / "train" / "[red]x" / "0001.png")).repeat(3, 0).repeat(3, 1)
    windows = np.lib.stride_tricks.sliding_window_view(sheet, first.shape)[:, :, 0]
    assert (windows == first).all((2, 3, 4)).sum() == 1
    again = bench("data", "./pets", "--sheet", "again.png", cwd=pets.parent)
    assert "contact sheet: again.png" in again.stdout
    assert (pets.parent / "again.png").read_bytes() == (pets.parent / "sheet.png").read_bytes()


@pytest.mark.parametrize("side", [8, 200])
def test_images_of_any_size_fit_on_a_sheet(tmp_path: Path, side: int) -> None:
    npz(tmp_path, made(0, 100, side, 1, 50), made(1, 50, side, 1, 50), [])
    done = bench("data", "./set.npz", "--sheet", "sheet.png", cwd=tmp_path)
    assert "and 10 more classes: --json lists all" in done.stdout
    assert Image.open(tmp_path / "sheet.png").size[1] <= 41 * 140


def test_surprises_are_noted(tmp_path: Path) -> None:
    masks = [encoded(Image.fromarray(np.full((8, 8), i % 2, np.uint8))) for i in range(12)]
    both(tmp_path / "masks", masks, [0] * 6 + [2] * 6)
    (note, empty, *_) = json.loads(bench("data", "./masks", "--json", cwd=tmp_path).stdout)["notes"]
    assert "training images stand class by class" in note
    assert "training images have 2 grey levels" in empty
    assert "1 of 3 classes have no training image: 1" in bench("data", "./masks", cwd=tmp_path).stdout


def test_an_import_is_read_as_what_it_was(pets: Path) -> None:
    done = bench("data", "import", "./pets", "out", cwd=pets.parent)
    assert done.returncode == 0, done.stderr
    assert "wrote 2 files to out: 24 training images, 9 test images, 3 classes" in done.stdout
    assert "data: {dataset: ./out}" in done.stdout
    before, after = (json.loads(bench("data", d, "--json", cwd=pets.parent).stdout) for d in ("./pets", "./out"))
    for key in ("dataset", "layout"):
        assert before.pop(key) != after.pop(key)
    for part in ("train", "test"):
        assert before[part].pop("files") != after[part].pop("files")
    assert before == after


def test_a_share_becomes_the_test_part(pets: Path) -> None:
    (pets / "train").rename(pets.parent / "flat")
    done = bench("data", "import", "./flat", "out", "--test", "0.25", "--json", cwd=pets.parent)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["train"], found["test"]) == (18, 6)
    shown = json.loads(bench("data", "./out", "--json", cwd=pets.parent).stdout)
    assert (shown["train"]["counts"], shown["test"]["counts"]) == ([6, 6, 6], [2, 2, 2])
    classes = [sorted(folder.iterdir()) for folder in (pets.parent / "flat").iterdir()]
    last = {path.read_bytes() for files in classes for path in files[-2:]}
    source = data.locate(DataSpec(dataset=str(pets.parent / "out")), None, download=False)
    assert source is not None
    assert {blob for images, _ in data.stored(source, source.test) for blob in images.to_pylist()} == last


WRONG = {
    "no dataset": (["./nowhere"], "there is no nowhere"),
    "a name that lies here": (["pets"], "what lies in the working directory is ./pets"),
    "a sheet that cannot be": (["./pets", "--sheet", "/proc/x/y.png"], "--sheet /proc/x/y.png: cannot write it"),
    "a size": (["./mixed"], r"images have the shapes"),
    "out is there": (["import", "./pets", "pets"], "pets is there already: name a folder that is missing or empty"),
    "out cannot be": (["import", "./pets", "/proc/x/y"], "cannot write /proc/x/y"),
    "a test part twice": (["import", "./pets", "out", "--test", "0.2"], "has a test part already"),
    "a share of none": (["import", "./flat", "out", "--test", "0.001"], "both must be there"),
    "no share": (["import", "./flat", "out", "--test", "1"], "--test 1: expected a share"),
    "no such share": (["import", "./flat", "out", "--test", "nan"], "--test nan: expected a share"),
    "a broken image": (["import", "./broken", "out"], "broken/train/ape/0000.png: an image cannot be decoded"),
    "nothing to set aside from": (["import", "./nowhere", "out", "--test", "0.2"], "there is no nowhere"),
    "a name": (["import", "digits", "out", "--test", "0.2"], "only of what lies at a path"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_message(pets: Path, case: str) -> None:
    arguments, message = WRONG[case]
    place = pets.parent
    splits = made(0, 6, 16, 3, 2), made(1, 2, 16, 3, 2)
    (class_folders(place / "set", *splits, ["a", "b"]) / "train").rename(place / "flat")
    class_folders(place / "broken", *splits, ["ape", "bee"])
    (place / "broken" / "train" / "ape" / "0000.png").write_bytes(b"?")
    both(place / "mixed", [encoded(noise(i, 6 + i)) for i in range(2)])
    before = sorted(p.name for p in place.iterdir())
    done = bench("data", *arguments, cwd=place)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("bench: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert sorted(p.name for p in place.iterdir()) == before


def test_help_names_both_verbs(tmp_path: Path) -> None:
    done = bench("data", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "bench data import DATASET OUT" in done.stdout.replace("\n  ", " ")
    assert "--sheet" in bench("data", "show", "--help", cwd=tmp_path).stdout
