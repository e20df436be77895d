"""Images in archives of arrays and in files of MNIST's kind: what does not fit is one message, before it is read."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.lab import data
from normbench.lab.data import DataError

from tests.lab.datasets import load
from tests.lab.layouts import LAYOUTS, NAMES, TRAIN, Split, npz, source, splits

# --- archives of arrays


def archive(path: Path, **arrays_: Any) -> Path:
    train, test = splits(3)
    usual = {"train_images": train.images, "train_labels": train.labels, "test_images": test.images}
    np.savez(path, **(usual | {"test_labels": test.labels} | arrays_), allow_pickle=True)
    return path


HOSTILE_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "objects": ({"train_labels": np.array([{}] * TRAIN, object)}, "holds Python objects, which could run code"),
    "object images": ({"train_images": np.array([{}] * TRAIN, object)}, "holds Python objects|is of type object"),
    "fractions": ({"train_images": np.zeros((TRAIN, 8, 8), np.float32)}, r"is of type float32, expected uint8: scale"),
    "16 bits": ({"train_images": np.zeros((TRAIN, 8, 8), np.uint16)}, "is of type uint16, expected uint8"),
    "channels first": ({"train_images": np.zeros((TRAIN, 3, 8, 8), np.uint8)}, r"transpose\(0, 2, 3, 1\)"),
    "four channels": ({"train_images": np.zeros((TRAIN, 8, 8, 4), np.uint8)}, r"expected \(N, H, W\)"),
    "volumes": ({"train_images": np.zeros((TRAIN, 8, 8, 8), np.uint8)}, r"expected \(N, H, W\)"),
    "flat": ({"train_images": np.zeros((TRAIN, 64), np.uint8)}, r"shape \(24, 64\): expected"),
    "no pixel": ({"train_images": np.zeros((TRAIN, 0, 8), np.uint8)}, "an image has 1 to"),
    "no image": ({"train_images": np.zeros((0, 8, 8), np.uint8), "train_labels": np.zeros(0, int)}, "no|one class"),
    "columns first": ({"train_images": np.asfortranarray(splits(3)[0].images)}, "Fortran's order"),
    "too few labels": ({"train_labels": np.zeros(TRAIN - 1, int)}, r"24 images, and labels of shape \(23,\)"),
    "several labels": ({"train_labels": np.zeros((TRAIN, 14), int)}, "expected one label an image"),
    "real labels": ({"train_labels": np.zeros(TRAIN)}, "labels of type float64: expected integers"),
    "wide labels": ({"train_labels": np.full(TRAIN, 2**63, np.uint64)}, "does not fit into 64 bits"),
    "negative labels": ({"train_labels": np.arange(TRAIN) - 1}, "label -1; labels are numbered from 0"),
}


@pytest.mark.parametrize("case", HOSTILE_ARRAYS)
def test_arrays_that_are_no_images_are_one_message(tmp_path: Path, case: str) -> None:
    changed, message = HOSTILE_ARRAYS[case]
    with pytest.raises(DataError, match=message):
        load(archive(tmp_path / "set.npz", **changed))


def test_texts_label_arrays(tmp_path: Path) -> None:
    train, test = splits(3)
    names = np.array(NAMES)
    path = archive(tmp_path / "set.npz", train_labels=names[train.labels], test_labels=names[test.labels])
    found = load(path)
    assert found.classes == NAMES
    assert np.array_equal(found.train.labels, train.labels)


def test_a_part_of_an_archive_is_named_by_the_suite(tmp_path: Path) -> None:
    train, test = splits(1)
    path = npz(tmp_path, train, Split(test.images[:4], test.labels[:4]), NAMES)
    assert len(load(path, test_split="val").test.labels) == 4
    with pytest.raises(DataError, match="no array dev_images; it has the parts test, train, val"):
        load(path, test_split="dev")


def _declaring(shape: str, kind: str = "|u1", body: bytes = b"") -> bytes:
    """A file of numpy that declares a shape."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_declaring("(1000000000000, 32, 32, 3)"), "declares 3,072,000,000,000,000 bytes"),
        (_declaring("(99999999999999999999999, 32, 32)"), "declares"),
        (_declaring("(-1, 32, 32)"), "declares"),
        (_declaring("(2, 2, 2)", body=b"12345"), "declares 8 bytes"),
        (_declaring("(2, 2, 2)", body=b"123456789"), "declares 8 bytes"),
        (_declaring("(" * 500), "cannot read"),
        (_declaring("__import__('os').system('touch hacked')"), "cannot read"),
        (b"\x93NUMPY\x03\x00", "cannot read"),
        (b"no array", "cannot read"),
        (b"", "cannot read"),
    ],
)
def test_what_an_array_declares_is_checked_before_it_is_read(tmp_path: Path, content: bytes, message: str) -> None:
    path = archive(tmp_path / "usual.npz")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "set.npz", "w") as new:
        for member in old.namelist():
            new.writestr(member, content if member == "train_images.npy" else old.read(member))
    with pytest.raises(DataError, match=message):
        load(tmp_path / "set.npz")
    assert not list(Path.cwd().glob("hacked"))


