"""Leases: one of two processes holds a trial, a dead one holds none, and two real runs share a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from normbench.store import leases as module
from normbench.store.compact import collect, garbage
from normbench.store.files import Files, LocalFiles, open_files
from normbench.store.leases import ALL, LeaseError, Leases, machine
from normbench.store.store import Store
from normbench.store.verify import verify

from tests.command import bench
from tests.matrix import sample

TRIALS = [f"{i:016x}" for i in range(40)]


@pytest.fixture(params=sample(["here", "far"], ["here"]))
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """A folder of this machine, created in by O_EXCL, and one reached through pyarrow, which has no such thing."""
    return open_files(tmp_path if request.param == "here" else f"file://{tmp_path}")


def test_what_one_holds_another_does_not_get_until_it_ends(files: Files) -> None:
    with Leases(files, "s", "a") as one, Leases(files, "s", "b") as other:
        assert one.take(TRIALS[:3]) == (set(TRIALS[:3]), [])
        mine, theirs = other.take(TRIALS[1:5])
        assert mine == set(TRIALS[3:5])
        assert {(o.key, o.purpose) for o in theirs} == {(t, "a") for t in TRIALS[1:3]}
        with pytest.raises(LeaseError, match=r"a \(process \d+ on"):
            other.hold([ALL])
        one.take(TRIALS[:1])  # what it no longer names is free
        assert other.take(TRIALS[1:5])[0] == set(TRIALS[1:5])
    assert files.list("s") == []


def test_who_holds_the_suite_has_all_trials_and_who_waits_for_one_holds_nothing(files: Files) -> None:
    with Leases(files, "s", "a") as one, Leases(files, "s", "b") as other:
        one.hold([ALL])
        mine, theirs = other.take(TRIALS)
        assert (mine, [o.purpose for o in theirs]) == (set(), ["a"])
        one.hold([ALL])  # nothing of the other stands in its way
        one.hold([])
        other.hold(TRIALS)


def test_suites_are_apart(files: Files) -> None:
    with Leases(files, "s", "a") as one, Leases(files, "t", "b") as other:
        one.hold([ALL])
        other.hold([ALL])


def _all_at_once(work: Callable[[int], None], processes: int = 6) -> None:
    """Do this in threads that begin together, and raise what one of them raises."""
    barrier = threading.Barrier(processes)

    def begin(number: int) -> None:
        barrier.wait(60)
        work(number)

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(begin, range(processes)))


def take_at_once(files: Files) -> Counter[str]:
    """How often each trial is held where six want all at once, each in an order of its own."""
    held: Counter[str] = Counter()
    with ExitStack() as stack:
        six = [stack.enter_context(Leases(files, "s", str(i))) for i in range(6)]
        _all_at_once(lambda i: held.update(six[i].take(TRIALS[5 * i :] + TRIALS[: 5 * i])[0]))
    assert files.list("s") == []
    return held


def test_no_trial_is_held_twice_when_many_want_it_at_once(files: Files) -> None:
    for _ in range(5):
        assert take_at_once(files) == Counter(TRIALS)


def test_what_a_dead_process_held_is_taken_over_by_one(files: Files) -> None:
    pid = _ended()
    for _ in range(5):
        for trial in TRIALS:
            _leave(files, trial, machine=machine(), pid=pid)
        assert take_at_once(files) == Counter(TRIALS)


def test_a_lease_that_another_took_over_is_not_removed(files: Files) -> None:
    with Leases(files, "s", "a") as one:
        one.hold(TRIALS[:2])
        _leave(files, TRIALS[0])  # as if this process had been silent for long
    assert [e.name for e in files.list("s")] == [f".lease-{TRIALS[0]}"]


def _leave(files: Files, key: str, text: bytes | None = None, **changed: object) -> None:
    """A lease of a process that is not here: of another machine, without a beat."""
    lease = {"owner": "0" * 32, "purpose": "bench run", "machine": "elsewhere", "host": "h", "pid": 1, "started": "1"}
    files.write(f"s/.lease-{key}", json.dumps(lease | changed).encode() if text is None else text)


def _ended() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_lease_of_a_dead_process_of_this_machine_is_void_at_once(files: Files) -> None:
    for pid in (_ended(), os.getpid()):  # the second number is in use again: that process did not begin when this did
        for key in (*TRIALS, ALL, "0" * 32, f"{TRIALS[0]}-{'0' * 32}"):  # all that a process may leave
            _leave(files, key, machine=machine(), pid=pid)
        with Leases(files, "s", "b") as leases:
            assert leases.take(TRIALS)[0] == set(TRIALS)
        assert files.list("s") == []


def test_a_lease_of_another_machine_is_void_when_it_falls_silent(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", 1.0)
    _leave(files, TRIALS[0])
    with Leases(files, "s", "b") as leases:
        began = time.monotonic()
        _, others = leases.take(TRIALS)
        assert [o.purpose for o in others] == ["bench run"]
        leases.wait(others, lambda: False)
        assert time.monotonic() - began >= 1.0
        assert leases.take(TRIALS)[0] == set(TRIALS)


def test_a_lease_that_beats_stays_alive_and_one_of_yesterday_is_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 1.0)
    monkeypatch.setattr(module, "BEAT", 0.05)
    files = LocalFiles(tmp_path)
    with Leases(files, "s", "a") as one:
        with monkeypatch.context() as patch:
            patch.setattr(module, "machine", lambda: "elsewhere")
            other = Leases(files, "s", "b")
        with other:
            one.take(TRIALS)
            beats = {_modified(files)}
            began = time.monotonic()
            while len(beats) < 5 or time.monotonic() - began < 2.0:  # longer than a silence
                assert len(other.others()) == len(TRIALS)
                beats.add(_modified(files))
    _leave(files, TRIALS[0])
    os.utime(tmp_path / "s" / f".lease-{TRIALS[0]}", (time.time() - 2 * module.ABANDONED,) * 2)
    with Leases(files, "s", "c") as third:
        assert third.others() == []
    assert files.list("s") == []


def _modified(files: Files) -> float:
    """When the first of the processes has beaten last."""
    return next(e.modified for e in files.list("s") if len(e.name) == len(".lease-") + 32)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[1]", b'{"owner": 1}', b"\x80\x04N.", b'{"owner": "../x"}', b"[" * 9999, b'{"pid": -1}']
)
def test_a_file_that_is_no_lease_is_void_once_nobody_can_be_writing_it(
    tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = LocalFiles(tmp_path)
    for key in (TRIALS[0], "0" * 32):
        _leave(files, key, text)
    with Leases(files, "s", "a") as leases:
        mine, others = leases.take(TRIALS)
        assert mine == set(TRIALS[1:])
        assert [str(o) for o in others] == [
            "a process that does not say what it does (process 0 on an unknown machine)"
        ]
        monkeypatch.setattr(module, "SILENCE", 0.0)
        assert leases.take(TRIALS)[0] == set(TRIALS)
    assert files.list("s") == []


def test_a_lease_that_another_process_is_about_to_remove_is_left_to_it(files: Files) -> None:
    _leave(files, TRIALS[0], machine=machine(), pid=_ended())
    _leave(files, f"{TRIALS[0]}-{'0' * 32}", owner="1" * 32)
    with Leases(files, "s", "b") as leases:
        mine, others = leases.take(TRIALS[:2])
        assert (mine, [o.key for o in others]) == ({TRIALS[1]}, [TRIALS[0]])
    assert [e.name for e in files.list("s")] == [f".lease-{TRIALS[0]}", f".lease-{TRIALS[0]}-{'0' * 32}"]


def test_gc_names_and_removes_leases_of_the_dead_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with Leases(store.files, "s", "bench run") as run:
        run.hold(TRIALS[:1])
        living = store.files.list("s")
        _leave(store.files, TRIALS[1], machine=machine(), pid=_ended())
        _leave(store.files, TRIALS[2])  # of another machine: it may live
        found = garbage(store)
        assert [(g.name, g.reason) for g in found] == [(f"s/.lease-{TRIALS[1]}", "a lease of a process that is gone")]
        assert len(store.files.list("s")) == len(living) + 2
        collect(store, found)
        assert [e.name for e in store.files.list("s") if e not in living] == [f".lease-{TRIALS[2]}"]


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


@pytest.mark.faults
def test_two_runs_at_once_run_each_trial_once_and_both_end_with_all(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "shared.yaml").write_text(SUITE)
    runs = [_start(tmp_path, data_dir, site) for site in ("one", "two")]
    texts = [r.communicate(timeout=280)[0] for r in runs]
    assert [r.returncode for r in runs] == [0, 0], texts
    finished = [line for text in texts for line in text.splitlines() if line.startswith("[")]
    assert len(finished) == 6, texts  # 6 trials, each run by one of the two
    assert verify(Store(tmp_path / "results")) == (6, [])
    left = sorted(p.suffix for p in (tmp_path / "results" / "shared").iterdir())
    assert left == [".json", *[".parquet"] * 6], "the leases are gone"
    assert all((tmp_path / site / "index.html").is_file() for site in ("one", "two"))
    if not all(any(line.startswith("[") for line in text.splitlines()) for text in texts):
        assert any("waiting for" in text for text in texts)


@pytest.mark.faults
def test_a_run_takes_over_what_a_killed_one_held(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "shared.yaml").write_text(SUITE)
    first = _start(tmp_path, data_dir, "one")
    folder = tmp_path / "results" / "shared"
    _until(lambda: len(list(folder.glob("*.parquet"))) >= 1)
    os.kill(first.pid, signal.SIGSTOP)  # it must not end before the next command has looked
    busy = bench("results", "compact", "--results", "results", cwd=tmp_path)
    assert busy.returncode == 2
    assert f"bench run (process {first.pid} on" in busy.stderr
    first.kill()
    first.communicate(timeout=60)
    assert list(folder.glob(".lease-*"))
    second = _start(tmp_path, data_dir, "two")
    text = second.communicate(timeout=280)[0]
    assert second.returncode == 0, text
    assert "waiting" not in text
    assert verify(Store(tmp_path / "results")) == (6, [])
    assert not list(folder.glob(".lease-*"))
