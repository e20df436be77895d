"""One folder of results, read and written: which file counts, and what is said of those that do not."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.spec.outcome import Outcome, Status
from normbench.store import store as stores
from normbench.store.files import LocalFiles
from normbench.store.schema import SCHEMA, SCHEMA_VERSION, VERSION_KEY, to_row
from normbench.store.seal import KEY, seals
from normbench.store.store import (
    ASIDE,
    Store,
    StoreError,
    VersionError,
    _latest,
    compact_name,
    is_compact,
    shard_name,
    to_bytes,
    version_of,
)

from tests.conftest import MakeTrial
from tests.site import synthetic

IDENTITY = {"hash": "h" * 32, "spec": "s", "data": "d", "code": {}, "protocol": 1, "versions": {}}
IDS = [f"{i:016x}" for i in range(6)]
TRIAL = synthetic.trial()
#: A row that holds what rows hold; whose it is, is told apart by its id alone.
WHOLE = to_row("s", TRIAL, synthetic.identity(TRIAL), Outcome(status=Status.ERROR))


def _row(trial_id: str, suite: str = "s", **columns: Any) -> dict[str, Any]:
    return WHOLE | {"suite": suite, "trial_id": trial_id} | columns


def _table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def _put(root: Path, name: str, content: bytes) -> str:
    """Write a file, and return how messages call it."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
    return str(root / name)


def _shard(root: Path, row: dict[str, Any]) -> bytes:
    content = to_bytes(_table(row))
    _put(root, f"{row['suite']}/{row['trial_id']}.parquet", content)
    return content


def _compact(root: Path, *rows: dict[str, Any]) -> str:
    content = to_bytes(_table(*rows))
    _put(root, name := f"s/{compact_name(content)}", content)
    return name


def _sealed(table: pa.Table, said: dict[str, str], **options: Any) -> bytes:
    """A file of this schema's version that says `said` of its columns."""
    about = {VERSION_KEY: str(SCHEMA_VERSION).encode(), KEY: json.dumps(said).encode()}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(about), buffer, **options)
    return buffer.getvalue()


def test_suites_are_folders_with_results_and_a_suites_name(tmp_path: Path) -> None:
    for name in ("s", "a-b_1"):
        _shard(tmp_path, _row(IDS[0], name))
    for name in (".hidden/x.parquet", "file.parquet", "empty/README.md", "b/.parquet/x", "Upper/x.parquet", "Upper2/x"):
        _put(tmp_path, name, b"")
    store = Store(tmp_path)
    assert store.suites() == ["a-b_1", "b", "s"], "b holds a name that ends like a shard's"
    assert store.problems == {str(tmp_path / "Upper"): "is not a suite's name (lower-case letters, digits, - and _)"}


def test_a_shard_is_a_file_with_that_ending(tmp_path: Path) -> None:
    for name in ("s/b.parquet", "s/a.parquet", "s/.c.parquet", "s/d.parquet.tmp", "s/e.parquet/x"):
        _put(tmp_path, name, b"")
    assert Store(tmp_path).shards("s") == ["s/a.parquet", "s/b.parquet"]
    with pytest.raises(StoreError) as refused:
        Store(tmp_path).shards("../s")
    assert str(refused.value) == "'../s' is no name of a suite (lower-case letters, digits, - and _)"


def test_rows_are_ordered_restricted_and_carry_times_of_python(tmp_path: Path) -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    for suite, trial_id, started in (("t", IDS[0], began), ("s", IDS[3], began), ("s", IDS[1], began)):
        _shard(tmp_path, _row(trial_id, suite, started=started, seed=4))
    store = Store(tmp_path)
    assert store.table().schema.equals(SCHEMA, check_metadata=True)
    assert store.table(columns=["seed", "suite"]).schema.metadata == SCHEMA.metadata
    assert [(r["suite"], r["trial_id"]) for r in store.rows()] == [("s", IDS[1]), ("s", IDS[3]), ("t", IDS[0])]
    assert list(store.rows(["t"], ["seed"])) == [{"seed": 4}]
    assert list(store.rows(["none"], ["seed"])) == []
    times = [r["started"] for r in store.rows(["s"], ["started"])]
    assert times == [began, began]
    assert times[0].tzinfo is UTC
    assert list(store.rows(["s"], [])) == []


