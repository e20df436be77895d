"""Claims: one of two processes holds a trial, a dead one holds none, and two real runs share a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from normbench.store import leases as module
from normbench.store.files import LocalFiles
from normbench.store.leases import ALL, ClaimError, Claims, machine
from normbench.store.store import Store
from normbench.store.verify import verify

from tests.store.samples import bench

TRIALS = [f"{i:016x}" for i in range(40)]


def test_what_one_holds_another_does_not_get_until_it_ends(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    with Claims(files, "s", "a") as one, Claims(files, "s", "b") as other:
        assert one.take(TRIALS[:3]) == (set(TRIALS[:3]), [])
        mine, theirs = other.take(TRIALS[1:5])
        assert mine == set(TRIALS[3:5])
        assert [c.purpose for c in theirs] == ["a"]
        with pytest.raises(ClaimError, match=r"a \(process \d+ on"):
            other.hold([ALL])
        one.take(TRIALS[:1])  # what it no longer names is free
        assert other.take(TRIALS[1:5])[0] == set(TRIALS[1:5])
    assert list((tmp_path / "s").iterdir()) == []


def test_suites_are_apart(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    with Claims(files, "s", "a") as one, Claims(files, "t", "b") as other:
        one.hold([ALL])
        other.hold([ALL])


def test_no_trial_is_held_twice_when_many_want_it_at_once(tmp_path: Path) -> None:
    held: Counter[str] = Counter()
    barrier, lock, failures = threading.Barrier(6), threading.Lock(), []

    def work(offset: int) -> None:
        try:
            with Claims(LocalFiles(tmp_path), "s", str(offset)) as claims:
                barrier.wait()
                mine, _ = claims.take(TRIALS[offset:] + TRIALS[:offset])
                with lock:
                    held.update(mine)
                barrier.wait()
        except Exception as error:
            failures.append(error)
            barrier.abort()

    for _ in range(5):
        held.clear()
        threads = [threading.Thread(target=work, args=(5 * i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert held == Counter(TRIALS)


def _leave(folder: Path, **changed: object) -> Path:
    claim = {
        "owner": "0" * 32,
        "purpose": "bench run",
        "machine": "elsewhere",
        "host": "h",
        "pid": 1,
        "phase": "holds",
        "beat": 3,
        "time": time.time(),
    }
    path = folder / "s" / f".claim-{'0' * 32}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(claim | {"trials": TRIALS} | changed))
    return path


def test_a_claim_of_a_dead_process_of_this_machine_is_void_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    path = _leave(tmp_path, machine=machine(), pid=process.pid)
    with Claims(LocalFiles(tmp_path), "s", "b") as claims:
        assert claims.take(TRIALS)[0] == set(TRIALS)
    assert not path.exists()


def test_a_claim_of_another_machine_is_void_when_it_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 1.0)
    _leave(tmp_path)
    with Claims(LocalFiles(tmp_path), "s", "b") as claims:
        _, others = claims.take(TRIALS)
        assert len(others) == 1
        began = time.monotonic()
        claims.wait(others, lambda: False)
        assert 0.9 <= time.monotonic() - began < 30
        assert claims.take(TRIALS)[0] == set(TRIALS)


def test_a_claim_that_beats_stays_alive_and_one_of_yesterday_is_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.5)
    monkeypatch.setattr(module, "BEAT", 0.05)
    files = LocalFiles(tmp_path)
    with Claims(files, "s", "a") as one, Claims(files, "s", "b") as other:
        one.take(TRIALS)
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            assert [c.purpose for c in other.others()] == ["a"]
            time.sleep(0.1)
    _leave(tmp_path, time=time.time() - 2 * module.ABANDONED)
    with Claims(files, "s", "c") as third:
        assert third.others() == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"owner": 1}', "\x80\x04N."])
def test_a_file_that_is_no_claim_is_passed_over(tmp_path: Path, text: str) -> None:
    _leave(tmp_path).write_text(text)
    with Claims(LocalFiles(tmp_path), "s", "a") as claims:
        assert claims.take(TRIALS)[0] == set(TRIALS)


SUITE = """
suite: shared
about: A test.
data: {dataset: stripes, image_size: 16}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [bn, gn]
batch_sizes: [16]
widths: [0.125]
seeds: 3
train: {epochs: 2, lr: 0.05}
measures: [weight-norm]
limits: {cpu: 1, time: 5m}
"""


def _start(folder: Path, data_dir: Path, site: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "normbench.cli.main",
        "run",
        "shared.yaml",
        "--results",
        "results",
        "--site",
        site,
        "--jobs",
        "1",
    ]
    environment = os.environ | {"BENCH_DATA": str(data_dir), "COLUMNS": "200"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _until(what: Callable[[], bool], seconds: float = 200) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.2)


def test_two_runs_at_once_run_each_trial_once_and_both_end_with_all(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "shared.yaml").write_text(SUITE)
    runs = [_start(tmp_path, data_dir, site) for site in ("one", "two")]
    texts = [r.communicate(timeout=280)[0] for r in runs]
    assert [r.returncode for r in runs] == [0, 0], texts
    finished = [line for text in texts for line in text.splitlines() if line.startswith("[")]
    assert len(finished) == 6, texts  # 6 trials, each run by one of the two
    assert verify(Store(tmp_path / "results")) == (6, [])
    assert [p.suffix for p in (tmp_path / "results" / "shared").iterdir()] == [".parquet"] * 6
    assert all((tmp_path / site / "index.html").is_file() for site in ("one", "two"))
    if not all(any(line.startswith("[") for line in text.splitlines()) for text in texts):
        assert any("waiting for" in text for text in texts)


@pytest.mark.faults
def test_a_run_takes_over_what_a_killed_one_held(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "shared.yaml").write_text(SUITE)
    first = _start(tmp_path, data_dir, "one")
    folder = tmp_path / "results" / "shared"
    _until(lambda: len(list(folder.glob("*.parquet"))) >= 1)
    busy = bench("results", "compact", "--results", "results", cwd=tmp_path)
    assert busy.returncode == 2
    assert f"bench run (process {first.pid} on" in busy.stderr
    first.kill()
    first.communicate(timeout=60)
    assert list(folder.glob(".claim-*"))
    second = _start(tmp_path, data_dir, "two")
    text = second.communicate(timeout=280)[0]
    assert second.returncode == 0, text
    assert "waiting" not in text
    assert verify(Store(tmp_path / "results")) == (6, [])
    assert not list(folder.glob(".claim-*"))
