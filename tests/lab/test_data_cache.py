"""The cache of decoded images: damage is found and mended, and a cache that cannot be written to is one message."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.lab import data
from normbench.lab.data import DataError
from normbench.lab.data._cache import DONE, DamagedError, arrays, write
from normbench.spec.trial import DataSpec

from tests.lab.datasets import both, encoded, load, noise


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of eight images, and a cache of its own."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    both(tmp_path / "images", [encoded(noise(i)) for i in range(8)])
    return tmp_path / "images"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zeros(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64] + bytes(64))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pickled(path: Path) -> None:
    np.save(path, np.array([{}], object), allow_pickle=True)


def _turned(path: Path) -> None:
    found = np.load(path)
    np.save(path, found.reshape(found.shape[::-1]))


def _copied(found: data.Dataset) -> list[np.ndarray]:
    """Copies: what is mapped must not be read once its file is cut."""
    assert found.test is not None
    return [np.array(a) for split in (found.train, found.test) for a in (split.images, split.labels)]


_ANY = (_cut, _empty, Path.unlink)


@pytest.mark.parametrize(
    ("file", "damage"),
    [(file, how) for file in ("train_images.npy", "test_labels.npy", DONE) for how in _ANY]
    + [("train_images.npy", how) for how in (_zeros, _pickled, _turned)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_is_damaged_is_decoded_again_with_a_word(
    images: Path, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    first = _copied(load(images))
    assert not caplog.text
    (folder,) = images.parent.glob("cache/data/[!.]*")
    damage(folder / file)
    again = load(images)
    assert "damaged" in caplog.text
    assert folder.name in caplog.text
    for before, after in zip(first, _copied(again), strict=True):
        assert np.array_equal(before, after)
    assert [p.name for p in images.parent.glob("cache/data/[!.]*")] == [folder.name]
    caplog.clear()
    load(images)
    assert not caplog.text


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_changed_byte_passes(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cached")
    write(folder, {"a": np.arange(12, dtype=np.uint8).reshape(3, 4), "b": np.arange(3)}, ["x", "y"])
    path = draw.draw(st.sampled_from(sorted(folder.glob("*.npy"))))
    content = bytearray(path.read_bytes())
    place = draw.draw(st.integers(0, len(content) - 1))
    content[place] ^= draw.draw(st.integers(1, 255))
    path.write_bytes(content)
    # Blanks that fill up a header may be others: then what is read is as it was written, else the damage is found.
    try:
        found, classes = arrays(folder)
    except DamagedError:
        return
    finally:
        shutil.rmtree(folder)
    assert classes == ("x", "y")
    assert np.array_equal(found["a"], np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert np.array_equal(found["b"], np.arange(3))


def test_without_its_files_a_damaged_dataset_is_named(images: Path) -> None:
    known = load(images).fingerprint
    (folder,) = images.parent.glob("cache/data/[!.]*")
    spec = DataSpec(dataset=f"{images}")
    assert len(data.load(spec, None, known).train.labels) == 8
    _cut(folder / "train_images.npy")
    with pytest.raises(data.NotDecodedError, match="neither its files nor its decoded images"):
        data.load(spec, None, known)


def test_what_a_killed_process_left_goes(images: Path) -> None:
    load(images)
    (folder,) = images.parent.glob("cache/data/[!.]*")
    (folder / DONE).unlink()
    left = folder.parent / f".decoding-{folder.name}-abc"
    left.mkdir()
    (left / "train_images.npy").write_bytes(b"half")
    load(images)
    assert not left.exists()


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x", "{file}"])
def test_a_cache_that_cannot_be_made_is_one_message(images: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (images.parent / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", place.format(file=images.parent / "file"))
    with pytest.raises(DataError, match=r"cannot write decoded images to .*BENCH_CACHE names another folder"):
        load(images)


def test_a_full_cache_is_one_message_and_leaves_nothing(images: Path) -> None:
    """A limit on the size of files stands for a full disk: the system refuses to write on in the middle of an array."""
    both(images, [encoded(noise(i, 32)) for i in range(40)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot write decoded images to .*BENCH_CACHE names another folder"):
            load(images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [p for p in images.parent.glob("cache/data/[!.]*") if p.is_dir()]
    assert not list(images.parent.glob("cache/data/.decoding-*"))
    assert len(load(images).train.labels) == 40