def test_what_is_extracted_is_the_shard_as_it_lies_or_as_it_was(tmp_path: Path) -> None:
    rows = [_row(i, seed=k) for k, i in enumerate(IDS)]
    _compact(tmp_path, *rows[:4])
    other_bytes = _sealed(_table(rows[4]), seals(_table(rows[4])), compression="none")
    _put(tmp_path, f"s/{IDS[4]}.parquet", other_bytes)
    store = Store(tmp_path)
    assert dict(store.extract("s", [IDS[2], IDS[4], IDS[0]])) == {
        IDS[2]: to_bytes(_table(rows[2])),
        IDS[4]: other_bytes,
        IDS[0]: to_bytes(_table(rows[0])),
    }


@given(st.lists(st.tuples(st.sampled_from(IDS[:3]), st.sampled_from([None, -5, 0, 1, 7]), st.booleans()), min_size=1))
def test_a_trials_own_shard_counts_then_the_latest_then_the_last(rows: list[tuple[str, int | None, bool]]) -> None:
    ids, started, loose = zip(*rows, strict=True)
    table = pa.table({"trial_id": ids, "started": pa.array(started, pa.timestamp("ms", "UTC")), "at": range(len(rows))})
    best = {i: max((own, began or 0, at) for at, (of, began, own) in enumerate(rows) if of == i)[2] for i in set(ids)}
    assert _latest(table, loose).column("at").to_pylist() == [best[i] for i in sorted(best)]


def test_of_two_compact_files_the_later_row_is_read(tmp_path: Path) -> None:
    old, new = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
    _compact(tmp_path, _row(IDS[0], started=old, seed=1), _row(IDS[1], started=new, seed=2))
    _compact(tmp_path, _row(IDS[0], started=new, seed=3), _row(IDS[1], started=old, seed=4), _row(IDS[2], seed=5))
    _shard(tmp_path, _row(IDS[2], started=old, seed=6))
    assert [r["seed"] for r in Store(tmp_path).rows(columns=["seed"])] == [3, 2, 6]


def test_a_shard_counts_beside_a_single_compact_file(tmp_path: Path) -> None:
    _compact(tmp_path, _row(IDS[0], seed=1), _row(IDS[1], seed=2))
    _shard(tmp_path, _row(IDS[0], seed=3))
    assert [r["seed"] for r in Store(tmp_path).rows(columns=["seed"])] == [3, 2]


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _shard(tmp_path, _row(IDS[0]))
    _put(tmp_path, f"s/{IDS[1]}.parquet", b"broken")
    _put(tmp_path, f"s/{IDS[2]}.parquet", _misplaced("t", IDS[2]))
    asked, read = [], LocalFiles.read
    monkeypatch.setattr(LocalFiles, "read", lambda self, name: asked.append(name) or read(self, name))
    store = Store(tmp_path)
    assert store.table().num_rows == 1
    assert sorted(asked) == store.shards("s")


def test_only_the_columns_that_are_read_are_checked(tmp_path: Path) -> None:
    table = _table(_row(IDS[0], seed=3))
    _put(tmp_path, f"s/{IDS[0]}.parquet", _sealed(table, seals(table) | {"norm": "0"}))
    store = Store(tmp_path)
    assert list(store.rows(columns=["seed"])) == [{"seed": 3}]
    assert list(store.rows(columns=["norm"])) == []


