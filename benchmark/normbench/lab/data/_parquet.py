"""Parquet files in the hub's layout: a column of encoded images, and one of labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from normbench.lab.data._source import DataError, Shard

_BATCH = 4096
_IMAGES = "encoded images (binary, or a struct with binary `bytes`)"
#: Rows below which a column that was not named may hold another text in each.
_FEW = 20
_LABELS = "integers from 0 on or texts, one a class"

_Fits = Callable[[pa.DataType], bool]


@dataclass(frozen=True)
class ParquetFile(Shard):
    """image, label: columns; None where the type tells them."""

    path: Path
    image: str | None
    label: str | None

    def rows(self) -> int:
        with _read(self.path):
            return int(pq.ParquetFile(self.path).metadata.num_rows)

    def batches(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        with _read(self.path):
            file = pq.ParquetFile(self.path)
            image, label = self._columns(file.schema_arrow)
            for batch in file.iter_batches(batch_size=_BATCH, columns=[image, label]):
                column = batch.column(image)
                blobs = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
                if blobs.null_count or batch.column(label).null_count:
                    raise DataError(f"{self.path}: images and labels must not be null")
                yield blobs.cast(pa.large_binary()) if _view(blobs.type) else blobs, _values(batch.column(label))

    def names(self) -> list[str]:
        """From the schema's `huggingface` metadata."""
        with _read(self.path):
            metadata: dict[bytes, bytes] = pq.read_schema(self.path).metadata or {}
        try:
            features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
            label = self.label or next(k for k, v in features.items() if v.get("_type") == "ClassLabel")
            return [str(name) for name in features[label]["names"]]
        except (KeyError, ValueError, StopIteration, AttributeError, TypeError, RecursionError):
            return []

    def texts(self) -> list[str]:
        with _read(self.path):
            file = pq.ParquetFile(self.path)
            _, label = self._columns(file.schema_arrow)
            if not _text(file.schema_arrow.field(label).type):
                return []
            found: set[str] = set()
            for batch in file.iter_batches(batch_size=_BATCH, columns=[label]):
                found.update(pc.unique(_values(batch.column(label)).drop_null()).to_pylist())
            rows = int(file.metadata.num_rows)
        if self.label is None and len(found) > max(rows, _FEW) // 2:
            raise DataError(
                f"{self.path}: column {label} holds {len(found):,} different texts for {rows:,} images: captions or "
                f"names of files are no labels; if these are, set data.label_column to {label}"
            )
        return sorted(found)

    def _columns(self, schema: pa.Schema) -> tuple[str, str]:
        """The names of the columns with images and labels. A text is a label only where no number can be one."""
        found: list[str] = []
        for role, chosen, kinds, expected in (
            ("image", self.image, (_image(_binary), _image(_view)), _IMAGES),
            ("label", self.label, (pa.types.is_integer, _text), _LABELS),
        ):
            fitting = [[f.name for f in schema if fits(f.type)] for fits in kinds]
            named = next((names for names in fitting if chosen in names), [])
            candidates = named or next(filter(None, fitting), [])
            if chosen is None and len({*candidates}) == 1:
                chosen = candidates[0]
            if chosen is None or chosen not in candidates or schema.names.count(chosen) != 1:
                raise DataError(f"{self.path}: {_no_column(role, chosen, candidates, schema, expected)}")
            found.append(chosen)
        return found[0], found[1]


@contextmanager
def _read(path: Path) -> Iterator[None]:
    """A file that cannot be read is one message."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError(f"cannot read {path} as Parquet: {' '.join(str(error).split())[:200]}") from error


def _image(fits: _Fits) -> _Fits:
    """Whether a column is of that type, or a struct with `bytes` of it."""

    def struct(kind: pa.DataType) -> bool:
        if pa.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" and fits(kind.field(i).type) for i in range(kind.num_fields))
        return fits(kind)

    return struct


def _binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary_view(kind))


def _text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _values(labels: pa.Array) -> pa.Array:
    """Integers as they are; texts of any kind as one."""
    return labels.cast(pa.large_string()) if _text(labels.type) else labels


def _no_column(role: str, chosen: str | None, candidates: list[str], schema: pa.Schema, expected: str) -> str:
    """Why no column can be taken, and what to do about it."""
    held = ", ".join(f"{f.name} ({f.type if f.type.num_fields == 0 else 'nested'})" for f in schema)[:300]
    if not candidates:
        return f"no column holds {role}s: expected {expected}, found {held or 'no columns'}"
    if chosen in schema.names and chosen not in candidates:
        return f"{role} column {chosen}: expected {expected}, found {held}; columns that could be it are " + ", ".join(
            candidates
        )
    if chosen in schema.names:
        return f"{role} column {chosen}: {schema.names.count(chosen)} columns have this name"
    return (
        f"{role} column {chosen or 'not named'}: columns that could be it are {', '.join(candidates)} "
        f"(of {', '.join(schema.names)}); set data.{role}_column"
    )
