"""Trials that come from the run's zygote are those that come from a server of their worker's own; losing the zygote
costs time and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from normbench.lab import data
from normbench.runner import warm, zygote
from normbench.runner.retry import LOST, next_need
from normbench.spec.outcome import Outcome, Status

from tests.conftest import MakeTrial
from tests.lab.test_checkpoint import numbers

SABOTEUR = Path(__file__).parent / "saboteur"
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="names of processes are Linux's"),
]

#: A worker: one line of JSON in with a job, one line out with its outcome and whether its server is the zygote's.
WORKER = """
import json, os, sys
from multiprocessing import forkserver
from normbench.runner.worker import Job, supervise
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    outcome = supervise(Job(**asked["job"]), lambda _: None)
    adopted = "ensure_running" in vars(forkserver._forkserver)
    print(json.dumps({"outcome": outcome.model_dump_json(), "adopted": adopted}), flush=True)
"""


class Worker:
    def __init__(self, variables: dict[str, str]) -> None:
        environment = (
            os.environ
            | variables
            | {"PYTHONPATH": os.pathsep.join(filter(None, [str(SABOTEUR), os.environ.get("PYTHONPATH")]))}
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, job: dict[str, Any], **environment: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"job": job, "environment": environment}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[Outcome, bool]:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        return Outcome.model_validate_json(answer["outcome"]), answer["adopted"]

    def run(self, job: dict[str, Any], **environment: str) -> tuple[Outcome, bool]:
        """Outcome, and whether its server is the zygote's."""
        self.ask(job, **environment)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def job(make_trial: MakeTrial, data_dir: Path) -> Callable[..., dict[str, Any]]:
    """A job of `gn`, or of a norm that breaks in the given way."""
    source = data.locate(make_trial().data, data_dir, download=False)
    assert source is not None
    context = {"data_dir": str(data_dir), "fingerprint": data.fingerprint(source), "provenance": {}}

    def make(**breaks: str) -> dict[str, Any]:
        trial = json.loads(make_trial("gn").model_dump_json())
        if breaks:
            trial["norm"] = [trial["norm"][0] | {"name": "saboteur", "params": breaks}]
        return {"trial": json.dumps(trial), "context": context, "time_limit": 120.0}

    return make


def _named(name: str) -> list[psutil.Process]:
    """Below this process: the zygote and what is forked from it."""
    return [p for p in psutil.Process().children(recursive=True) if p.name() == name]


def _until(what: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_numbers_are_those_of_a_server_of_its_own(job: Callable[..., dict[str, Any]]) -> None:
    with zygote.running() as variables:
        workers = [Worker(variables), Worker({})]
        try:
            found = [w.run(job()) for w in workers]
            assert [adopted for _, adopted in found] == [True, False]
            assert [o.status for o, _ in found] == [Status.OK, Status.OK], [o.log for o, _ in found]
            assert numbers(found[0][0]) == numbers(found[1][0])
            assert len(_named("bench-server")) == 1
            workers[0].end()
            assert not psutil.wait_procs(_named("bench-server"), timeout=20)[1], "a server ends with its worker"
        finally:
            for w in workers:
                w.end()
    assert not psutil.wait_procs(_named("bench-zygote"), timeout=20)[1]


def test_a_trial_has_the_environment_of_its_worker(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Ray gives a worker its GPUs after it has started, by `CUDA_VISIBLE_DEVICES`: trials must be told of it, whatever
    their server was started with.
    """
    seen = []
    with zygote.running() as variables:
        for kind in (variables, {}):
            worker = Worker(kind | {"CUDA_VISIBLE_DEVICES": "0"})
            try:
                for device in ("2", "3"):
                    tally = tmp_path / f"{device}-{len(seen)}"
                    worker.run(job(how="kill", tally=str(tally)), CUDA_VISIBLE_DEVICES=device)
                    seen.append(tally.read_text().split()[-1])
            finally:
                worker.end()
    assert seen == ["2", "3", "2", "3"]


def test_when_the_zygote_is_gone_workers_start_their_own_servers(job: Callable[..., dict[str, Any]]) -> None:
    with zygote.running() as variables:
        worker, late = Worker(variables), Worker(variables)
        try:
            assert worker.run(job())[1]
            (process,) = _named("bench-zygote")
            servers = _named("bench-server")
            process.kill()
            assert not psutil.wait_procs([process, *servers], timeout=20)[1], "the kernel ends what was forked from it"
            for w in (worker, late):
                outcome, adopted = w.run(job())
                assert (outcome.status, adopted) == (Status.OK, False), outcome.log
        finally:
            worker.end()
            late.end()


@pytest.mark.parametrize("struck", ["bench-zygote", "bench-server"])
def test_a_trial_that_dies_with_what_it_was_forked_from_is_tried_again(
    job: Callable[..., dict[str, Any]], tmp_path: Path, struck: str
) -> None:
    tally = tmp_path / "tally"
    with zygote.running() as variables:
        worker = Worker(variables)
        try:
            worker.ask(job(how="hang-in-c", tally=str(tally)))
            _until(tally.exists)  # the line before the call that hangs
            ours = _named("bench-trial") + _named("bench-server")
            _named(struck)[0].kill()
            outcome, _ = worker.answer()
            assert (outcome.status, outcome.provenance["ended_by"]) == (Status.KILLED, LOST)
            assert next_need(outcome, (), {"CPU": 1.0, "GPU": 0.0}, ()) is not None
            assert not psutil.wait_procs(ours, timeout=20)[1]
            outcome, _ = worker.run(job())
            assert outcome.status is Status.OK, outcome.log
        finally:
            worker.end()


def test_a_trial_has_the_standing_of_its_worker(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Ray's workers have a low priority and are the first to go when memory runs out; so must be what uses the
    processor and the memory.
    """
    tally = tmp_path / "tally"
    with zygote.running() as variables:
        worker = Worker(variables)
        process = psutil.Process(worker.process.pid)
        try:
            process.nice(7)
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("900")
            worker.ask(job(how="hang", tally=str(tally)))
            _until(tally.exists)
            (trial,) = _named("bench-trial")
            assert trial.nice() == 7
            assert Path(f"/proc/{trial.pid}/oom_score_adj").read_text().strip() == "900"
        finally:
            worker.end()


def test_without_a_socket_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with zygote.running() as variables:
        assert variables == {}
    assert not warm.adopt(str(tmp_path / "nobody"))
