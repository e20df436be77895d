"""Which ends are tried again: a table, on plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from normbench.errors import BenchError
from normbench.plan.identity import identity
from normbench.plan.plan import Item, State
from normbench.runner.cluster import ResourceError, disagreement, needed, slots, stage
from normbench.runner.retry import RETRIES, alone, closed, next_need
from normbench.runner.tune import Driver, Events, Work
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Limits

from tests.conftest import MakeTrial

SMALL, LARGE = {"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}
CPU, GPU, SHARE = {"CPU": 1.0, "GPU": 0.0}, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 0.25}


def ended(status: Status, reason: str = "", **facts: Any) -> Outcome:
    return Outcome(status=status, reason=reason, provenance=facts)


KILLED, LOST = ended(Status.KILLED, "SIGKILL", ended_by="SIGKILL"), ended(Status.KILLED, "lost", ended_by="lost")
NO_GPU_MEMORY, NO_MEMORY = (
    ended(Status.OUT_OF_MEMORY, out_of="GPU memory"),
    ended(Status.OUT_OF_MEMORY, out_of="host memory"),
)


@pytest.mark.parametrize(
    ("outcome", "past", "need", "expected"),
    [
        (KILLED, (), CPU, CPU),
        (LOST, (KILLED,), CPU, CPU),
        (KILLED, (KILLED, LOST), CPU, None),  # twice is enough
        (ended(Status.KILLED, ended_by="SIGTERM"), (), CPU, CPU),
        (ended(Status.KILLED, ended_by="SIGSEGV"), (), CPU, None),  # its own doing
        (ended(Status.KILLED, ended_by="exit code 3"), (), CPU, None),
        (ended(Status.OK), (), CPU, None),
        (ended(Status.ERROR), (), CPU, None),
        (ended(Status.DIVERGED), (), CPU, None),
        (ended(Status.TIMED_OUT), (), CPU, None),
        (NO_GPU_MEMORY, (), SHARE, {"CPU": 2.0, "GPU": 1.0}),
        (NO_GPU_MEMORY, (), {"CPU": 1.0, "GPU": 1.5}, {"CPU": 1.0, "GPU": 2.0}),
        (NO_GPU_MEMORY, (), GPU, None),  # the device was its own
        (NO_GPU_MEMORY, (NO_GPU_MEMORY,), {"CPU": 2.0, "GPU": 1.0}, None),
        (NO_GPU_MEMORY, (KILLED,), SHARE, {"CPU": 2.0, "GPU": 1.0}),
        (KILLED, (NO_GPU_MEMORY, KILLED), GPU, GPU),
        (NO_MEMORY, (), CPU, {"CPU": 16.0, "GPU": 0.0}),
        (NO_MEMORY, (), {"CPU": 16.0, "GPU": 0.0}, None),
        (NO_MEMORY, (NO_MEMORY,), CPU, None),
    ],
)
def test_what_is_tried_again_and_with_what(
    outcome: Outcome, past: tuple[Outcome, ...], need: dict[str, float], expected: dict[str, float] | None
) -> None:
    assert next_need(outcome, past, need, [SMALL, LARGE]) == expected


def test_alone_on_a_machine_that_fits() -> None:
    assert alone({"CPU": 1.0, "GPU": 0.5}, [{"CPU": 64.0}, LARGE], "host memory") == {"CPU": 16.0, "GPU": 0.5}


def test_what_is_stored_says_how_often_and_how_the_earlier_ones_ended() -> None:
    assert closed(KILLED, ()) is KILLED
    past = (Outcome(status=Status.KILLED, reason="its process was ended by SIGKILL", epoch=7), LOST)
    stored = closed(Outcome(status=Status.ERROR, reason="no", log="Traceback"), past)
    assert stored.attempts == 3
    assert stored.log.splitlines() == [
        "try 1: killed in epoch 8: its process was ended by SIGKILL",
        "try 2: killed in epoch 1: lost",
        "Traceback",
    ]


class Round:
    """A driver with two trials, fed by hand."""

    def __init__(self, make_trial: MakeTrial, past: tuple[Outcome, ...] = ()) -> None:
        trials = [make_trial(seed=s) for s in range(2)]
        works = [Work(Item(t, identity(t, "x" * 64), State.MISSING, (), None, None), CPU, past) for t in trials]
        self.done: list[tuple[int, Outcome]] = []
        self.notes: list[str] = []
        events = Events(
            lambda item: None, lambda item, progress: None, self._stored, again=lambda item, why: self.notes.append(why)
        )
        self.driver = Driver(works, events, [SMALL])

    def _stored(self, item: Item, outcome: Outcome) -> None:
        self.done.append((item.trial.seed, outcome))

    def outcome(self, index: int, outcome: Outcome) -> None:
        self.driver.receive(index, {"event": "outcome", "outcome": outcome.model_dump_json()})


def test_a_lost_worker_goes_again_and_a_good_trial_is_stored(make_trial: MakeTrial) -> None:
    played = Round(make_trial)
    played.driver.receive(0, {"event": "started"})
    played.driver.receive(0, {"event": "progress", "progress": {"epoch": 4.5}})
    played.driver.receive(0, {"event": "lost", "text": "The actor died unexpectedly", "wrote": "one\nlast"})
    played.outcome(1, ended(Status.OK))
    played.outcome(1, ended(Status.ERROR))  # a second end of the same trial is none
    played.driver.gave_up("it ended")
    assert [(s, o.status, o.attempts) for s, o in played.done] == [(1, Status.OK, 1)]
    (again,) = played.driver.again
    assert (again.past[0].provenance["ended_by"], again.past[0].epoch, again.past[0].log) == (
        "lost",
        4,
        "The actor died unexpectedly\none\nlast",
    )
    assert again.past[0].reason.endswith("was lost; it last wrote: last")
    assert "is tried again" in played.notes[0]


def test_what_ray_ends_for_memory_goes_again_alone(make_trial: MakeTrial) -> None:
    played = Round(make_trial)
    played.driver.receive(
        0,
        {
            "event": "lost",
            "text": "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
            "wrote": "",
        },
    )
    (again,) = played.driver.again
    assert again.past[0].status is Status.OUT_OF_MEMORY
    assert again.need == {"CPU": 4.0, "GPU": 0.0}
    assert "alone on its machine" in played.notes[0]


def test_when_ray_gives_up_the_running_ones_lose_a_try_and_the_others_none(make_trial: MakeTrial) -> None:
    played = Round(make_trial)
    played.driver.receive(0, {"event": "started"})
    played.driver.gave_up("OutOfMemoryError: the node was low on memory")
    lost, untouched = sorted(played.driver.again, key=lambda w: w.item.trial.seed)
    assert len(lost.past) == 1
    assert not untouched.past
    assert lost.need != lost.item  # alone


def test_three_losses_are_a_row(make_trial: MakeTrial) -> None:
    played = Round(make_trial, past=(LOST,) * RETRIES)
    played.driver.receive(0, {"event": "lost", "text": "", "wrote": ""})
    assert not played.driver.again
    assert [(o.status, o.attempts) for _, o in played.done] == [(Status.KILLED, 3)]


def test_a_round_in_which_nothing_starts_is_an_error_and_no_endless_loop(make_trial: MakeTrial) -> None:
    with pytest.raises(BenchError, match="started none of 2 trials: no"):
        Round(make_trial).driver.gave_up("no")


def test_what_storing_raises_is_kept_apart_from_what_ray_raises(make_trial: MakeTrial) -> None:
    def full(item: Item, outcome: Outcome) -> None:
        raise OSError(28, "No space left on device")

    played = Round(make_trial)
    played.driver._events.done = full
    with pytest.raises(OSError, match="No space left"):
        played.outcome(0, ended(Status.OK))
    assert isinstance(played.driver.failure, OSError)


@pytest.mark.parametrize(
    ("limits", "need", "fitting"),
    [
        (Limits(cpu=2), {"CPU": 2.0, "GPU": 1.0}, 2),  # auto: a GPU somewhere
        (Limits(cpu=2, gpu=0.25), {"CPU": 2.0, "GPU": 0.25}, 8),
        (Limits(cpu=2, gpu=0), {"CPU": 2.0, "GPU": 0.0}, 10),
    ],
)
def test_trials_fit_on_nodes_of_different_kinds(limits: Limits, need: dict[str, float], fitting: int) -> None:
    assert needed([SMALL, LARGE], limits) == need
    assert slots([SMALL, LARGE], need) == fitting


@pytest.mark.parametrize(
    ("limits", "asked"),
    [(Limits(cpu=17), "17 CPUs"), (Limits(cpu=1, gpu=3), "3 GPUs"), (Limits(cpu=1, gpu=2.5), "2.5 GPUs")],
)
def test_what_no_node_offers_says_what_was_asked_and_what_there_is(limits: Limits, asked: str) -> None:
    with pytest.raises(ResourceError, match="found 4 CPUs and 0 GPUs; 16 CPUs and 2 GPUs") as caught:
        needed([SMALL, LARGE], limits)
    assert asked in str(caught.value)


def test_versions_that_decide_numbers_must_agree() -> None:
    assert disagreement({"torch": "2.11", "timm": "1"}, {"torch": "2.11", "timm": "1"}) == ""
    assert (
        disagreement({"torch": "2.10"}, {"torch": "2.11", "timm": "1"})
        == "torch 2.10 (here 2.11), timm absent (here 1)"
    )


def test_the_code_that_travels_has_the_package_and_every_plug_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "saboteur")
    stage(tmp_path)
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert {"normbench/runner/tune.py", "saboteur.py", "saboteur-1.0.dist-info/entry_points.txt"} <= found
    assert not [f for f in found if f.endswith(".pyc")]
