"""Compaction and cleaning: the same rows before and after, at every moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from normbench.plan.identity import identity
from normbench.store.compact import LEFT_OVER, collect, compact, garbage
from normbench.store.files import LocalFiles
from normbench.store.leases import LeaseError, Leases
from normbench.store.merge import export, merge
from normbench.store.schema import SCHEMA
from normbench.store.store import Store, compact_name, to_bytes
from normbench.store.verify import verify

from tests.command import bench
from tests.conftest import MakeTrial
from tests.store.samples import contents, fill, outcome, rows


def _names(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "s").iterdir())


def test_a_compacted_suite_reads_the_same_in_one_file(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    fill(store, make_trial, range(7))
    before = store.table()
    made = compact(store, "s")
    assert (made.rows, made.removed) == (7, 7)
    assert _names(tmp_path) == [str(made.file).partition("/")[2]]
    assert store.table().equals(before)
    assert store.table(columns=["seed", "curves"]).equals(before.select(["seed", "curves"]))
    assert verify(store) == (7, [])
    assert store.suites() == ["s"]
    again = compact(store, "s")
    assert (again.file, again.removed) == (None, 0)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, make_trial: MakeTrial) -> None:
    one, other, third = (Store(tmp_path / n) for n in "abc")
    fill(one, make_trial, range(6))
    fill(other, make_trial, reversed(range(6)))
    fill(third, make_trial, [1, 4])
    for store in (one, other):
        compact(store, "s")
    compact(third, "s")
    fill(third, make_trial, [5, 0, 3, 2])
    compact(third, "s")
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_a_shard_counts_more_than_the_compacted_row(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    fill(store, make_trial, range(3), started=9.0)
    compact(store, "s")
    fill(store, make_trial, [1, 7], started=5.0)  # an earlier clock must not bring the old row back
    assert sorted((r["seed"], r["started"].timestamp()) for r in store.rows()) == [
        (0, 9.0),
        (1, 5.0),
        (2, 9.0),
        (7, 5.0),
    ]
    ids = store.table(columns=["trial_id"]).column("trial_id").to_pylist()
    assert ids == sorted(ids)
    compact(store, "s")
    assert sorted((r["seed"], r["started"].timestamp()) for r in store.rows()) == [
        (0, 9.0),
        (1, 5.0),
        (2, 9.0),
        (7, 5.0),
    ]
    assert len(_names(tmp_path)) == 1


def test_a_compaction_that_is_cut_off_at_any_step_loses_and_doubles_nothing(
    tmp_path: Path, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    fill(store, make_trial, range(3), started=1.0)
    compact(store, "s")
    fill(store, make_trial, [1, 2, 3], started=2.0)
    expected = rows(store)
    real = {n: getattr(LocalFiles, n) for n in ("write", "remove")}
    reached = 0
    for limit in range(20):
        left = limit

        def step(name: str) -> Callable[..., None]:
            def cut(self: LocalFiles, file: str, *rest: bytes) -> None:
                nonlocal left
                if not file.rpartition("/")[2].startswith("."):
                    left -= 1
                    if left < 0:
                        raise KeyboardInterrupt
                real[name](self, file, *rest)

            return cut

        copy = tmp_path / f"copy{limit}"
        for name, content in contents(tmp_path / "s").items():
            LocalFiles(copy).write(f"s/{name}", content)
        for name in real:
            monkeypatch.setattr(LocalFiles, name, step(name))
        try:
            compact(Store(copy), "s")
            done = True
        except KeyboardInterrupt:
            done = False
        monkeypatch.undo()
        assert rows(Store(copy)) == expected, limit
        compact(Store(copy), "s")
        assert rows(Store(copy)) == expected
        assert len(list((copy / "s").iterdir())) == 1
        reached = limit
        if done:
            break
    assert reached == 5  # one write, one compact file and three shards removed


def test_what_cannot_be_read_stays_when_the_rest_is_compacted(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    trials = fill(store, make_trial, range(3))
    bad = store.path("s", trials[0].trial_id)
    bad.write_bytes(bad.read_bytes()[:-9])
    compact(store, "s")
    assert bad.is_file()
    assert len(_names(tmp_path)) == 2
    assert str(bad) in store.problems
    answer = bench("results", "compact", "--results", str(tmp_path), cwd=tmp_path)
    assert answer.returncode == 1
    assert str(bad) in answer.stderr


def test_a_shard_written_while_it_is_compacted_stays(
    tmp_path: Path, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    trials = fill(store, make_trial, range(3), started=1.0)
    real = LocalFiles.write

    def meanwhile(self: LocalFiles, name: str, content: bytes) -> None:
        real(self, name, content)
        if "compact-" in name:
            monkeypatch.undo()
            time.sleep(0.02)  # past the resolution of a file's time
            store.write("s", trials[1], identity(trials[1], None).to_dict(), outcome(7.0))

    monkeypatch.setattr(LocalFiles, "write", meanwhile)
    compact(store, "s")
    assert sorted(r["started"].timestamp() for r in store.rows()) == [1.0, 1.0, 7.0]


def test_a_reader_that_meets_a_compaction_loses_nothing(
    tmp_path: Path, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    fill(store, make_trial, range(4))
    expected = rows(store)
    real = LocalFiles.read
    done = []

    def read(self: LocalFiles, name: str) -> bytes:
        if not done:
            done.append(name)
            compact(Store(tmp_path), "s")
        return real(self, name)

    monkeypatch.setattr(LocalFiles, "read", read)
    assert rows(Store(tmp_path)) == expected
    assert done


def test_nothing_is_compacted_while_a_run_is_on(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    (trial,) = fill(store, make_trial, [0])
    with Leases(store.files, "s", "bench run") as run:
        run.take(["a" * 16])
        with pytest.raises(LeaseError, match=r"bench run \(process \d+ on .*\) is at work"):
            compact(store, "s")
        other = Store(tmp_path / "other")
        fill(other, make_trial, [0, 1], started=5.0)
        assert merge(other, store)["added"] == 1  # of other trials than those that are being run
        run.take([trial.trial_id])
        fill(other, make_trial, [0], started=9.0)
        with pytest.raises(LeaseError):
            merge(other, store)


def test_export_and_merge_cut_shards_out_of_a_compact_file(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path / "a")
    fill(store, make_trial, range(4))
    loose = contents(tmp_path / "a")
    compact(store, "s")
    export(store, Store(tmp_path / "b"))
    assert contents(tmp_path / "b") == loose
    assert merge(store, Store(tmp_path / "c")) == {"added": 4, "replaced": 0, "kept": 0, "marks": 0}
    assert contents(tmp_path / "c") == loose
    assert merge(Store(tmp_path / "c"), store) == {"added": 0, "replaced": 0, "kept": 4, "marks": 0}


def test_a_compact_file_with_foreign_or_doubled_rows_is_named(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    fill(store, make_trial, range(2))
    table = store.table()
    foreign = table.set_column(0, SCHEMA.field("suite"), pa.array(["s", "../../x"]))
    for wrong, message in (
        (pa.concat_tables([table, table]), "sorted by trial_id, each once"),
        (foreign, "'../../x' but lies in 's'"),
    ):
        content = to_bytes(wrong)
        target = tmp_path / "s" / compact_name(content)
        target.write_bytes(content)
        assert len(rows(store)) == 2
        assert message in store.problems[str(target)]
        target.rename(target.with_name(f"compact-{'0' * 16}.parquet"))
        assert len(rows(store)) == 2
        assert any("should be called" in p for p in store.problems.values())


def test_cleaning_names_everything_and_removes_only_when_told(tmp_path: Path, make_trial: MakeTrial) -> None:
    store = Store(tmp_path)
    trials = fill(store, make_trial, range(6))
    compact(store, "s")
    fill(store, make_trial, [4, 5, 6, 7])
    old, young = tmp_path / "s" / ".x.parquet.1.tmp", tmp_path / "s" / ".y.parquet.2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - 2 * LEFT_OVER))
    aside = tmp_path / "s" / ".set-aside" / "z.parquet"
    aside.parent.mkdir()
    aside.write_bytes(b"broken")
    kept = [t.trial_id for t in trials[:2]] + [make_trial(seed=7).trial_id]
    before = contents(tmp_path)
    assert [g.name for g in garbage(store)] == ["s/.x.parquet.1.tmp"]
    found = garbage(store, broken=True, unplanned=("s", kept))
    assert contents(tmp_path) == before
    assert {g.name for g in found} >= {"s/.x.parquet.1.tmp", "s/.set-aside/z.parquet"}
    assert sorted(len(g.trials) for g in found) == [0, 0, 1, 1, 1, 4]
    collect(store, found)
    assert sorted(r["seed"] for r in store.rows()) == [0, 1, 7]
    assert young.is_file()
    assert not old.exists()
    assert not aside.exists()
    assert verify(store)[1] == []


def test_cleaning_by_the_command_is_dry_until_told(tmp_path: Path, make_trial: MakeTrial) -> None:
    fill(Store(tmp_path / "r"), make_trial, range(1))
    aside = tmp_path / "r" / "s" / ".set-aside" / "z.parquet"
    aside.parent.mkdir()
    aside.write_bytes(b"broken")
    dry = bench("results", "gc", "--broken", "--results", "r", cwd=tmp_path)
    assert f"would remove {aside}: set aside" in dry.stdout
    assert aside.is_file()
    wet = bench("results", "gc", "--broken", "--yes", "--results", "r", cwd=tmp_path)
    assert f"removed {aside}" in wet.stdout
    assert not aside.exists()
    assert len(rows(Store(tmp_path / "r"))) == 1