def test_a_problem_is_forgotten_when_the_file_is_mended(tmp_path: Path) -> None:
    table = _table(_row(IDS[0]))
    newer = table.replace_schema_metadata({VERSION_KEY: b"99"})
    where = str(tmp_path / "s" / f"{IDS[0]}.parquet")
    (tmp_path / "s").mkdir()
    pq.write_table(newer, where)
    store = Store(tmp_path)
    assert store.read(f"s/{IDS[0]}.parquet") is None
    newest = f"is of a newer normbench: upgrade to read it (schema 99, this version reads {SCHEMA_VERSION})"
    assert (store.problems, store.versions) == ({where: newest}, {where: 99})
    _shard(tmp_path, _row(IDS[0]))
    read = store.read(f"s/{IDS[0]}.parquet")
    assert read is not None
    assert read.equals(table)
    assert (store.problems, store.versions) == ({}, {})
    with pytest.raises(FileNotFoundError):
        store.read("s/none.parquet")


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (99, f"is of a newer normbench: upgrade to read it (schema 99, this version reads {SCHEMA_VERSION})"),
        (2, f"is of an older normbench: `bench results migrate` brings it to schema {SCHEMA_VERSION} (found 2)"),
        (0, f"has no known schema version (this version reads {SCHEMA_VERSION})"),
    ],
)
def test_a_file_of_another_version_says_what_to_do(version: int, text: str) -> None:
    error = VersionError(version)
    assert (str(error), error.version) == (text, version)


@pytest.mark.parametrize(("said", "version"), [(b"12", 12), (b"x", 0), (b"", 0), (b"-1", 0), (None, 0)])
def test_a_version_is_a_number_that_the_file_says(said: bytes | None, version: int) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(None if said is None else {VERSION_KEY: said}), buffer)
    assert version_of(pq.ParquetFile(buffer)) == version


