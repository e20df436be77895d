"""CIFAR's own files are pickles: what is plain in them is read, and nothing in them is run."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.lab.data import DataError
from normbench.lab.data._pickled import plain

from tests.lab.datasets import load
from tests.lab.layouts import NAMES, cifar10, cifar100, made

ROWS = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
#: As Python 2 and numpy of 2009 wrote it: the files that are handed out are of this kind.
OLD = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    b"K\x00tb\x89U\x06\x00\x01\x02\x03\x04\x05tbU\x06labelsq\x08]q\t(K\x01K\x02eu."
)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("name", [str, str.encode])
def test_plain_values_come_as_they_are(tmp_path: Path, protocol: int, name: Callable[[str], Any]) -> None:
    path = tmp_path / "batch"
    held = {name("data"): ROWS, name("labels"): [3, 5], name("none"): None, name("names"): [b"a", b"\xff"]}
    path.write_bytes(pickle.dumps(held, protocol=protocol))
    found = plain(path)
    assert np.array_equal(found["data"], ROWS)
    assert (found["labels"], found["none"], found["names"]) == ([3, 5], None, [b"a", b"\xff"])


def test_files_of_2009_are_read(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    path.write_bytes(OLD)
    found = plain(path)
    assert found["data"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["labels"] == [1, 2]


class Runs:
    """Calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _array(state: Any) -> Any:
    """An array whose state is `state`."""

    class Odd:
        def __reduce__(self) -> Any:
            reconstruct, arguments, _ = ROWS.__reduce__()
            return reconstruct, arguments, state

    return Odd()


def _held(value: Any) -> bytes:
    return pickle.dumps({"data": value, "labels": [0, 1]}, protocol=2)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "a program": (_held(Runs(os.system, "touch hacked")), "it asks for posix.system"),
    "eval": (_held(Runs(eval, "1")), "it asks for .*eval"),
    "an import": (_held(Runs(__import__, "os")), "it asks for .*__import__"),
    "getattr": (_held(Runs(getattr, "a", "join")), "it asks for .*getattr"),
    "numpy's own loader": (b"cnumpy\nload\n(S'x'\ntR.", r"it asks for numpy\.load"),
    "a name with dots": (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", r"asks for numpy\.ndarray\.__init__"),
    "a class": (b"(S'x'\nios\nsystem\n.", "is no pickle of plain"),
    "an extension": (b"\x80\x02\x82\x01.", "is no pickle of plain"),
    "something kept elsewhere": (b"\x80\x02Pabc\n.", "is no pickle of plain"),
    "objects": (_held(np.array([{}, []], object)), "an array of type O8"),
    "real numbers": (_held(ROWS.astype(np.float64)), "an array of type f8"),
    "columns first": (_held(np.asfortranarray(ROWS)), "in C's order"),
    "a size it has not": (
        _held(_array((1, (10**12, 3072), np.dtype("u1"), False, b"12"))),
        "other bytes than it declares",
    ),
    "a negative size": (_held(_array((1, (-1, -2), np.dtype("u1"), False, b"12"))), "an array without a shape"),
    "a size that is no number": (_held(_array((1, "ab", np.dtype("u1"), False, b"12"))), "an array without a shape"),
    "bytes that are a list": (_held(_array((1, (2,), np.dtype("u1"), False, [1, 2]))), "other bytes than it declares"),
    "bytes it has not": (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.", "is no pickle of plain"),
    "an end without a start": (b"u.", "is no pickle of plain"),
    "a list": (pickle.dumps([1]), "it holds a list, expected a dictionary"),
    "nothing": (b"", "is no pickle of plain"),
    "another file": (b"\x89PNG\r\n", "is no pickle of plain"),
    "half a file": (_held(ROWS)[:900], "is no pickle of plain"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_plain_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = HOSTILE[case]
    Path("batch").write_bytes(content)
    with pytest.raises(DataError, match=message):
        plain(Path("batch"))
    assert [p.name for p in tmp_path.iterdir()] == ["batch"]


@pytest.mark.parametrize("put", [b"r" + struct.pack("<I", 2**32 - 1), b"p99999999999\n"], ids=["LONG_BINPUT", "PUT"])
def test_a_far_place_in_memory_takes_no_memory(tmp_path: Path, put: bytes) -> None:
    """Python's unpickler would make its table so large."""
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02}" + put + b".")
    assert plain(path) == {}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damage_gives_plain_values_or_one_message(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged-{os.getpid()}"
    content = bytearray(draw.draw(st.sampled_from([OLD, pickle.dumps({"data": ROWS[:, :6]}, protocol=4)])))
    for _ in range(draw.draw(st.integers(1, 3))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert all(isinstance(name, str) for name in plain(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_3", {b"data": ROWS}, "there is no 'labels'; it holds data"),
        ("data_batch_3", {b"labels": [0, 1]}, "there is no 'data'"),
        ("data_batch_3", {b"data": ROWS[:, :3000], b"labels": [0, 1]}, r"expected an array of uint8, \(N, 3072\)"),
        ("data_batch_3", {b"data": [1, 2], b"labels": [0, 1]}, "expected an array of uint8"),
        ("data_batch_3", {b"data": ROWS, b"labels": [0]}, r"2 images, and labels of shape \(1,\)"),
        ("data_batch_3", {b"data": ROWS, b"labels": ["a", "b"]}, "expected a list of integers"),
        ("data_batch_3", {b"data": ROWS, b"labels": [0, 2**63]}, "expected a list of integers"),
        ("batches.meta", {b"label_names": "abc"}, "label_names: expected a list of names"),
        ("batches.meta", {}, "there is no 'label_names'"),
    ],
)
def test_files_that_hold_something_else_are_one_message(tmp_path: Path, name: str, content: Any, message: str) -> None:
    folder = cifar10(tmp_path / "set", made(0, 20, 32, 3, 4), made(1, 4, 32, 3, 4), NAMES)
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=message):
        load(folder)


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = cifar10(tmp_path / "set", made(0, 20, 32, 3, 4), made(1, 4, 32, 3, 4), NAMES)
    with pytest.raises(DataError, match="has no part 'dev'"):
        load(folder, test_split="dev")
    for name in ("data_batch_2", "data_batch_5"):
        (folder / name).unlink()
    with pytest.raises(DataError, match="lacks data_batch_2, data_batch_5"):
        load(folder)


def test_coarse_labels_are_chosen_by_their_name(tmp_path: Path) -> None:
    folder = cifar100(tmp_path / "set", made(0, 20, 32, 3, 4), made(1, 4, 32, 3, 4), NAMES)
    found = load(folder, label_column="coarse_labels")
    assert found.classes == ("ape or bee", "cat or dog")
    assert found.train.labels.tolist() == [0, 0, 1, 1] * 5
    with pytest.raises(DataError, match="expected one of fine_labels, coarse_labels"):
        load(folder, label_column="labels")
