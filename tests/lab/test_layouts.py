"""Every layout gives the same plain values to the same checks, and what is hostile in one ends in one message."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from normbench.lab import data
from normbench.lab.data import DataError
from normbench.lab.data._class_folders import ClassFolders
from normbench.lab.data._pixels import pixels
from normbench.lab.data._png import encoded as as_png
from normbench.lab.data.images import images as counted
from normbench.lab.data.importing import import_dataset
from normbench.spec.trial import DataSpec
from PIL import Image

from tests.conftest import write_split
from tests.lab.datasets import both, encoded, load, noise, put
from tests.lab.layouts import LAYOUTS, NAMES, TEST, TRAIN, class_folders, npz, source, splits


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_labels_and_names_are_the_same_in_every_layout(tmp_path: Path, layout: str) -> None:
    write, channels, named = LAYOUTS[layout]
    train, test = splits(channels)
    path = write(tmp_path / "set", train, test, NAMES)
    found = load(path)
    assert found.test is not None
    for read, written in ((found.train, train), (found.test, test)):
        assert np.array_equal(read.images, written.images.reshape(read.images.shape))
        assert np.array_equal(read.labels, written.labels)
    assert found.classes == (NAMES if named else tuple("0123"))
    about = counted(source(path))
    assert about is not None
    assert (about.train, about.test, about.side) == (TRAIN, TEST, 32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_import_keeps_the_fingerprint_and_is_the_same_each_time(tmp_path: Path, layout: str) -> None:
    write, channels, _ = LAYOUTS[layout]
    path = write(tmp_path / "set", *splits(channels), NAMES)
    before = data.survey(source(path))
    written = []
    for name in ("first", "second"):
        done = import_dataset(DataSpec(dataset=str(path)), None, tmp_path / name, shard_bytes=40_000)
        assert done.fingerprint == before.fingerprint
        assert (done.train, done.test) == (TRAIN, TEST)
        files = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
        assert set(files) == set(done.files)
        written.append(files)
    assert written[0] == written[1]
    again = load(tmp_path / "first")
    assert again.fingerprint == before.fingerprint
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_imports_are_cut_into_files_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both(tmp_path / "set", [encoded(noise(i, 64)) for i in range(20)])
    spec = DataSpec(dataset=str(tmp_path / "set"))
    whole = import_dataset(spec, None, tmp_path / "whole")
    assert whole.files == ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
    monkeypatch.setattr("normbench.lab.data.importing._GROUP", 4)
    cut = import_dataset(spec, None, tmp_path / "cut", shard_bytes=1)
    assert len(cut.files) == 10
    assert cut.fingerprint == whole.fingerprint == data.fingerprint(source(tmp_path / "cut"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tuning_reads_no_test_part(tmp_path: Path, layout: str) -> None:
    write, channels, _ = LAYOUTS[layout]
    train, test = splits(channels)
    spec = DataSpec(dataset=str(write(tmp_path / "set", train, test, NAMES)))
    found = data.locate(spec, None, download=False, test=False)
    assert found is not None
    assert found.test == ()
    loaded = data.load(spec, found)
    assert loaded.test is None
    assert np.array_equal(loaded.train.labels, train.labels)


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=40)), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_arrays_become_images_and_come_back_as_they_were(array: np.ndarray, channels: int) -> None:
    images = np.repeat(array[..., None], channels, axis=3)
    for image, blob in zip(images, as_png(images), strict=True):
        assert np.array_equal(pixels(blob, None), image)


def test_large_arrays_take_several_blocks_and_their_bytes_never_change() -> None:
    """The bytes are part of the fingerprint of every dataset of arrays."""
    image = (np.arange(300 * 301 * 3) % 251).astype(np.uint8).reshape(1, 300, 301, 3)
    (blob,) = as_png(image)
    assert np.array_equal(pixels(blob, None), image[0])
    assert hashlib.sha256(blob).hexdigest() == "c83ba413b61471bf1443325103ddb1b5874fda56ddccda67183e166c09d3464a"


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.data())
@settings(max_examples=20, deadline=None)
def test_any_first_part_of_class_folders_holds_the_classes_in_their_shares(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("classes")
    try:
        for i, count in enumerate(counts):
            (folder / f"class {i}").mkdir()
            for j in range(count):
                (folder / f"class {i}" / f"{j}.png").touch()
        shard = ClassFolders(folder, folder)
        order = [Path(shard.place(row)).parent.name for row in range(shard.rows())]
    finally:
        shutil.rmtree(folder)
    first = draw.draw(st.integers(0, sum(counts)))
    for i, count in enumerate(counts):
        assert abs(order[:first].count(f"class {i}") - first * count / sum(counts)) <= 1 + len(counts) / 2
    assert sorted(order) == sorted(f"class {i}" for i, count in enumerate(counts) for _ in range(count))


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    """Its own readers; that of CIFAR takes the files of 2009 alone."""
    from torchvision.datasets import MNIST, ImageFolder

    folder = class_folders(tmp_path / "pets", *splits(3), NAMES)
    theirs, ours = ImageFolder(folder / "train"), load(folder)
    assert tuple(theirs.classes) == ours.classes
    pairs = {(image.tobytes(), label) for image, label in theirs}
    own = zip(ours.train.images, ours.train.labels, strict=True)
    assert pairs == {(image.tobytes(), int(label)) for image, label in own}
    folder = LAYOUTS["idx"][0](tmp_path / "MNIST", *splits(1), NAMES)
    mnist, ours = MNIST(tmp_path), load(folder)
    assert np.array_equal(mnist.data.numpy(), ours.train.images[..., 0])
    assert np.array_equal(mnist.targets.numpy(), ours.train.labels)


# --- class folders


def pets(folder: Path) -> Path:
    return class_folders(folder, *splits(3), NAMES)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_test_images_lie_in_any_of_these_folders(tmp_path: Path, name: str) -> None:
    folder = pets(tmp_path)
    (folder / "test").rename(folder / name)
    found = load(folder)
    assert found.test is not None
    assert len(found.test.labels) == TEST


def test_a_part_is_named_by_the_suite(tmp_path: Path) -> None:
    folder = pets(tmp_path)
    (folder / "train").rename(folder / "seen")
    (folder / "test").rename(folder / "unseen")
    assert len(load(folder, train_split="seen", test_split="unseen").train.labels) == TRAIN


def test_images_lie_at_any_depth_and_other_files_are_told(tmp_path: Path) -> None:
    folder = pets(tmp_path)
    plain = load(folder)
    inner = folder / "train" / "ape" / "0000.png"
    (folder / "train" / "ape" / "0").mkdir()
    inner.rename(folder / "train" / "ape" / "0" / inner.name)  # sorts as before
    for name in ("train/ape/notes.txt", "train/ape/.hidden.png", "train/README", "test/cat/Thumbs.db"):
        (folder / name).write_text("")
    (folder / "train" / ".git").mkdir()
    found = source(folder)
    assert data.fingerprint(found) == plain.fingerprint
    notes = [note for shard in (*found.train, *found.test) for note in shard.notes()]
    assert [n.partition(": ")[2] for n in notes] == [
        "2 files are no images by their names and are left out: 1 without an ending, 1 .txt",
        "1 files are no images by their names and are left out: 1 .db",
    ]


def _flat(folder: Path) -> None:
    (folder / "train").rename(folder.parent / "kept")
    shutil.rmtree(folder)
    (folder.parent / "kept").rename(folder)


def _loose(folder: Path) -> None:
    for file in (folder / "train").rglob("*.png"):
        file.rename(folder / "train" / f"{file.parent.name}{file.name}")
    for inner in list((folder / "train").iterdir()):
        if inner.is_dir():
            inner.rmdir()


def _link(folder: Path, target: str | Path, name: str = "train/ape/link.png") -> None:
    (folder / name).symlink_to(target)


def _deep(folder: Path) -> None:
    (folder / "train" / "ape" / Path(*["a"] * 20)).mkdir(parents=True)


def _odd(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder / "train") + b"/\xff\xfe")).mkdir()


def _huge(folder: Path) -> None:
    with (folder / "train" / "ape" / "0000.png").open("ab") as file:
        file.truncate(2**40)  # takes no space


HOSTILE_FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no test": (
        lambda f: shutil.rmtree(f / "test"),
        r"there is no test part: expected .*test or .*val or .*--test 0\.2",
    ),
    "classes alone": (_flat, r"holds folders of images \(ape, bee, cat, \.\.\.\), and no train/ with a test part"),
    "no class folders": (
        _loose,
        "expected a folder for each class, .*; 24 images lie in the folder itself",
    ),
    "an empty class": (lambda f: (f / "train/eel").mkdir(), "class folder .*eel holds no image"),
    "an empty part": (lambda f: (shutil.rmtree(f / "test"), (f / "test").mkdir()), "test: expected a folder for each"),
    "another class": (lambda f: (f / "test/ape").rename(f / "test/eel"), "no training image has: eel"),
    "a broken image": (lambda f: (f / "test/bee/0001.png").write_text("?"), r"test/bee/0001\.png: an image cannot be"),
    "another size": (lambda f: Image.new("RGB", (9, 9)).save(f / "train/bee/0001.png"), r"9x9 RGB \(.*bee/0001\.png\)"),
    "a link out": (lambda f: _link(f, "/etc/passwd"), r"link\.png is a link out of .*copy the dataset .*cp -rL"),
    "a link up": (lambda f: _link(f, "../../../x.png"), r"link\.png is a link out of"),
    "a link to a folder": (lambda f: _link(f, "../bee"), r"link\.png is a link to a folder"),
    "a loop of links": (lambda f: _link(f, "link.png"), r"link\.png"),
    "a linked class": (lambda f: _link(f, "ape", "train/eel"), "eel is a link to a folder"),
    "a broken link": (lambda f: _link(f, "nowhere.png"), r"cannot read .*link\.png: No such file"),
    "a pipe": (lambda f: os.mkfifo(f / "train/ape/pipe.png"), r"pipe\.png is no regular file"),
    "many folders": (_deep, "more than 16 folders within each other"),
    "no UTF-8": (_odd, r"the name of class folder b'\\xff\\xfe' is no UTF-8"),
    "a huge file": (_huge, r"0000\.png has 1,099,511,627,776 bytes"),
    "one class": (
        lambda f: [shutil.rmtree(f / part / name) for part in ("train", "test") for name in NAMES[1:]],
        "has one class, 'ape'",
    ),
}


@pytest.mark.parametrize("case", HOSTILE_FOLDERS)
def test_class_folders_that_cannot_be_read_are_one_message(tmp_path: Path, case: str) -> None:
    folder = pets(tmp_path / "set")
    change, message = HOSTILE_FOLDERS[case]
    change(folder)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_a_link_within_the_dataset_is_followed(tmp_path: Path) -> None:
    folder = pets(tmp_path)
    _link(folder, "../../train/ape/0000.png", "train/ape/0000-again.png")
    assert len(load(folder).train.labels) == TRAIN + 1


def test_names_of_files_need_be_no_utf8(tmp_path: Path) -> None:
    folder = pets(tmp_path)
    (folder / "train/ape/0000.png").rename(folder / "train/ape" / os.fsdecode(b"\xff.png"))
    assert len(load(folder).train.labels) == TRAIN


@pytest.mark.parametrize("spec", [{"image_column": "img"}, {"label_column": "label"}])
def test_columns_are_for_parquet(tmp_path: Path, spec: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"column"):
        load(pets(tmp_path), **spec)


# --- texts and views in Parquet

TEXTS = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_labels_are_numbered_in_sorted_order(tmp_path: Path, kind: str) -> None:
    blobs = [encoded(noise(i)) for i in range(6)]
    both(tmp_path, blobs, ["dog", "äh", "cat", "cat", "dog", "äh"], label=TEXTS[kind])
    found = load(tmp_path)
    assert found.classes == ("cat", "dog", "äh")
    assert found.train.labels.tolist() == [1, 2, 0, 0, 1, 2]


def test_texts_of_all_files_are_numbered_together(tmp_path: Path) -> None:
    blobs = [encoded(noise(i)) for i in range(4)]
    put(tmp_path / "train-00000-of-00002.parquet", blobs, list("bbcc"))
    put(tmp_path / "train-00001-of-00002.parquet", blobs, list("aabb"))
    put(tmp_path / "test.parquet", blobs, list("cacb"))
    found = load(tmp_path)
    assert found.train.labels.tolist() == [1, 1, 2, 2, 0, 0, 1, 1]
    assert found.test.labels.tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (list("aabb"), list("abcd"), r"test images have labels that no training image has: c, d \(2\)"),
        (list("aabb"), [0, 1, 0, 1], "labels are numbers in some files and texts in others"),
        ([0, 1, 0, 1], list("aabb"), "labels are numbers in some files and texts in others"),
        (list("aaaa"), list("aaaa"), "has one class, 'a'"),
        (["x" * 201, *"aab"], list("aabb"), "some of its 3 texts have more than 200 characters"),
    ],
)
def test_texts_that_name_no_classes_are_refused(
    tmp_path: Path, train: list[Any], test: list[Any], message: str
) -> None:
    blobs = [encoded(noise(i)) for i in range(4)]
    put(tmp_path / "train.parquet", blobs, train)
    put(tmp_path / "test.parquet", blobs, test)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_text_beside_numbers_is_no_label_unless_it_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        write_split(tmp_path / f"{split}.parquet", rng.integers(0, 256, (4, 5, 5)).astype(np.uint8), np.arange(4) % 2)
        table = pq.read_table(tmp_path / f"{split}.parquet")
        pq.write_table(table.append_column("kind", pa.array(list("zyzy"))), tmp_path / f"{split}.parquet")
    assert load(tmp_path).train.labels.tolist() == [0, 1, 0, 1]
    named = load(tmp_path, label_column="kind")
    assert named.train.labels.tolist() == [1, 0, 1, 0]
    assert named.classes == ("y", "z")


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary_view()], ids=str)
@pytest.mark.parametrize("within", [False, True], ids=["plain", "struct"])
def test_images_of_any_binary_type_are_read_alike(tmp_path: Path, kind: pa.DataType, within: bool) -> None:
    blobs: list[Any] = [encoded(noise(i)) for i in range(6)]
    both(tmp_path / "plain", blobs)
    if within:
        both(tmp_path / "other", [{"bytes": b} for b in blobs], images=pa.struct([("bytes", kind)]))
    else:
        both(tmp_path / "other", blobs, images=kind)
    plain, other = load(tmp_path / "plain"), load(tmp_path / "other")
    assert plain.fingerprint == other.fingerprint
    assert np.array_equal(plain.train.images, other.train.images)


# --- what is at a path


def test_nothing_that_is_read_is_told_with_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(DataError, match=r"Other layouts that are read: npz: NAME\.npz.*class folders: train/CLASS"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"x\.csv is a file; expected a folder, or an archive \.npz"):
        load(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"there is no .*nowhere"):
        load(tmp_path / "nowhere")
    pets(tmp_path / "inner")
    with pytest.raises(DataError, match=r"inner can be read: name that"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["a/" + "x" * 5000, "a/\0b", "/proc/1/root/x", "./../../../../../../dev/null/x"])
def test_any_path_ends_in_one_message(name: str) -> None:
    with pytest.raises(DataError):
        data.locate(DataSpec(dataset=name), None, download=False)


def test_datasets_of_a_data_folder_are_found_by_name(tmp_path: Path) -> None:
    pets(tmp_path / "pets")
    npz(tmp_path, *splits(1), NAMES)
    (tmp_path / "other").mkdir()
    import_dataset(DataSpec(dataset=f"{tmp_path}/pets"), None, tmp_path / "imported")
    assert data.folders(tmp_path) == ["imported", "pets", "set.npz"]
    for name in ("pets", "set.npz"):
        spec = DataSpec(dataset=name)
        assert data.fingerprint(data.locate(spec, tmp_path, download=False))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=re.escape("did you mean 'set.npz'")):
        data.locate(DataSpec(dataset="sets.npz"), tmp_path, download=False)


@pytest.mark.parametrize("order", [("named", "plain"), ("plain", "named")])
def test_names_of_classes_are_those_of_the_files_though_images_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    """Decoded images are kept by content: whoever decoded them first does not name the classes of the next one."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    names = {"named": NAMES, "plain": tuple("0123")}
    for kind in order:
        for split, part in zip(("train", "test"), splits(3), strict=True):
            images, labels = part.images.reshape(-1, 32, 32, 3), part.labels
            write_split(tmp_path / kind / f"{split}.parquet", images, labels, [*NAMES] if kind == "named" else None)
    found = {kind: load(tmp_path / kind) for kind in order}
    assert len({d.fingerprint for d in found.values()}) == 1
    assert len(list((tmp_path / "cache" / "data").glob("[!.]*"))) == 1
    assert {kind: d.classes for kind, d in found.items()} == names
