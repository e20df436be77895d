"""What a row may hold, column by column: results may come from anyone, and what lies behind this check is used as it
is.

A file can be whole and sealed, and still hold text that is no UTF-8, a null where a number is needed, JSON of another
shape, a date after the year 9999. Such a row is named with the column, what was found and what was expected. Rules look
at whole Arrow columns, so that good rows cost little. Whether a row contradicts itself is for
`normbench.store.verify`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from normbench.spec.outcome import Status
from normbench.store.texts import AUDIT, FACTS, PARTS, SECONDS, SPEC, Shape

#: Bytes of a name or label; a dataset may be a path. Of a reason, of a log, and of JSON.
NAME, LINE, LONG = 4_096, 65_536, 4_194_304
#: Images of a test set, and other counts.
IMAGES, COUNT = 2**31, 2**53
#: The last millisecond of the year 9999, after which Python has no date.
LAST = 253_402_300_799_999

Mask = NDArray[np.bool_]


def odd(table: pa.Table) -> dict[int, str]:
    """The rows that hold something which no result has, by number, each with the first such thing that was found."""
    found: dict[int, str] = {}
    if not table.num_rows:
        return found  # pyarrow would import pandas, for a second, to make an empty column
    whole = table.combine_chunks()
    for name in whole.column_names:
        start = 0
        for chunk in whole.column(name).chunks:
            for row, told in RULES[name].problems(chunk):
                found.setdefault(start + row, f"column {name}{told}")
            start += len(chunk)
    if {"clean_correct", "test_total", "clean_outcomes"} <= {*whole.column_names}:
        for row in _rows(_unclean(whole)):
            told = "columns clean_correct, test_total, clean_outcomes do not fit each other"
            found.setdefault(row, f"{told}: expected a bit an image, and no more right images than there are")
    return found


@dataclass(frozen=True)
class Rule(ABC):
    """What values may be. `null`: whether there may be none."""

    expected: ClassVar[str]
    null: bool = field(default=False, kw_only=True)

    def problems(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        """(Row, what is wrong with it) of each value that breaks the rule."""
        if array.null_count and not self.null:
            yield from ((row, f" is null, expected {self.told}") for row in _rows(_true(pc.is_null(array))))
        yield from self.wrong(array)

    @property
    def told(self) -> str:
        return self.expected

    @abstractmethod
    def wrong(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        """The same of values that are not null."""


@dataclass(frozen=True)
class Text(Rule):
    """Of at most so many bytes of UTF-8."""

    most: int = NAME
    choices: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        return " or ".join(self.choices) if self.choices else f"text of at most {self.most:,} bytes"

    def wrong(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        for row in _rows(_true(pc.greater(pc.binary_length(array), self.most))):
            yield row, f" has {len(array[row].as_buffer()):,} bytes, expected {self.told}"
        broken = _undecodable(array)
        yield from ((row, f" is no UTF-8, expected {self.told}") for row in broken)
        array = _without(array, broken)
        if self.choices:
            known = pc.is_in(array, pa.array(self.choices, array.type), skip_nulls=True)
            for row in _rows(_true(pc.and_(pc.is_valid(array), pc.invert(known)))):
                yield row, f" is {_shown(array[row])}, expected {self.told}"


@dataclass(frozen=True)
class Json(Rule):
    """JSON of a shape. Each distinct text is read once."""

    shape: Shape = SPEC

    @property
    def told(self) -> str:
        return self.shape.told

    def wrong(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        spoiled = dict(Text(most=LONG).wrong(array))
        yield from spoiled.items()
        array = _without(array, spoiled)
        encoded = self.shape.alike(array).dictionary_encode()
        first: dict[int | None, int] = {}
        for row, index in enumerate(encoded.indices.to_pylist()):
            first.setdefault(index, row)
        told = {i: self.shape.problem(array[row].as_py()) for i, row in first.items() if i is not None}
        if any(told.values()):
            for row, index in enumerate(encoded.indices.to_pylist()):
                if problem := told.get(index):
                    yield row, f" {problem}"


@dataclass(frozen=True)
class Number(Rule):
    """Between two numbers, both included."""

    low: float = 0
    high: float = COUNT
    whole: bool = True

    @property
    def told(self) -> str:
        if self.low == -self.high:
            return "a finite number"
        high = f"{self.high:,}" if self.whole else f"{self.high:g}"
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {high}"

    def wrong(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        kind = array.type
        # A comparison with NaN is false.
        good = pc.and_(
            pc.greater_equal(array, pa.scalar(self.low, kind)), pc.less_equal(array, pa.scalar(self.high, kind))
        )
        for row in _rows(_true(pc.invert(good))):
            yield row, f" is {array[row].as_py():,}, expected {self.told}"


@dataclass(frozen=True)
class Date(Rule):
    expected: ClassVar[str] = "a time from 1970 to 9999"

    def wrong(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        for row, _ in Number(high=LAST).wrong(array.cast(pa.int64())):
            yield row, f" is {array.cast(pa.int64())[row].as_py():,} ms after 1970, expected {self.told}"


@dataclass(frozen=True)
class Anything(Rule):
    """Any value of the column's kind: bytes, truth."""

    expected: ClassVar[str] = "a value"

    def wrong(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        return iter(())


@dataclass(frozen=True)
class Each(Rule):
    """A list, each item of which obeys a rule."""

    expected: ClassVar[str] = "a list"
    item: Rule = Anything()

    def wrong(self, array: pa.Array) -> Iterator[tuple[int, str]]:
        parents = pc.list_parent_indices(array)
        for place, told in self.items(array.flatten()):
            yield parents[place].as_py(), told

    def items(self, values: pa.Array) -> Iterator[tuple[int, str]]:
        """(Item, what is wrong with it)."""
        yield from self.item.problems(values)


@dataclass(frozen=True)
class Records(Each):
    """A list of records. `packed`: a packed bit an example stands in them."""

    fields: Mapping[str, Rule] = field(default_factory=dict)
    packed: bool = False

    def items(self, values: pa.Array) -> Iterator[tuple[int, str]]:
        if values.null_count:
            yield from ((i, " has an item that is null, expected a record") for i in _rows(_true(pc.is_null(values))))
        fields = {name: pc.struct_field(values, name) for name in self.fields}
        for name, rule in self.fields.items():
            yield from ((i, f".{name}{told}") for i, told in rule.problems(fields[name]))
        if self.packed:
            for i in _rows(_unpackable(fields["correct"], fields["total"], fields["outcomes"])):
                yield i, " has correct, total and outcomes that do not fit each other, expected a bit an image"


def _unclean(table: pa.Table) -> Mask:
    """Rows whose clean accuracy cannot be had from what they hold."""
    correct, total, outcomes = (_one(table.column(c)) for c in ("clean_correct", "test_total", "clean_outcomes"))
    return _true(pc.is_valid(correct)) & _unpackable(correct, total, outcomes)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _unpackable(correct: pa.Array, total: pa.Array, outcomes: pa.Array) -> Mask:
    """Where packed outcomes are not those of `total` images, of which `correct` are right; also where one is null."""
    n, right, length = (
        np.asarray(pc.fill_null(a.cast(pa.int64()), -1)) for a in (total, correct, pc.binary_length(outcomes))
    )
    wrong: Mask = (n < 1) | (right < 0) | (right > n) | (length != (np.minimum(n, IMAGES) + 7) // 8)
    if len(wrong) and not wrong.all():
        filled = outcomes.fill_null(b"")
        ends = np.frombuffer(filled.buffers()[1], np.int32)[filled.offset + 1 : filled.offset + len(filled) + 1]
        data = np.frombuffer(filled.buffers()[2] or b"", np.uint8)
        last = data[np.maximum(ends, 1) - 1] if len(data) else np.zeros(len(ends), np.uint8)
        spare = (1 << (-n % 8)) - 1  # bits behind the last image are zero
        wrong |= (length > 0) & ((last & spare) != 0)
    return wrong


def _rows(mask: Mask) -> list[int]:
    found: list[int] = np.flatnonzero(mask).tolist() if mask.any() else []
    return found


def _true(array: pa.Array) -> Mask:
    found: Mask = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return found


def _undecodable(array: pa.Array) -> list[int]:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return [i for i, raw in enumerate(array.cast(pa.binary()).to_pylist()) if raw is not None and _broken(raw)]
    return []


def _without(array: pa.Array, rows: Collection[int]) -> pa.Array:
    """With nulls in the place of some rows, which other checks are not to meet."""
    if not rows:
        return array
    mask = np.zeros(len(array), np.bool_)
    mask[list(rows)] = True
    return pc.if_else(pa.array(mask), pa.scalar(None, array.type), array)


def _broken(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False


def _shown(value: pa.Scalar) -> str:
    text = repr(value.as_py())
    return text if len(text) <= 60 else f"{text[:50]}... ({len(text):,} characters)"


_SHARE = Number(0, 1, whole=False)
_FINITE = Number(-np.finfo(float).max, np.finfo(float).max, whole=False)
_SECONDS = Number(0, 1e12, whole=False)
_MAYBE_SHARE = Number(0, 1, whole=False, null=True)
_MAYBE_FINITE = Number(_FINITE.low, _FINITE.high, whole=False, null=True)
_IMAGES = Number(0, IMAGES, null=True)

_ATTACK = {
    "attack": Text(),
    "threat": Text(),
    "size": Number(0, 1e9, whole=False),
    "correct": Number(0, IMAGES),
    "total": Number(1, IMAGES),
    "accuracy": _SHARE,
    "outcomes": Anything(),
    "seconds": _SECONDS,
    "model_calls": Number(0, 2**62),
    "largest": _MAYBE_FINITE,
}
_ROBUSTNESS = {
    "attack": Text(),
    "threat": Text(),
    "sizes": Each(item=_FINITE),
    "fell_at": Anything(),
    "area": _FINITE,
    "median_size": _MAYBE_FINITE,
}
_HEALTH = {"check": Text(), "passed": Anything(), "evidence": Text(most=LINE)}
_READING = {
    "step": Number(),
    "epoch": Number(0, 1e9, whole=False),
    "measure": Text(),
    "layer": Text(),
    "value": _MAYBE_FINITE,
}

#: The rule of each column of `normbench.store.schema.SCHEMA`.
RULES: dict[str, Rule] = {
    **dict.fromkeys(("suite", "trial_id", "entry", "board", "identity", "source"), Text()),
    "identity_parts": Json(shape=PARTS),
    **dict.fromkeys(("content", "device_class", "precision"), Text(null=True)),
    "spec": Json(shape=SPEC),
    **dict.fromkeys(("dataset", "model", "stem", "norm", "optimizer"), Text()),
    "width": Number(0, 64, whole=False),
    "batch_size": Number(1, 2**31),
    "seed": Number(0, 2**31),
    "stage": Text(choices=("final", "tuning")),
    "epochs": Number(1, 100_000),
    "lr": Number(0, 1000, whole=False),
    "weight_decay": Number(0, 10, whole=False),
    "status": Text(choices=tuple(s.value for s in Status)),
    "reason": Text(most=LINE),
    "log": Text(most=LONG),
    "epoch": Number(),
    "clean_correct": _IMAGES,
    "test_total": _IMAGES,
    "clean_accuracy": _MAYBE_SHARE,
    "clean_outcomes": Anything(null=True),
    "test_loss": _MAYBE_FINITE,
    "train_loss": _MAYBE_FINITE,
    "validation_accuracy": _MAYBE_SHARE,
    "attacks": Records(fields=_ATTACK, packed=True),
    "robustness": Records(fields=_ROBUSTNESS),
    "health": Records(fields=_HEALTH),
    "curves": Records(fields=_READING),
    "measure_seconds": Json(shape=SECONDS),
    "attempts": Number(),
    "audit": Json(shape=AUDIT),
    "provenance": Json(shape=FACTS),
    "started": Date(),
    "wall_seconds": _SECONDS,
    "train_seconds": _SECONDS,
    "images_per_second": Number(0, 1e15, whole=False, null=True),
    "peak_memory": Number(0, 2**62, null=True),
}
