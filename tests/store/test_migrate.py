"""Results of schemas 1 and 2, as real runs of that time wrote them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from normbench.plan.identity import identity
from normbench.spec.trial import digest
from normbench.store.files import LocalFiles
from normbench.store.migrate import migrate
from normbench.store.schema import SCHEMA, to_json, trial_of
from normbench.store.store import Store, to_bytes
from normbench.store.verify import verify

from tests.command import bench
from tests.store.samples import FIRST_VERSION, contents

SECOND_VERSION = FIRST_VERSION.with_name("v2")

NEW = {
    *("trial_id", "identity", "identity_parts", "spec", "stage", "measure_seconds", "attempts"),
    *("entry", "board", "content", "source", "device_class", "precision"),
}
SAME = [n for n in SCHEMA.names if n not in NEW]


def sealed_before_3(table: pa.Table) -> bytes:
    """A file as versions 1 and 2 wrote it: with the SHA-256 of its bytes in its footer."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"normbench.sha256": "0" * 64})
    content = buffer.getvalue()
    start = content.rfind(b"normbench.sha256") + len("normbench.sha256") + 2
    return content[:start] + hashlib.sha256(content).hexdigest().encode() + content[start + 64 :]


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


@pytest.mark.parametrize("same", [True, False], ids=["the last code of version 2", "older code"])
@pytest.mark.parametrize("compact", [False, True], ids=["a shard", "a compact file"])
def test_a_row_of_schema_2_is_as_good_as_it_was(tmp_path: Path, same: bool, compact: bool) -> None:
    """One of the code that the recorded digests know is that of the code as it stood then; one of older code is
    stale.
    """
    root = Path(shutil.copytree(SECOND_VERSION, tmp_path / "old"))
    (path,) = root.rglob("*.parquet")
    table = pq.read_table(path)
    row = table.to_pylist()[0]
    if not same:
        parts = json.loads(row["identity_parts"])
        parts["code"]["benchmark.norms.base"] = "0" * 16
        row |= {"identity_parts": to_json(parts), "identity": digest(parts)[:32]}
    rows = [row]
    if compact:
        spec = json.loads(row["spec"]) | {"seed": 77}
        parts = json.loads(row["identity_parts"]) | {"spec": digest(spec)[:16]}
        ids = {"trial_id": digest(spec)[:16], "identity_parts": to_json(parts), "identity": digest(parts)[:32]}
        rows.append(row | {"seed": 77, "spec": to_json(spec), **ids})
        path.unlink()
        path = path.with_name("compact-0123456789abcdef.parquet")
    rows.sort(key=lambda r: r["trial_id"])
    path.write_bytes(sealed_before_3(pa.Table.from_pylist(rows, schema=table.schema)))
    store = Store(root)
    done = migrate(store)
    assert (len(done.moved), done.problems) == (1, {})
    assert verify(store) == (len(rows), [])
    found = sorted(store.rows(), key=lambda r: r["trial_id"])
    assert [{k: r[k] for k in SAME} for r in found] == [{k: r[k] for k in SAME} for r in rows]
    for migrated in found:
        assert (migrated["device_class"], migrated["precision"]) == ("cpu", "float32")
        parts = json.loads(migrated["identity_parts"])
        changes = identity(trial_of(migrated), migrated["content"]).changes_since(parts, accept_versions=True)
        assert bool(changes) is not same
    assert (migrate(store).moved, len(list(root.rglob("*.parquet")))) == ({}, 1)


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
    other.write_bytes(sealed_before_3(forged.cast(table.schema).replace_schema_metadata(version)))
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
