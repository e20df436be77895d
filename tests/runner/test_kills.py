"""The driver or a worker is killed at 30 random moments; the same command completes the suite, and its rows are those
of a run that nothing disturbed.

A trial that is killed three times in one run keeps a row that says so, and the run ends with exit code 1 and names
`--retry`, which is then added.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from normbench.store.store import Store
from normbench.store.verify import verify

from tests.runner.test_faults import Running, is_worker, place, started
from tests.test_cli import Place

__all__ = ["place", "started"]
pytestmark = pytest.mark.faults

KILLS = int(os.environ.get("NORMBENCH_KILLS", "30"))
SEED = int(os.environ.get("NORMBENCH_KILL_SEED", "0"))
#: Names of this package's own processes (`normbench.runner.spawn`).
OURS = {"bench-trial", "bench-guard", "bench-server"}
#: Of two processes that can be killed: how often it is the driver.
DRIVER_SHARE = 0.5
#: Variable by which the processes of this test are told from those of others.
MARK = "NORMBENCH_TEST_ROOT"
#: Columns that may differ: times, memory, and how often and where a trial went on (and whether someone edits the
#: checkout while the test runs).
LEFT_OUT = {
    "started",
    "wall_seconds",
    "train_seconds",
    "images_per_second",
    "peak_memory",
    "measure_seconds",
    "attempts",
    "log",
}


def numbers(store: Store) -> dict[str, dict[str, Any]]:
    """All of each row but times, memory and tries."""
    found = {}
    for row in store.rows():
        kept = {k: v for k, v in row.items() if k not in LEFT_OUT}
        kept["attacks"] = [{k: v for k, v in a.items() if k != "seconds"} for a in row["attacks"]]
        kept["provenance"] = {
            k: v for k, v in json.loads(row["provenance"]).items() if k not in {"resumed_at", "commit", "dirty"}
        }
        found[row["trial_id"]] = kept
    return found


def differences(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> list[str]:
    """What of which row, briefly."""
    missing = [f"{key} is in one of them alone" for key in found.keys() ^ expected.keys()]
    columns = [
        (key, name)
        for key in found.keys() & expected.keys()
        for name in expected[key]
        if found[key][name] != expected[key][name]
    ]
    return missing + [
        f"{expected[k]['norm']} {k} {name}: {found[k][name]!r:.300} for {expected[k][name]!r:.300}"
        for k, name in columns
    ]


@pytest.mark.timeout(1500)
def test_thirty_kills_leave_no_trace_in_the_rows(place: Place, started: Callable[..., Running], tmp_path: Path) -> None:
    place.environment |= {"NORMBENCH_CHECKPOINT_SECONDS": "0", MARK: str(place.root)}
    place.suite(norms="bn, 'gn', 'sn+none', batch-renorm, 'saboteur[how=none,seconds=0.003]'", seeds=2, epochs=6)
    whole = started()
    began = time.monotonic()
    assert whole.end() == 0, "".join(whole.lines)
    length = time.monotonic() - began
    expected = numbers(place.store)
    assert len(expected) == 10

    draw = random.Random(SEED)
    struck: list[str] = []
    completed = restarts = resumed = tries = given_up = 0
    while len(struck) < KILLS:
        place.store = Store(place.root / f"results-{completed}")
        command = ["run", "small.yaml", "--results", place.store.root.name, "--site", "site"]
        code: int | None = None
        while code != 0:
            again = ["--retry"] if any(row["status"] == "killed" for row in place.store.rows()) else []
            place.run_arguments = lambda arguments=(*command, *again): [*arguments]  # type: ignore[method-assign]
            run = started()
            restarts += 1
            while run.process.poll() is None and len(struck) < KILLS:
                driver = draw.random() < DRIVER_SHARE
                deadline, victims = (
                    time.monotonic() + draw.uniform(0.0, length / 2 if driver else length / 8),
                    list[psutil.Process](),
                )
                while run.process.poll() is None and (
                    time.monotonic() < deadline or not (driver or victims)
                ):  # a worker is killed where there is one
                    time.sleep(0.02 if time.monotonic() < deadline else 0.2)
                    if not driver and time.monotonic() >= deadline:
                        victims = [p for p in run.family() if _runs_trials(p)] if run.trials() else []
                if run.process.poll() is not None:
                    continue
                victim = psutil.Process(run.process.pid) if driver else draw.choice(victims)
                try:
                    victim.send_signal(signal.SIGKILL)
                except psutil.NoSuchProcess:
                    continue
                struck.append("driver" if driver else "worker")
                if driver:
                    break
            code = run.end()
            orphans = psutil.wait_procs([p for p in psutil.process_iter() if _is_of(p, place.root)], timeout=60)[1]
            assert not orphans
            assert not verify(Store(place.store.root))[1]
            if code == 1:
                ends = Counter(row["status"] for row in place.store.rows())
                assert set(ends) == {"ok", "killed"}, (ends, "".join(run.lines))
                given_up += ends["killed"]
        assert differences(numbers(place.store), expected) == []
        rows = list(place.store.rows())
        tries += sum(r["attempts"] - 1 for r in rows)
        resumed += sum("resumed_at" in json.loads(r["provenance"]) for r in rows)
        completed += 1
        print(
            f"kills {len(struck)} (driver {struck.count('driver')}, worker {struck.count('worker')}), seed {SEED}; "
            f"runs {restarts}, "
            f"suites completed {completed} of {len(expected)} trials, rows lost or different 0, "
            f"tries beyond the first {tries}, trials killed three times in a run {given_up}, trials that went on "
            f"from a checkpoint {resumed}"
        )
    assert resumed


def _runs_trials(process: psutil.Process) -> bool:
    """Is it a Ray worker, a trial, or one that trials are forked from?"""
    with contextlib.suppress(psutil.Error):
        return process.name() in OURS or is_worker(process)
    return False


def _is_of(process: psutil.Process, root: Path) -> bool:
    """Is it a process in which a trial of this test runs, or from which they are forked?"""
    with contextlib.suppress(psutil.Error):
        return process.name() in OURS and process.environ().get(MARK) == str(root)
    return False
