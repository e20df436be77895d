"""A trial's process may do anything: what comes back is an outcome."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from normbench.lab import data
from normbench.runner import spawn, worker
from normbench.runner.worker import Job, supervise
from normbench.spec.outcome import LOG_BYTES, REASON_BYTES, Outcome, Status

from tests.conftest import MakeTrial
from tests.lab.test_checkpoint import numbers

SABOTEUR = Path(__file__).parent / "saboteur"


@pytest.fixture
def try_(make_trial: MakeTrial, data_dir: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(SABOTEUR)  # children inherit sys.path
    source = data.locate(make_trial().data, data_dir, download=False)
    assert source is not None
    context = {"data_dir": str(data_dir), "fingerprint": data.fingerprint(source), "provenance": {"commit": "abc"}}

    def run(
        norm: str, limit: float = 120.0, attacked: bool = False, **settings: object
    ) -> tuple[Outcome, list[dict[str, object]]]:
        reported: list[dict[str, object]] = []
        from normbench import norms

        norms.registry.__dict__.pop("_entries", None)  # look for entry points again
        trial = make_trial(norm, **settings)
        if not attacked:
            trial = trial.model_copy(update={"attacks": ()})
        outcome = supervise(Job(trial.model_dump_json(), run.context, limit), reported.append)  # type: ignore[attr-defined]
        return outcome, reported

    run.context = context  # type: ignore[attr-defined]
    return run


def test_a_good_trial_has_everything(try_) -> None:  # type: ignore[no-untyped-def]
    outcome, reported = try_("gn", attacked=True, epochs=2, data={"validation": 0.25, "augment": ("flip", "crop")})
    assert (outcome.status, outcome.reason, outcome.log, outcome.epoch) == (Status.OK, "", "", 2)
    assert outcome.test_total == 48
    assert outcome.clean_outcomes is not None
    assert outcome.validation_accuracy is not None
    assert [a.threat for a in outcome.attacks] == ["noise", "linf", "linf"]
    assert outcome.provenance["commit"] == "abc"
    assert outcome.provenance["precision"] == "float32"
    assert outcome.audit["replaced"]
    assert outcome.peak_memory
    assert outcome.images_per_second
    measured = {r.measure for r in outcome.curves}
    assert {
        "train.loss",
        "train.accuracy",
        "lr",
        "validation.accuracy",
        "weight-norm.raw",
        "weight-norm.effective",
    } <= measured
    steps = [r.step for r in outcome.curves if r.measure == "weight-norm.raw" and not r.layer]
    assert steps == [0, 4, 8]
    assert reported[-1]["epochs"] == 2


def test_two_runs_are_bit_identical(try_) -> None:  # type: ignore[no-untyped-def]
    first, second = (try_("bn", attacked=True, epochs=2, data={"augment": ("flip", "crop")})[0] for _ in range(2))
    assert first.curves == second.curves
    assert first.test_loss == second.test_loss
    assert first.clean_outcomes == second.clean_outcomes
    assert [a.outcomes for a in first.attacks] == [a.outcomes for a in second.attacks]


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("raise", Status.ERROR, "RuntimeError: broken on purpose"),
        ("memory", Status.OUT_OF_MEMORY, "out of host memory"),
        ("allocation", Status.OUT_OF_MEMORY, "can't allocate memory"),
        ("gpu-memory", Status.OUT_OF_MEMORY, "CUDA out of memory"),
        ("abort", Status.KILLED, "SIGABRT"),
        ("nan", Status.DIVERGED, "epoch 1"),
        ("segfault", Status.KILLED, "SIGSEGV"),
        ("kill", Status.KILLED, "SIGKILL"),
        ("exit", Status.KILLED, "exit code 3"),
        ("surrogate", Status.ERROR, "RuntimeError: a name of ? bytes"),
        ("mute", Status.ERROR, "MuteError: (its text raises RuntimeError)"),
        ("interrupt", Status.ERROR, "KeyboardInterrupt: by its own code"),
        ("system-exit", Status.ERROR, "SystemExit: by its own code"),
        ("own-exception", Status.ERROR, "OwnError: by its own code"),
    ],
)
def test_a_broken_trial_becomes_its_outcome(try_, how: str, status: Status, reason: str) -> None:  # type: ignore[no-untyped-def]
    outcome, _ = try_(f"saboteur[how={how}]")
    assert outcome.status is status
    assert reason in outcome.reason
    assert outcome.provenance["commit"] == "abc"
    if status is Status.ERROR:
        assert "saboteur.py" in outcome.log  # the traceback
    if how == "segfault":
        assert "Segmentation fault" in outcome.log
    fact = {
        "memory": "host memory",
        "allocation": "host memory",
        "gpu-memory": "GPU memory",
        "segfault": "SIGSEGV",
        "kill": "SIGKILL",
        "exit": "exit code 3",
    }
    if how in fact:
        assert outcome.provenance["out_of" if status is Status.OUT_OF_MEMORY else "ended_by"] == fact[how]


@pytest.mark.parametrize("how", ["long", "long-output"])
def test_what_is_kept_of_a_long_text_is_short(try_, how: str) -> None:  # type: ignore[no-untyped-def]
    outcome, _ = try_(f"saboteur[how={how}]")
    assert outcome.status is (Status.ERROR if how == "long" else Status.KILLED)
    assert 0 < len(outcome.reason.encode()) <= REASON_BYTES
    assert 1000 < len(outcome.log.encode()) <= LOG_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux finds processes that have left their group")
@pytest.mark.parametrize(
    ("how", "limit", "status", "reason"),
    [
        ("fork", 120.0, Status.OK, ""),
        ("fork-and-exit", 120.0, Status.KILLED, "exit code 3"),
        ("fork-and-hang", 3.0, Status.TIMED_OUT, "limit of 3 s"),
    ],
)
def test_nothing_that_a_trial_forks_outlives_it(  # type: ignore[no-untyped-def]
    try_, tmp_path: Path, how: str, limit: float, status: Status, reason: str
) -> None:
    """Neither a child nor the orphan of another session, which hold the trial's files open."""
    forks, tally = tmp_path / "forks", tmp_path / "tally"
    here = set(psutil.Process().children(recursive=True))  # of other tests
    outcome, _ = try_(f"saboteur[how={how},forks={forks},tally={tally}]", limit=limit)
    assert (outcome.status, reason in outcome.reason) == (status, True), outcome
    found = [int(pid) for pid in forks.read_text().split()]
    assert len(found) >= 2
    assert [pid for pid in found if psutil.pid_exists(pid)] == []
    left = [p for p in set(psutil.Process().children(recursive=True)) - here if p.name() != "bench-server"]
    assert not psutil.wait_procs(left, timeout=20)[1], "its guard ends once it has told how the trial ended"


