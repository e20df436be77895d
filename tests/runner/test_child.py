"""A trial's process may do anything: what comes back is an outcome."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from normbench.lab import data
from normbench.runner import worker as child
from normbench.runner.worker import Job, supervise
from normbench.spec.outcome import Outcome, Status

from tests.conftest import MakeTrial
from tests.lab.test_checkpoint import numbers

SABOTEUR = Path(__file__).parent / "saboteur"


@pytest.fixture
def try_(make_trial: MakeTrial, data_dir: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(SABOTEUR)  # children inherit sys.path
    source = data.locate(make_trial().data, data_dir, download=False)
    assert source is not None
    context = {"data_dir": str(data_dir), "fingerprint": data.fingerprint(source), "provenance": {"commit": "abc"}}

    def run(norm: str, limit: float = 120.0, **settings: object) -> tuple[Outcome, list[dict[str, object]]]:
        reported: list[dict[str, object]] = []
        from normbench import norms

        norms.registry.__dict__.pop("_entries", None)  # look for entry points again
        outcome = supervise(Job(make_trial(norm, **settings).model_dump_json(), run.context, limit), reported.append)  # type: ignore[attr-defined]
        return outcome, reported

    run.context = context  # type: ignore[attr-defined]
    return run


def test_a_good_trial_has_everything(try_) -> None:  # type: ignore[no-untyped-def]
    outcome, reported = try_("gn", epochs=2, data={"validation": 0.25, "augment": ("flip", "crop")})
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
    first, second = (try_("bn", epochs=2, data={"augment": ("flip", "crop")})[0] for _ in range(2))
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
    ],
)
def test_a_broken_trial_becomes_its_outcome(try_, how: str, status: Status, reason: str) -> None:  # type: ignore[no-untyped-def]
    outcome, _ = try_(f"saboteur[how={how}]")
    assert outcome.status is status
    assert reason in outcome.reason
    assert outcome.provenance["commit"] == "abc"
    if how == "raise":
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


@pytest.mark.parametrize("how", ["hang", "hang-in-c"])
def test_a_stuck_trial_is_ended_at_its_limit_and_says_where_it_stood(try_, how: str) -> None:  # type: ignore[no-untyped-def]
    outcome, _ = try_(f"saboteur[how={how}]", limit=4.0)
    assert outcome.status is Status.TIMED_OUT
    assert "4 s" in outcome.reason
    assert 4 <= outcome.wall_seconds < 12
    assert "in layer" in outcome.log
    assert "about to break" in outcome.log


def test_the_kernel_counts_as_out_of_memory(try_, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """A SIGKILL while the kernel's counter of such kills moves; the counter is a file of the test, since a real one
    needs a machine without memory.
    """
    counter, tally = tmp_path / "vmstat", tmp_path / "tally"
    counter.write_text("nr_free_pages 3\noom_kill 4\n")
    monkeypatch.setattr(child, "OOM_COUNTERS", (str(tmp_path / "absent"), str(counter)))
    assert child._kernel_kills() == 4

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


@pytest.mark.parametrize("how", ["hang", "hang-in-c"])
def test_a_child_ends_when_its_parent_is_gone(tmp_path: Path, make_trial: MakeTrial, data_dir: Path, how: str) -> None:
    """The parent is killed while its child hangs; the child's process ends without help."""
    import psutil

    tally = tmp_path / "tally"
    params = json.dumps({"how": how, "tally": str(tally)})
    trial = (
        make_trial()
        .model_dump_json()
        .replace('"name":"bn","params":{"eps":null,"momentum":null}', f'"name":"saboteur","params":{params}')
    )
    assert "saboteur" in trial
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from normbench.runner.worker import Job, supervise\n"
        "context = {'data_dir': sys.argv[3], 'fingerprint': 'x' * 64, 'provenance': {}}\n"
        "from normbench.runner import child\n"
        "supervise(Job(sys.argv[1], context, 600.0), print)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, trial, str(SABOTEUR), str(data_dir)])
    ends = time.monotonic() + 120
    while not tally.exists():  # the line before the call that hangs
        assert parent.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.05)
    time.sleep(1.0)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 3, "resource tracker, fork server, child"
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
