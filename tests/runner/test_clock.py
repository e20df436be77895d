"""What a time limit counts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.runner.clock import LEAST_PATIENCE, PATIENCE, WorkClock, processor_time

SECONDS = st.floats(0.01, 100)


def clock(limit: float = 100.0, *, threads: int = 1, by_wall: bool = False, worked: float = 0.0) -> WorkClock:
    return WorkClock(os.getpid(), limit, spent=worked, worked=worked, threads=threads, by_wall=by_wall)


@given(st.lists(st.tuples(SECONDS, SECONDS, st.booleans())), st.integers(1, 8))
def test_nobody_is_charged_more_than_the_wall_clock(looks: list[tuple[float, float, bool]], threads: int) -> None:
    counted = clock(threads=threads)
    for seconds, used, runs in looks:
        counted.advance(seconds, used, runs=runs)
    assert counted.worked <= counted.wall == pytest.approx(sum(seconds for seconds, _, _ in looks))


@pytest.mark.parametrize(
    ("threads", "by_wall", "used", "runs", "worked"),
    [
        (1, False, 10.0, True, 10.0),  # an idle machine
        (1, False, 0.5, True, 0.5),  # a busy one
        (4, False, 36.0, True, 9.0),
        (4, False, 40.0, True, 10.0),
        (1, False, 40.0, True, 10.0),  # more threads than it was given
        (1, False, 0.0, False, 10.0),  # a hang
        (4, True, 0.5, True, 10.0),  # a GPU works meanwhile
    ],
)
def test_what_ten_seconds_count(threads: int, by_wall: bool, used: float, runs: bool, worked: float) -> None:
    counted = clock(threads=threads, by_wall=by_wall)
    counted.advance(10.0, used, runs=runs)
    assert counted.worked == pytest.approx(worked)


def test_it_is_over_at_the_limit_over_all_processes_of_a_trial() -> None:
    counted = clock(limit=30.0, worked=25.0)
    counted.advance(4.5, 0.0, runs=False)
    assert not counted.over
    counted.advance(0.5, 0.0, runs=False)
    assert counted.over.startswith("it ran longer than its limit of 30 s")
    assert "--retry" in counted.over


def test_a_trial_that_gets_no_processor_is_ended_too() -> None:
    counted = clock(limit=LEAST_PATIENCE)
    counted.advance(PATIENCE * LEAST_PATIENCE - 1, 10.0, runs=True)
    assert not counted.over
    counted.advance(1.0, 0.0, runs=True)
    assert "the machine is too busy" in counted.over
    assert "--retry" in counted.over


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the wall clock counts")
def test_processor_time_is_that_of_everything_below_a_process() -> None:
    """A child that burns a processor in a grandchild and says so, and then one that sleeps."""
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\n"
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn + 'while True: pass'!r}])"
    before, _ = processor_time(os.getpid())
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used, runs = processor_time(os.getpid())
        os.killpg(process.pid, 9)
    assert used - before >= 0.45
    assert runs