def test_a_bomb_of_zeros_is_refused_by_its_declared_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MB of zeros that take 64 KB; the bound is lowered, not the bomb enlarged."""
    monkeypatch.setattr("normbench.lab.data._npz.MOST_BYTES", 2**25)
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("train_images.npy", _declaring("(65536, 32, 32)", body=bytes(2**26)))
    assert path.stat().st_size < 2**18
    with pytest.raises(DataError, match="at most 33,554,432 are read"):
        load(path, test_split="train")


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_damage_to_an_archive_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    held = io.BytesIO()
    small = {"images": np.zeros((4, 2, 2), np.uint8), "labels": np.arange(4) % 2}
    np.savez(held, **{f"{part}_{what}": a for part in ("train", "test") for what, a in small.items()})
    content = bytearray(held.getvalue())
    place = draw.draw(st.integers(0, len(content) - 1))
    content[place] ^= draw.draw(st.integers(1, 255))
    path = folder / "set.npz"
    path.write_bytes(content[: draw.draw(st.sampled_from([len(content), place]))])
    try:
        data.survey(source(path))
    except DataError:
        pass
    finally:
        shutil.rmtree(folder)


# --- MNIST's own files


def _idx(magic: bytes, *shape: int, body: bytes = b"") -> bytes:
    return magic + struct.pack(f">{len(shape)}I", *shape) + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it ends 4 bytes too early"),
        (b"\0\0\x08", "it ends 1 bytes too early"),
        (_idx(b"\0\0\x0d\x03", 2, 2, 2), r"it starts with b'\\x00\\x00\\r\\x03', expected"),
        (_idx(b"\0\0\x08\x01", TRAIN), "it starts with"),
        (_idx(b"\0\0\x08\x03", 2**32 - 1, 2**32 - 1, 2**32 - 1), "it declares 79,228,162,458,924,105,385,300,197,375"),
        (_idx(b"\0\0\x08\x03", TRAIN, 2**16, 2**14), "an image has 1 to 67,108,864 pixels"),
        (_idx(b"\0\0\x08\x03", TRAIN, 4, 4, body=bytes(TRAIN * 16 - 1)), "it ends 1 bytes too early"),
        (_idx(b"\0\0\x08\x03", TRAIN, 4, 4, body=bytes(TRAIN * 16 + 1)), "holds more bytes than it declares"),
        (_idx(b"\0\0\x08\x03", TRAIN - 1, 4, 4, body=bytes(TRAIN * 16)), r"23 images, and labels of shape \(24,\)"),
        (_idx(b"\0\0\x08\x03", TRAIN, 0, 4), "an image has 1 to"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_hold_something_else_are_one_message(
    tmp_path: Path, content: bytes, message: str, packed: bool
) -> None:
    folder = LAYOUTS["idx.gz" if packed else "idx"][0](tmp_path / "set", *splits(1), NAMES)
    (path,) = (folder / "raw").glob("train-images*")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_broken_gzip_is_one_message(tmp_path: Path) -> None:
    folder = LAYOUTS["idx.gz"][0](tmp_path / "set", *splits(1), NAMES)
    path = folder / "raw" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken in (whole[:-9], whole[: len(whole) // 2], b"\x1f\x8b" + bytes(30), whole[:50] + b"!" + whole[51:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="cannot read"):
            load(folder)
    path.write_bytes(whole)
    (folder / "raw" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="lacks train-labels-idx1-ubyte"):
        load(folder)
