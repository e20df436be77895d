"""Datasets that cannot be trained on are refused before anything is trained: by the plan where it can know, else when
images are decoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from normbench.lab import data
from normbench.lab.data import DataError
from normbench.plan.fingerprints import Fingerprints
from normbench.spec.trial import DataSpec

from tests.conftest import MakeTrial, stripes, write_split

IMAGES, LABELS = stripes(12, 0)


def colours(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, side, side, 3)).astype(np.uint8)


def planned(folder: Path, make_trial: MakeTrial, **spec: object) -> str | None:
    trial = make_trial()
    trial = trial.model_copy(update={"data": DataSpec(dataset=str(folder), **spec)})
    return Fingerprints(None, download=False).of(trial)


def decoded(folder: Path, **spec: object) -> data.Dataset:
    wanted = DataSpec(dataset=str(folder), **spec)
    source = data.locate(wanted, None, download=False)
    assert source is not None
    return data.load(wanted, source)


def relabelled(path: Path, labels: Sequence[object], kind: pa.DataType) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "label", pa.array(labels, kind)), path)


UNFIT_LABELS = {
    "sparse": ([0, 10**7] * 6, pa.int64(), r"the labels 0, 10000000 would need 10,000,001 classes, and 2 occur"),
    "huge": ([0, 2**62] * 6, pa.int64(), "would need 4,611,686,018,427,387,905 classes, and 2 occur"),
    "negative": ([-1, 0, 1] * 4, pa.int64(), "have the label -1; labels are numbered from 0"),
    "one class": ([0] * 12, pa.int64(), "has one class, '0': there is nothing to classify"),
    "captions": (list("abcdefghijkl"), pa.string(), "column label holds 12 different texts for 12 images: captions"),
    "fractions": ([0.0, 1.0] * 6, pa.float64(), "no column holds labels"),
}


@pytest.mark.parametrize("kind", UNFIT_LABELS)
def test_labels_that_no_network_is_trained_on_are_refused_by_the_plan(
    kind: str, tmp_path: Path, make_trial: MakeTrial
) -> None:
    labels, type_, message = UNFIT_LABELS[kind]
    for split in ("train", "test"):
        write_split(tmp_path / f"{split}.parquet", IMAGES, LABELS)
        relabelled(tmp_path / f"{split}.parquet", labels, type_)
    with pytest.raises(DataError, match=message):
        planned(tmp_path, make_trial)
    with pytest.raises(DataError, match=message):
        decoded(tmp_path)


def test_a_test_label_that_is_never_trained_is_refused(tmp_path: Path, make_trial: MakeTrial) -> None:
    write_split(tmp_path / "train.parquet", IMAGES, np.array([0, 1] * 6))
    write_split(tmp_path / "test.parquet", IMAGES, np.array([0, 1, 2] * 4))
    for look in (lambda: planned(tmp_path, make_trial), lambda: decoded(tmp_path)):
        with pytest.raises(DataError, match="test images have labels that no training image has: 2; train and test"):
            look()


def test_two_sizes_are_refused_by_the_plan_unless_one_is_asked_for(tmp_path: Path, make_trial: MakeTrial) -> None:
    write_split(tmp_path / "train.parquet", colours(16), LABELS)
    write_split(tmp_path / "test.parquet", colours(28), LABELS)
    for look in (lambda: planned(tmp_path, make_trial), lambda: decoded(tmp_path)):
        with pytest.raises(DataError, match=r"training images are 16x16.*test images 28x28.*data\.image_size brings"):
            look()
    assert planned(tmp_path, make_trial, image_size=8)
    assert decoded(tmp_path, image_size=8).test.images.shape[1:] == (8, 8, 3)


def test_grey_training_images_and_coloured_test_images_are_refused_when_they_are_decoded(tmp_path: Path) -> None:
    write_split(tmp_path / "train.parquet", IMAGES, LABELS)
    write_split(tmp_path / "test.parquet", colours(8), LABELS)
    with pytest.raises(DataError, match="training images are 8x8 grey, test images 8x8 RGB; both must be alike"):
        decoded(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("pp", "image column p: 2 columns have this name"),  # images and labels
        ("iff", "label column f: 2 columns have this name"),  # labels, and what none can be
        ("ill", "label column l: 2 columns have this name"),
        ("jjl", "image column j: 2 columns have this name"),
    ],
)
def test_a_name_that_two_columns_have_is_said(
    columns: str, message: str, tmp_path: Path, make_trial: MakeTrial
) -> None:
    """No number and no option tells them apart."""
    write_split(tmp_path / "plain.parquet", IMAGES, LABELS)
    image, label = pq.read_table(tmp_path / "plain.parquet").columns
    (tmp_path / "plain.parquet").unlink()
    held = {"pp": [image, label], "iff": [image, label, label.cast(pa.float64())]}
    held |= {"ill": [image, label, label], "jjl": [image, image, label]}
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_arrays(held[columns], names=[*columns]), tmp_path / f"{split}.parquet")
    for look in (lambda: planned(tmp_path, make_trial), lambda: decoded(tmp_path)):
        with pytest.raises(DataError, match=message):
            look()


def test_large_binary_is_read_as_binary(tmp_path: Path) -> None:
    """As polars writes it."""
    for split in ("train", "test"):
        write_split(tmp_path / f"{split}.parquet", IMAGES, LABELS)
    plain = decoded(tmp_path)
    for split in ("train", "test"):
        table = pq.read_table(tmp_path / f"{split}.parquet")
        blobs = pa.array([row["bytes"] for row in table["img"].to_pylist()], pa.large_binary())
        pq.write_table(table.set_column(0, "img", blobs), tmp_path / f"{split}.parquet")
    large = decoded(tmp_path)
    assert np.array_equal(large.train.images, plain.train.images)
    assert large.fingerprint == plain.fingerprint


def test_what_polars_writes_is_read(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    for split in ("train", "test"):
        write_split(tmp_path / f"{split}.parquet", IMAGES, LABELS)
    plain = decoded(tmp_path)
    for split in ("train", "test"):
        table = pq.read_table(tmp_path / f"{split}.parquet").to_pydict()
        frame = polars.DataFrame(table | {"img": [row["bytes"] for row in table["img"]]})
        frame.write_parquet(tmp_path / f"{split}.parquet")
    written = decoded(tmp_path)
    assert np.array_equal(written.train.images, plain.train.images)
    assert written.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train-00000-of-00004"],
            "1 train file of 4 is there (train-00000-of-00004.parquet names -of-00004); missing: 1",
        ),
        (["train-00000-of-00003", "train-00002-of-00003"], "2 train files of 3 are there"),
        (["train-00000-of-00002", "train-00001-of-00003"], "are not the parts of one set"),
        (["train-00000-of-00001", "train-00000-of-00001-0123456789abcdef"], "2 train files of 1 are there"),
        (["a/train-00000-of-00001", "b/train-00000-of-00001"], "has several configurations: a, b; write dataset: "),
    ],
)
def test_files_that_are_not_one_whole_split_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        write_split(tmp_path / f"{name}.parquet", IMAGES, LABELS)
    write_split(tmp_path / "test-00000-of-00001.parquet", IMAGES, LABELS)
    with pytest.raises(DataError, match=re.escape(message)):
        data.locate(DataSpec(dataset=str(tmp_path)), None, download=False)


def test_one_of_several_configurations_is_read_by_its_path(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for split in ("train", "test"):
            write_split(tmp_path / name / f"{split}-00000-of-00001.parquet", IMAGES, LABELS)
    assert len(decoded(tmp_path / "a").train.labels) == 12