@pytest.mark.parametrize("how", [pytest.param("hang", marks=pytest.mark.faults), "hang-in-c", "spin"])
def test_a_stuck_trial_is_ended_at_its_limit_and_says_where_it_stood(try_, how: str) -> None:  # type: ignore[no-untyped-def]
    outcome, _ = try_(f"saboteur[how={how}]", limit=4.0)
    assert outcome.status is Status.TIMED_OUT
    assert "its limit of 4 s" in outcome.reason
    assert "--retry" in outcome.reason
    assert outcome.wall_seconds >= 4
    assert "in layer" in outcome.log
    assert "about to break" in outcome.log


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the wall clock counts")
def test_a_busy_machine_does_not_use_up_the_limit(try_) -> None:  # type: ignore[no-untyped-def]
    """Three processes beside the trial on its processor: it takes twice its limit by the wall clock."""
    (mine, *_), before = sorted(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {mine})  # inherited by what is started from here on
    spin = [sys.executable, "-c", "while True: pass"]
    try:
        with server_of_its_own():
            others = [subprocess.Popen(spin, start_new_session=True) for _ in range(3)]
            try:
                outcome, _ = try_("saboteur[how=work,seconds=2.5]", limit=5.0)
            finally:
                for other in others:
                    other.kill()
                    other.wait()
    finally:
        os.sched_setaffinity(0, before)
    assert outcome.status is Status.OK, outcome
    assert outcome.wall_seconds > 5


@contextlib.contextmanager
def server_of_its_own() -> Iterator[None]:
    """Trials inside come from a new server, which has loaded everything."""
    with spawn.running() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with tempfile.TemporaryFile() as log, spawn.start("time:sleep", 0, log):
            pass
        yield


