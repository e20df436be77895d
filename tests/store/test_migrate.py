"""Results of schema 1, as a real run of that time wrote them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from normbench.store.files import LocalFiles
from normbench.store.migrate import migrate
from normbench.store.schema import SCHEMA, trial_of
from normbench.store.store import Store, to_bytes
from normbench.store.verify import verify

from tests.store.samples import FIRST_VERSION, bench, contents

SAME = [
    n
    for n in SCHEMA.names
    if n not in {"trial_id", "identity", "identity_parts", "spec", "stage", "measure_seconds", "attempts"}
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIRST_VERSION, tmp_path / "old"))


def test_what_was_measured_is_kept_and_the_rest_is_of_now(old: Path) -> None:
    before = {r["norm"]: r for p in old.rglob("*.parquet") for r in pq.read_table(p).to_pylist()}
    store = Store(old)
    done = migrate(store)
    assert (len(done.moved), done.superseded, done.problems) == (2, {}, {})
    assert verify(store) == (2, [])
    assert not store.problems
    assert {n: {k: r[k] for k in SAME} for r in store.rows() for n in [r["norm"]]} == {
        n: {k: r[k] for k in SAME} for n, r in before.items()
    }
    assert {(r["stage"], r["attempts"], trial_of(r).stage) for r in store.rows()} == {("final", 1, "final")}
    once = contents(old)
    again = migrate(store)
    assert (again.moved, again.problems) == ({}, {})
    assert contents(old) == once


def test_reading_names_the_command_that_migrates_and_a_run_refuses(old: Path) -> None:
    store = Store(old)
    assert list(store.rows()) == []
    assert all("bench results migrate" in p for p in store.problems.values())
    assert sorted(store.versions.values()) == [1, 1]
    before = contents(old)
    answer = bench("run", "digits", "--results", str(old), cwd=old.parent)
    assert answer.returncode == 2
    assert f"bench results migrate {old}" in answer.stderr
    assert contents(old) == before


def test_a_newer_shard_is_refused_by_a_run_and_left_out_by_a_reader(old: Path) -> None:
    migrate(Store(old))
    path = next((old / "digits").glob("*.parquet"))
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"normbench.schema_version": b"99"}), path)
    before = contents(old)
    answer = bench("run", "digits", "--results", str(old), cwd=old.parent)
    assert answer.returncode == 2
    assert "upgrade normbench" in answer.stderr
    assert contents(old) == before
    status = bench("status", "digits", "--results", str(old), cwd=old.parent)
    assert status.returncode == 0
    assert f"{path} is left out: is of a newer normbench" in status.stderr


def test_a_changed_shard_is_not_given_a_fresh_seal(old: Path) -> None:
    one, other = sorted(old.rglob("*.parquet"))
    content = bytearray(one.read_bytes())
    content[len(content) // 2] ^= 1
    one.write_bytes(content)
    table = pq.read_table(other)
    forged = table.set_column(
        table.column_names.index("spec"), "spec", pa.array([table["spec"][0].as_py().replace('"seed":', '"seed":1')])
    )
    version = {b"normbench.schema_version": b"1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("normbench.store.store.SCHEMA", table.schema.with_metadata(version))
        other.write_bytes(to_bytes(forged.cast(table.schema).replace_schema_metadata(version)))
    before = contents(old)
    done = migrate(Store(old))
    assert not done.moved
    assert "checksum" in done.problems[one.relative_to(old).as_posix()]
    assert "not those of its specification" in done.problems[other.relative_to(old).as_posix()]
    assert contents(old) == before
    answer = bench("results", "migrate", str(old), cwd=old.parent)
    assert answer.returncode == 1
    assert str(one) in answer.stderr


@pytest.mark.parametrize("after", ["write", "remove"])
def test_a_migration_that_is_cut_off_goes_on(old: Path, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    """Whichever operation is the last: no result is lost, and repeating it ends well."""
    real = getattr(LocalFiles, after)
    calls = []

    def cut(self: LocalFiles, name: str, *rest: bytes) -> None:
        real(self, name, *rest)
        if not name.rpartition("/")[2].startswith("."):
            calls.append(name)
            raise KeyboardInterrupt

    monkeypatch.setattr(LocalFiles, after, cut)
    with pytest.raises(KeyboardInterrupt):
        migrate(Store(old))
    monkeypatch.undo()
    assert calls
    assert len(list(old.rglob("*.parquet"))) == (3 if after == "write" else 2)
    migrate(Store(old))
    assert verify(Store(old)) == (2, [])
    assert len(list(old.rglob("*.parquet"))) == 2


def test_a_later_result_of_the_same_trial_stays(old: Path) -> None:
    (path,) = (old / "digits").glob("*.parquet")
    first = path.read_bytes()
    store = Store(old)
    migrate(store)
    (row,) = store.rows(["digits"])
    later = pa.Table.from_pylist([row | {"started": row["started"].replace(year=2030)}], schema=SCHEMA)
    store.path("digits", row["trial_id"]).write_bytes(to_bytes(later))
    path.write_bytes(first)
    done = migrate(store)
    assert done.superseded == {f"digits/{path.name}": f"digits/{row['trial_id']}.parquet"}
    assert [r["started"].year for r in store.rows(["digits"])] == [2030]
