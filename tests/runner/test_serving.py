"""A process that serves trials of one shape: the same bits alone and after others, and none of it after a failure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from normbench.lab import data
from normbench.runner import serving
from normbench.runner.serving import IDLE, in_turn, shape_of
from normbench.runner.tune import Options, _job
from normbench.runner.worker import Job, supervise
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Limits, Trial

from tests.conftest import MakeTrial
from tests.lab.test_checkpoint import numbers

#: What is switched on for a GPU alone.
pytestmark = pytest.mark.engine

Run = Callable[..., Outcome]


@pytest.fixture
def run(make_trial: MakeTrial, data_dir: Path) -> Iterator[Run]:
    source = data.locate(make_trial().data, data_dir, download=False)
    assert source is not None
    context = {"data_dir": str(data_dir), "fingerprint": data.fingerprint(source), "provenance": {}}

    def go(norm: str = "bn+noise", *, serves: bool = True, limit: float = 120.0, **settings: Any) -> Outcome:
        trial = make_trial(norm, **settings)
        return supervise(Job(trial.model_dump_json(), context, limit, serves), lambda _: None)

    yield go
    IDLE.end()


def waiting() -> list[int]:
    """The guards of processes that wait."""
    return [s.process.guard for s in IDLE._waiting]


def test_the_same_bits_alone_and_after_others(run: Run) -> None:
    alone = run(seed=3, serves=False)
    assert waiting() == []
    for seed in (1, 2):
        assert run(seed=seed, lr=0.01 * seed).status == Status.OK
    (first,) = waiting()
    after = run(seed=3)
    assert waiting() == [first], "another process"
    assert (alone.status, after.status) == (Status.OK, Status.OK)
    assert numbers(after) == numbers(alone)
    assert after.log == ""


def test_another_shape_has_another_process(run: Run) -> None:
    run(seed=0)
    (first,) = map(psutil.Process, waiting())
    run("gn", seed=0)
    (second,) = waiting()
    assert first.pid != second
    assert psutil.wait_procs([first], timeout=60)[1] == []


def test_a_process_is_replaced_after_any_end_that_is_not_ok(run: Run) -> None:
    run("none", lr=0.001)
    (first,) = map(psutil.Process, waiting())
    diverged = run("none", lr=1000.0, epochs=2)
    assert diverged.status == Status.DIVERGED
    assert waiting() == []
    assert psutil.wait_procs([first], timeout=60)[1] == []


def test_a_process_that_ended_while_it_waited_costs_nothing(run: Run) -> None:
    run(seed=0)
    (first,) = waiting()
    for process in psutil.Process(first).children():
        process.kill()
    assert run(seed=1).status == Status.OK
    (second,) = waiting()
    assert second != first


def test_each_trial_begins_as_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    import torch

    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []

    def spoil(order: Any) -> None:
        drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
        seen.append((order, drawn, os.environ.get("SPOILT"), Path.cwd(), torch.get_default_dtype()))
        os.environ["SPOILT"] = "yes"
        os.chdir("/")
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(not torch.are_deterministic_algorithms_enabled())

    exact = torch.are_deterministic_algorithms_enabled()
    try:
        in_turn("a", iter(['"b"', '"c"']), spoil)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(exact)
        monkeypatch.delenv("SPOILT")
    assert [s[0] for s in seen] == ["a", "b", "c"]
    assert len({s[1:] for s in seen}) == 1


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"seed": 7, "lr": 0.3, "epochs": 2, "optimizer": "adam"}, True),
        ({"norm": "gn"}, False),
        ({"batch_size": 8}, False),
        ({"model": {"width": 0.25}}, False),
        ({"data": {"image_size": 8}}, False),
        ({"precision": "bf16"}, False),
    ],
)
def test_what_a_shape_is(settings: dict[str, Any], same: bool, make_trial: MakeTrial) -> None:
    context = {"device": "cpu", "threads": 1}
    shape = shape_of(make_trial(), context)
    assert (shape_of(make_trial(**settings), context) == shape) is same
    assert shape_of(make_trial(), context | {"device": "cuda", "identity": "x"}) != shape
    assert shape_of(make_trial(), context | {"identity": "x"}) == shape


@pytest.mark.parametrize(
    ("process", "gpus", "serves"),
    [("auto", 0.0, False), ("auto", 0.5, True), ("shape", 0.0, True), ("trial", 1.0, False)],
)
def test_auto_is_on_for_a_gpu(process: Any, gpus: float, serves: bool, make_trial: MakeTrial) -> None:
    class Identity:
        fingerprint, data, hash = "", "", ""

    class Item:
        trial: Trial = make_trial()
        identity = Identity()

    class Work:
        item, need = Item(), {"CPU": 1.0, "GPU": gpus}

    options = Options(data_dir=None, provenance={}, jobs=None, ray=None)  # type: ignore[arg-type]
    assert _job(Work(), Limits(process=process), options).serves is serves  # type: ignore[arg-type]


def test_nothing_waits_for_no_shape() -> None:
    assert serving.IDLE.take("none") is None
