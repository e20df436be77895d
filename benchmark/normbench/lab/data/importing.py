"""Any layout that is read, written as Parquet: quicker to read, one folder to pass on, and of the same fingerprint.

The same input gives the same bytes under one version of pyarrow. The folder takes its name when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from normbench.lab.data import _arrow
from normbench.lab.data._decode import decoded_image
from normbench.lab.data._fingerprint import stored, survey
from normbench.lab.data._labels import classes_of
from normbench.lab.data._locate import locate, training
from normbench.lab.data._source import DataError, Source
from normbench.spec.trial import DataSpec

#: Bytes of encoded images after which another file is begun, and after which they are brought to disk.
SHARD_BYTES = 2**28
_GROUP_BYTES = 2**25
#: Most images of a row group.
_GROUP = 4096

_Row = tuple[bytes, int]


@dataclass(frozen=True)
class Imported:
    """What was written. `train`, `test`: numbers of images."""

    folder: Path
    fingerprint: str
    train: int
    test: int
    classes: tuple[str, ...]
    files: tuple[str, ...]


def import_dataset(
    spec: DataSpec, data_dir: Path | None, out: Path, *, test_share: float | None = None, shard_bytes: int = SHARD_BYTES
) -> Imported:
    """Write a dataset to the folder `out`, which must be missing or empty. Raises `DataError`.

    test_share: of a dataset without a test part, the share of its images in (0, 1) that becomes one: the last ones. Of
    class folders these are the last files of each class. Every image is decoded once, so that a broken one is named by
    its own file.
    """
    with _written(out):
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise DataError(f"{out} is there already: name a folder that is missing or empty")
    source = training(spec, data_dir) if test_share is not None else locate(spec, data_dir, download=True)
    assert source is not None  # noqa: S101 - a download was allowed
    before = survey(source)
    names = classes_of(source.name, before.train, before.test, before.names)
    counts = _counts(source, test_share)
    with _made(out) as folder:
        rows = _rows(source)
        files = [
            name for part, n in counts.items() for name in _write(folder, part, islice(rows, n), names, shard_bytes)
        ]
        written = locate(DataSpec(dataset=f"{folder}{os.sep}"), None, download=False)
        assert written is not None  # noqa: S101 - only the hub has what is not here
        after = survey(written)
        if test_share is None and after.fingerprint != before.fingerprint:
            raise DataError(f"dataset {source.name!r} changed while it was read: import it again")
        classes_of(source.name, after.train, after.test, after.names)
    return Imported(out, after.fingerprint, counts["train"], counts["test"], tuple(names), tuple(files))


def _counts(source: Source, test_share: float | None) -> dict[str, int]:
    """Images of both parts."""
    train, test = (sum(shard.rows() for shard in shards) for shards in (source.train, source.test))
    if test_share is not None:
        test = round(train * test_share)
        train -= test
    if not train or not test:
        raise DataError(f"dataset {source.name!r}: {train} training images and {test} test images: both must be there")
    return {"train": train, "test": test}


def _rows(source: Source) -> Iterator[_Row]:
    """Encoded images and labels of the training images, then of the test images; each was decoded once."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for shard in (*source.train, *source.test):
            row = 0
            for images, labels in stored(source, (shard,)):
                blobs = images.to_pylist()
                decode = partial(decoded_image, source.name, shard, None)
                for blob, label, _ in zip(
                    blobs, labels, pool.map(decode, blobs, range(row, row + len(blobs))), strict=True
                ):
                    yield blob, int(label)
                row += len(blobs)


def _write(folder: Path, part: str, rows: Iterator[_Row], names: list[str], shard_bytes: int) -> list[str]:
    """The files of one split; how many there are, which their names say, shows at the end."""
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    image = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], about)
    made: list[Path] = []
    group = next(groups := _groups(rows), None)
    while group:
        made.append(folder / f"{part}-{len(made)}")
        with made[-1].open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                size = 0
                while group and (not size or size < shard_bytes):
                    writer.write_batch(_batch(group, schema))
                    size += sum(len(blob) for blob, _ in group)
                    group = next(groups, None)
            file.flush()
            os.fsync(file.fileno())
    named = [f"{part}-{i:05d}-of-{len(made):05d}.parquet" for i in range(len(made))]
    for path, name in zip(made, named, strict=True):
        path.rename(folder / name)
    return named


def _groups(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    """Rows that are brought to disk together."""
    group: list[_Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row[0])
        if len(group) == _GROUP or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _batch(group: list[_Row], schema: pa.Schema) -> pa.RecordBatch:
    blobs = _arrow.blobs([blob for blob, _ in group])
    image = pa.StructArray.from_arrays(
        [blobs, pa.nulls(len(group), pa.string())], fields=list(schema.field("image").type)
    )
    labels = _arrow.numbers(np.array([label for _, label in group], np.int64))
    return pa.RecordBatch.from_arrays([image, labels], schema=schema)


@contextmanager
def _made(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, which takes its name at the end and is gone after an error."""
    with _written(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        with _written(out):
            folder.chmod(0o755)
            yield folder
            folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _written(out: Path) -> Iterator[None]:
    """A place that cannot be written to is one message."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise DataError(f"cannot write {out}: {why}") from error