def test_the_kernel_counts_as_out_of_memory(try_, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """A SIGKILL while the kernel's counter of such kills moves; the counter is a file of the test, since a real one
    needs a machine without memory.
    """
    counter, tally = tmp_path / "vmstat", tmp_path / "tally"
    counter.write_text("nr_free_pages 3\noom_kill 4\n")
    monkeypatch.setattr(worker, "OOM_COUNTERS", (str(tmp_path / "absent"), str(counter)))
    assert worker._kernel_kills() == 4

    def strike() -> None:
        while not tally.exists():
            time.sleep(0.01)
        counter.write_text("nr_free_pages 1\noom_kill 5\n")

    striker = threading.Thread(target=strike)
    striker.start()
    outcome, _ = try_(f"saboteur[how=kill-later,tally={tally}]", epochs=20)
    striker.join()
    assert outcome.status is Status.OUT_OF_MEMORY
    assert "the kernel ended its process" in outcome.reason
    assert outcome.provenance["out_of"] == "host memory"


def test_a_killed_trial_goes_on_in_the_next_process(try_, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """SIGKILL in the third epoch of four (6 batches each), then again from the checkpoint; the row is that of a trial
    that nothing disturbed.
    """
    (tmp_path / "kept").mkdir()
    try_.context |= {"identity": "a" * 32, "checkpoints": str(tmp_path / "kept"), "checkpoint_seconds": 0.0}
    tally = tmp_path / "tally"
    norm = f"saboteur[how=kill-later,after=14,tally={tally}]"
    killed, _ = try_(norm, epochs=4)
    assert (killed.status, killed.provenance["ended_by"], killed.epoch) == (Status.KILLED, "SIGKILL", 2)
    (checkpoint,) = (tmp_path / "kept").iterdir()
    second, _ = try_(norm, epochs=4)
    checkpoint.unlink(missing_ok=True)
    undisturbed, _ = try_(norm, epochs=4)
    assert second.status is undisturbed.status is Status.OK, second.log
    assert second.provenance["resumed_at"] == [2]
    assert "resumed_at" not in undisturbed.provenance
    assert numbers(second) == numbers(undisturbed)


@pytest.mark.faults
def test_the_limit_is_over_all_processes_of_a_trial(try_, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "kept").mkdir()
    try_.context |= {"identity": "a" * 32, "checkpoints": str(tmp_path / "kept"), "checkpoint_seconds": 0.0}
    norm = f"saboteur[how=kill-later,after=10,seconds=0.05,tally={tmp_path / 'tally'}]"
    killed, _ = try_(norm, epochs=4)  # six batches to the checkpoint, nine layers of 0.05 s each
    assert killed.status is Status.KILLED
    late, _ = try_(norm, epochs=4, limit=1.0)
    assert late.status is Status.TIMED_OUT
    assert late.wall_seconds > 2
    assert list((tmp_path / "kept").iterdir())  # with a longer limit it goes on


@pytest.mark.faults
@pytest.mark.parametrize("how", ["hang", "hang-in-c"])
def test_a_trial_ends_when_its_worker_is_gone(tmp_path: Path, make_trial: MakeTrial, data_dir: Path, how: str) -> None:
    """The worker is killed while its trial hangs; the trial and the worker's server end without help."""
    tally = tmp_path / "tally"
    trial = json.loads(make_trial().model_dump_json())
    trial["norm"] = [trial["norm"][0] | {"name": "saboteur", "params": {"how": how, "tally": str(tally)}}]
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from normbench.runner.worker import Job, supervise\n"
        "context = {'data_dir': sys.argv[3], 'fingerprint': 'x' * 64, 'provenance': {}}\n"
        "supervise(Job(sys.argv[1], context, 600.0), print)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, json.dumps(trial), str(SABOTEUR), str(data_dir)])
    try:
        children = psutil.Process(parent.pid).children
        while not tally.exists() or children(recursive=True)[-1].status() != psutil.STATUS_SLEEPING:
            assert parent.poll() is None
            time.sleep(0.05)
        found = children(recursive=True)
        assert [p.name() for p in found] == ["bench-server", "bench-guard", "bench-trial"]
    finally:
        parent.kill()
        parent.wait()
    assert not psutil.wait_procs(found, timeout=60)[1]