def _misplaced(suite: str, *ids: str | None) -> bytes:
    return to_bytes(_table(*(WHOLE | {"suite": suite, "trial_id": i} for i in ids)))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (f"{IDS[0]}.parquet", _misplaced("t", IDS[0]), "it is of suite 't' but lies in 's'"),
        (f"{IDS[0]}.parquet", _misplaced("s", "../x"), "its trial_id is none (16 hexadecimal digits)"),
        (f"{IDS[0]}.parquet", _misplaced("s", None), "column trial_id is null, expected text of at most 4,096 bytes"),
        (f"{IDS[0]}.parquet", _misplaced("s", IDS[0], IDS[1]), "it holds 2 rows; a shard holds one"),
        (f"{IDS[0]}.parquet", _misplaced("s", IDS[1]), f"it should be called {IDS[1]}.parquet"),
        (
            f"{IDS[0]}.parquet",
            to_bytes(_table(_row(IDS[0], "t"), _row(IDS[1], "u"))),
            "it is of suite 't', 'u' but lies in 's'",
        ),
        ("", _misplaced("s", IDS[1], IDS[0]), "its rows are not sorted by trial_id, each once"),
        ("", _misplaced("s", IDS[0], IDS[0]), "its rows are not sorted by trial_id, each once"),
        (
            "compact-0123456789abcdef.parquet",
            _misplaced("s", IDS[0]),
            f"it should be called {compact_name(_misplaced('s', IDS[0]))}: it is another file's content",
        ),
        (
            f"{IDS[0]}.parquet",
            _sealed(pa.table({"trial_id": IDS[:1], "suite": ["s"]}), {}),
            f"it lacks the columns {', '.join(n for n in SCHEMA.names if n not in ('suite', 'trial_id'))}"[:300],
        ),
    ],
)
def test_a_file_whose_rows_do_not_belong_there_is_named(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    where = _put(tmp_path, f"s/{name or compact_name(content)}", content)
    _shard(tmp_path, _row(IDS[5]))
    store = Store(tmp_path)
    assert store.table().column("trial_id").to_pylist() == [IDS[5]]
    assert store.problems == {where: problem}


@pytest.mark.parametrize(
    ("wrong", "told"), [(["suite"], "suite"), (SCHEMA.names[2:5], "entry, board, identity"), (SCHEMA.names[1:5], None)]
)
def test_a_column_that_does_not_fit_its_seal_is_named(tmp_path: Path, wrong: list[str], told: str | None) -> None:
    table = _table(_row(IDS[0]))
    where = _put(tmp_path, f"s/{IDS[0]}.parquet", _sealed(table, seals(table) | dict.fromkeys(wrong, "0")))
    store = Store(tmp_path)
    assert store.table().num_rows == 0
    text = "its checksum does not fit its content: it was damaged or changed after it was written "
    assert store.problems == {where: f"{text}({told or 'trial_id, entry, board, ...'})"}


def test_what_cannot_be_read_is_set_aside_under_a_free_name(tmp_path: Path, make_trial: MakeTrial) -> None:
    trial, store = make_trial(), Store(tmp_path)
    name = f"{trial.trial_id}.parquet"
    for content in (b"first", b"second", _misplaced("t", trial.trial_id)):
        _put(tmp_path, f"s/{name}", content)
        path = store.write("s", trial, IDENTITY, Outcome(status=Status.OK))
        store.write("s", trial, IDENTITY, Outcome(status=Status.OK))
    aside = {p.name: p.read_bytes() for p in (tmp_path / "s" / ASIDE).iterdir()}
    assert aside == {name: b"first", f"{name}.1": b"second", f"{name}.2": _misplaced("t", trial.trial_id)}
    assert path == tmp_path / "s" / name
    assert [r["trial_id"] for r in store.rows(["s"])] == [trial.trial_id]
    told = "was set aside: it could not be read when its trial was run again"
    assert store.problems == {str(tmp_path / "s" / ASIDE / n): told for n in aside}
    path.unlink()
    alone = Store(tmp_path)
    assert alone.table(["s"]).num_rows == 0
    assert alone.problems == store.problems


def test_what_the_system_refuses_is_one_message(tmp_path: Path, make_trial: MakeTrial) -> None:
    _put(tmp_path, "file", b"")
    (tmp_path / "s" / "folder").mkdir(parents=True)
    store, trial = Store(tmp_path), make_trial()
    shard, long = tmp_path / "file" / f"{trial.trial_id}.parquet", "x" * 300
    for ask, text in (
        (
            lambda: store.write("file", trial, IDENTITY, Outcome(status=Status.OK)),
            f"cannot write the result of a trial to {shard}: Not a directory",
        ),
        (lambda: store.put("file/x", b""), f"cannot write {tmp_path / 'file' / 'x'}: Not a directory"),
        (lambda: store.drop("s/folder"), f"cannot remove {tmp_path / 's' / 'folder'}: Is a directory"),
        (lambda: store.entries(long), f"cannot list the results folder {tmp_path / long}: File name too long"),
        (lambda: shard_name("s", "../x"), "'../x' is no id of a trial (16 hexadecimal digits)"),
        (lambda: shard_name("S", IDS[0]), "'S' is no name of a suite (lower-case letters, digits, - and _)"),
    ):
        with pytest.raises(StoreError) as refused:
            ask()
        assert str(refused.value) == text


def test_files_are_put_and_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("s/x", b"content")
    assert (tmp_path / "s" / "x").read_bytes() == b"content"
    store.drop("s/x")
    assert [e.name for e in store.entries("s")] == []


def test_a_file_is_compressed_sealed_and_cut_into_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.concat_tables([_table(_row(i)) for i in IDS[:5]])
    monkeypatch.setattr(stores, "ROW_GROUP", 2)
    file = pq.ParquetFile(pa.BufferReader(to_bytes(table)))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 1]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.metadata.metadata[KEY] == json.dumps(seals(table)).replace(" ", "").encode()
    assert version_of(file) == SCHEMA_VERSION
    assert file.read().equals(table)


def test_compact_files_are_named_by_their_rows(tmp_path: Path) -> None:
    name = _compact(tmp_path, _row(IDS[0]))
    assert is_compact(name)
    assert is_compact(name.partition("/")[2])
    assert not is_compact(f"s/{IDS[0]}.parquet")
    table = _table(_row(IDS[0]))
    assert compact_name(_sealed(table, seals(table), compression="none")) == name.partition("/")[2]
    assert compact_name(to_bytes(_table(_row(IDS[1])))) != name.partition("/")[2]
