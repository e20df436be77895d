"""Full disks, folders that cannot be written to, damaged shards in the way of a run: a clear stop or a report, and no
earlier row lost.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from normbench.errors import BenchError
from normbench.plan.identity import identity
from normbench.spec.trial import Trial
from normbench.store.compact import compact
from normbench.store.store import Store, StoreError

from tests.command import bench
from tests.conftest import MakeTrial
from tests.store.samples import contents, fill, outcome, rows

SUITE = """
suite: s
about: A test.
data: {dataset: stripes, image_size: 16}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [bn]
batch_sizes: [16]
widths: [0.125]
seeds: 2
train: {epochs: 1, lr: 0.05}
limits: {cpu: 1, time: 5m}
"""


def _mount(target: Path, options: str, *flags: str) -> None:
    target.mkdir(exist_ok=True)
    answer = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, *flags, "tmpfs", str(target)], capture_output=True, text=True
    )
    if answer.returncode:
        pytest.skip(f"needs the right to mount: {answer.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    if not shutil.which("mount"):
        pytest.skip("needs mount")
    target = tmp_path / "disk"
    _mount(target, "size=256k")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


def test_a_full_disk_stops_before_anything_is_lost(small_disk: Path, make_trial: MakeTrial) -> None:
    store = Store(small_disk / "results")
    kept: list[Trial] = []

    def fill_up() -> None:
        while len(kept) < 100:
            kept.extend(fill(store, make_trial, [len(kept)]))

    with pytest.raises(StoreError, match="No space left on device"):
        fill_up()
    assert 1 <= len(kept) < 100
    fresh = Store(small_disk / "results")
    assert sorted(r["seed"] for r in rows(fresh)) == [t.seed for t in kept]
    assert not fresh.problems
    before = contents(small_disk)
    with pytest.raises(StoreError, match="No space left"):
        fresh.write("s", kept[0], identity(kept[0], None).to_dict(), outcome(5.0))  # one that is replaced
    with pytest.raises(BenchError, match="No space left"):
        compact(fresh, "s")
    assert {n: c for n, c in contents(small_disk).items() if not n.rpartition("/")[2].startswith(".lease-")} == before


@pytest.mark.faults
def test_a_run_on_a_full_disk_says_so_and_ends(small_disk: Path, tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    run = ["run", "s.yaml", "--results", str(small_disk / "results"), "--site", str(tmp_path / "site")]
    assert bench(*run, "--only", "seed=0", cwd=tmp_path, BENCH_DATA=str(data_dir)).returncode == 0
    before = contents(small_disk)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            file.truncate(file.tell() - 8192)  # room for a run's two leases, none for a shard
    answer = bench(*run, cwd=tmp_path, BENCH_DATA=str(data_dir))
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert "bench: cannot write" in answer.stderr
    assert "No space left on device" in answer.stderr
    assert "Traceback" not in answer.stderr
    filler.unlink()
    assert contents(small_disk) == before
    assert bench(*run, cwd=tmp_path, BENCH_DATA=str(data_dir)).returncode == 0
    assert sorted(r["seed"] for r in rows(Store(small_disk / "results"))) == [0, 1]


def test_a_folder_that_cannot_be_written_to_stops_a_run_before_it_trains(
    tmp_path: Path, data_dir: Path, make_trial: MakeTrial
) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    source, target = tmp_path / "source", tmp_path / "locked"
    fill(Store(source), make_trial, [0])
    _mount(target, "size=1m")
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(target)], check=True)
        answer = bench(
            "run",
            "s.yaml",
            "--results",
            str(target),
            "--site",
            str(tmp_path / "site"),
            cwd=tmp_path,
            BENCH_DATA=str(data_dir),
        )
        assert answer.returncode == 2, answer.stdout + answer.stderr
        assert f"bench: cannot write to the results folder {target}: Read-only file system" in answer.stderr
        assert "Traceback" not in answer.stderr
        assert "trial at a time" not in answer.stdout
        assert (
            bench("status", "s.yaml", "--results", str(target), cwd=tmp_path, BENCH_DATA=str(data_dir)).returncode == 0
        )
        assert contents(target) == contents(source)
    finally:
        subprocess.run(["umount", "-l", str(target)], check=True)


def test_a_shard_that_cannot_be_read_is_set_aside_by_the_run_that_replaces_it(
    tmp_path: Path, make_trial: MakeTrial
) -> None:
    store = Store(tmp_path)
    trials = fill(store, make_trial, [0, 1])
    path = store.path("s", trials[0].trial_id)
    for attempt in range(3):
        broken = b"broken %d" % attempt
        path.write_bytes(broken)
        store.write("s", trials[0], identity(trials[0], None).to_dict(), outcome(9.0))
        assert broken in contents(tmp_path / "s" / ".set-aside").values()
    assert len(contents(tmp_path / "s" / ".set-aside")) == 3
    fresh = Store(tmp_path)
    assert len(rows(fresh)) == 2
    assert [p for p in fresh.problems if ".set-aside" in p] == list(
        fresh.problems
    )  # told each time, until `gc --broken`
    assert len(fresh.problems) == 3


@pytest.mark.faults
def test_a_run_meets_damaged_shards_and_goes_on(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    run = ["run", "s.yaml", "--results", "results", "--site", "site"]
    assert bench(*run, cwd=tmp_path, BENCH_DATA=str(data_dir)).returncode == 0
    shards = sorted((tmp_path / "results" / "s").glob("*.parquet"))
    damaged = shards[0].read_bytes()[:-40]
    shards[0].write_bytes(damaged)
    (tmp_path / "results" / "s" / "stranger.parquet").write_text("hello")
    again = bench(*run, cwd=tmp_path, BENCH_DATA=str(data_dir))
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{shards[0]} is left out" in again.stderr
    assert "stranger.parquet is left out" in again.stderr
    assert "1 cached, 1 missing" in again.stdout
    store = Store(tmp_path / "results")
    assert len(rows(store)) == 2
    assert (tmp_path / "results" / "s" / ".set-aside" / shards[0].name).read_bytes() == damaged


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_any_file_is_reported_or_harmless(
    tmp_path: Path, make_trial: MakeTrial, data: st.DataObject
) -> None:
    """Flipped, cut, lengthened, doubled, emptied or swapped: of a shard or of a compact file. Rows of other files
    always stay.
    """
    root = tmp_path / "r"
    if not root.is_dir():
        store = Store(root)
        fill(store, make_trial, range(3))
        compact(store, "s")
        fill(store, make_trial, range(3, 6))
    whole = contents(root)
    expected = {r["trial_id"]: r for r in rows(Store(root))}
    name = data.draw(st.sampled_from(sorted(whole)))
    content = bytearray(whole[name])
    match data.draw(st.sampled_from(["flip", "cut", "lengthen", "insert", "swap", "zero"])):
        case "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "lengthen":
            content += data.draw(st.binary(min_size=1, max_size=20))
        case "insert":
            at = data.draw(st.integers(0, len(content)))
            content[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        case "swap":
            content = bytearray(whole[data.draw(st.sampled_from(sorted(whole)))])
        case "zero":
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + 64] = bytes(len(content[at : at + 64]))
    try:
        (root / name).write_bytes(content)
        store = Store(root)
        found = {r["trial_id"]: r for r in rows(store)}
    finally:
        (root / name).write_bytes(whole[name])
    assert all(expected[t] == row for t, row in found.items())
    lost = len(expected) - len(found)
    assert lost == 0 or (list(store.problems) == [str(root / name)] and lost == (3 if "compact" in name else 1))
