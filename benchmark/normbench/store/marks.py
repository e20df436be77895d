"""Marks: what re-runs said of stored results. They lie beside the results in `results/<suite>/reproductions.jsonl`.

Each line is a mark with the SHA-256 of its own content. Lines stand in the order of trials, so that two pull requests
that add marks seldom touch the same place; they are added and never changed. A mark names its shard's row by a digest,
so a shard that is replaced has no mark.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from normbench.spec.trial import Value, digest
from normbench.store.files import Files
from normbench.store.levels import Level
from normbench.store.reading import StoreError, told
from normbench.store.schema import to_json
from normbench.store.store import TRIAL_ID, Store, fingerprint_of

FILE = "reproductions.jsonl"
_SEAL = "seal"


class Compared(Value):
    """One number of a result and the same number of a re-run; None where it was not finite."""

    what: str
    expected: float | None
    found: float | None
    tolerance: float
    """Largest difference that counts as the same, in the number's own unit."""

    @property
    def holds(self) -> bool:
        if self.expected is None or self.found is None:
            return self.expected is self.found
        return abs(self.expected - self.found) <= self.tolerance


class Mark(Value):
    """One re-run that gave what a stored result says."""

    trial_id: str
    shard: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the shard's row (see `normbench.store.seal`)."""
    level: Literal[Level.SMOKE, Level.RERUN]
    extent: str
    """What was run again: `first 10 steps`, `whole trial`."""
    compared: tuple[Compared, ...]
    when: AwareDatetime
    provenance: dict[str, Any]
    """Commit, versions and machine of the re-run."""


def read(files: Files, suite: str) -> tuple[list[Mark], list[str]]:
    """The marks of a suite's folder, and a message for each line that holds none."""
    marks, problems = [], []
    try:
        lines = _lines(files, suite)
    except OSError as error:
        return [], [told(error)]
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            seal = content.pop(_SEAL)
            mark, sealed = Mark.model_validate(content), seal == digest(content)
        except (ValidationError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            problems.append(f"line {number} is no mark")
            continue
        if sealed:
            marks.append(mark)
        else:
            problems.append(f"line {number} was changed after it was written")
    return marks, problems


def add(files: Files, suite: str, marks: Iterable[Mark]) -> int:
    """Add marks to a suite's folder and return how many are new. Marks that the folder has already stay as they are.
    Raises `StoreError`.
    """
    try:
        there = _lines(files, suite)
    except OSError as error:
        raise StoreError(f"cannot add marks to {files.where(f'{suite}/{FILE}')}: {told(error)}") from error
    new = [line for line in dict.fromkeys(_line(m) for m in marks) if line not in set(there)]
    if new:
        files.write(f"{suite}/{FILE}", "".join(f"{line}\n" for line in sorted([*there, *new], key=_place)).encode())
    return len(new)


def about(store: Store, suite: str, marks: Iterable[Mark]) -> list[Mark]:
    """Those of `marks` that are about a shard as it is now. Compaction does not change a shard's digest."""
    wanted = {m.trial_id for m in marks if TRIAL_ID.fullmatch(m.trial_id)}
    if not wanted:
        return []
    there = sorted(wanted & {r["trial_id"] for r in store.rows([suite], ["trial_id"])})
    shards = {trial_id: fingerprint_of(content) for trial_id, content in store.extract(suite, there)}
    return [m for m in marks if m.shard == shards.get(m.trial_id)]


def valid(store: Store, suites: Iterable[str] | None = None) -> dict[tuple[str, str], tuple[Mark, ...]]:
    """The marks of each (suite, trial) that are about the shard as it is now, oldest first. Lines that hold no mark go
    to `store.problems`.
    """
    found: dict[tuple[str, str], list[Mark]] = {}
    for suite in store.suites() if suites is None else suites:
        marks, problems = read(store.files, suite)
        if problems:
            store.problems[store.files.where(f"{suite}/{FILE}")] = "; ".join(problems)
        for mark in sorted(about(store, suite, marks), key=lambda m: m.when):
            found.setdefault((suite, mark.trial_id), []).append(mark)
    return {key: tuple(marks) for key, marks in found.items()}


def level_of(marks: Iterable[Mark]) -> Level:
    """The level of trust that the best of the marks gives a result."""
    return max((m.level for m in marks), key=lambda level: level.height, default=Level.SELF_REPORTED)


def with_levels(
    store: Store, rows: Iterable[Mapping[str, Any]], suites: Iterable[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of `store` with the column `level` that boards read."""
    marks = valid(store, suites)
    for row in rows:
        yield {**row, "level": level_of(marks.get((row["suite"], row["trial_id"]), ()))}


def _lines(files: Files, suite: str) -> list[str]:
    try:
        text = files.read(f"{suite}/{FILE}").decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [line for line in text.split("\n") if line.strip()]


def _line(mark: Mark) -> str:
    content = mark.model_dump(mode="json")
    return to_json(content | {_SEAL: digest(content)})


def _place(line: str) -> tuple[str, str]:
    """Where a line stands: by trial; lines that cannot be read come last, as they are."""
    try:
        content = json.loads(line)
        return str(content["trial_id"]), str(content["when"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "~", line
