"""Trials that come from the run's server are those that come from a server of their worker's own; losing a server, or a
guard, costs time and nothing else, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from normbench.lab import data
from normbench.runner import spawn
from normbench.runner.retry import LOST, next_need
from normbench.runner.server import GONE
from normbench.spec.outcome import Outcome, Status

from tests.conftest import MakeTrial
from tests.lab.test_checkpoint import numbers

SABOTEUR = Path(__file__).parent / "saboteur"
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="names of processes are Linux's"),
]

#: A worker: one line of JSON in with a job, one line out with its outcome and whether its server is the run's. As
#: Python's own start would have it, the working directory comes first where it looks for modules.
WORKER = """
import json, os, sys
from normbench.runner import spawn
from normbench.runner.worker import Job, supervise
sys.path[:0] = ["", ".", os.getcwd()]
for line in sys.stdin:
    asked = json.loads(line)
    os.environ.update(asked["environment"])
    outcome = supervise(Job(**asked["job"]), lambda _: None)
    print(json.dumps({"outcome": outcome.model_dump_json(), "of_the_run": spawn._own is None}), flush=True)
"""


class Worker:
    def __init__(self, variables: dict[str, str], folder: Path | None = None) -> None:
        path = os.pathsep.join(filter(None, [str(SABOTEUR), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", WORKER],
            env=os.environ | {"PYTHONPATH": path} | variables,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, job: dict[str, Any], **environment: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"job": job, "environment": environment}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[Outcome, bool]:
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        return Outcome.model_validate_json(answer["outcome"]), answer["of_the_run"]

    def run(self, job: dict[str, Any], **environment: str) -> tuple[Outcome, bool]:
        """Outcome, and whether its server is the run's."""
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
        trial = json.loads(make_trial("gn").model_dump_json()) | {"attacks": []}
        if breaks:
            trial["norm"] = [trial["norm"][0] | {"name": "saboteur", "params": breaks}]
        return {"trial": json.dumps(trial), "context": context, "time_limit": 120.0}

    return make


def _named(name: str) -> list[psutil.Process]:
    """Below this process: servers and what is forked from them, but for the one that other tests have started here."""
    others = None if spawn._own is None else spawn._own._process.pid
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == name and others not in {child.pid, *(p.pid for p in child.parents())}:
                found.append(child)
    return found


def _until(what: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _gone(*names: str) -> bool:
    """Does nothing of these names go on below this process?"""
    return not psutil.wait_procs([p for name in names for p in _named(name)], timeout=60)[1]


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    """Of a run's server that no test harms."""
    with spawn.running() as found:
        yield found
    assert _gone("bench-server", "bench-guard", "bench-trial")
    assert not Path(found[spawn.ADDRESS]).parent.exists()


@pytest.mark.faults
def test_numbers_and_environment_are_those_of_a_server_of_its_own(
    variables: dict[str, str], job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Ray gives a worker its GPUs after it has started, by `CUDA_VISIBLE_DEVICES`: trials must be told of it, whatever
    their server was started with.
    """
    found, seen = [], []
    for kind in (variables, {}):
        worker = Worker(kind | {"CUDA_VISIBLE_DEVICES": "0"})
        try:
            found.append(worker.run(job()))
            for device in ("2", "3"):
                tally = tmp_path / f"{device}-{len(seen)}"
                worker.run(job(how="kill", tally=str(tally)), CUDA_VISIBLE_DEVICES=device)
                seen.append(tally.read_text().split()[-1])
        finally:
            worker.end()
    assert [of_the_run for _, of_the_run in found] == [True, False]
    assert [o.status for o, _ in found] == [Status.OK, Status.OK], [o.log for o, _ in found]
    assert numbers(found[0][0]) == numbers(found[1][0])
    assert seen == ["2", "3", "2", "3"]


def _lost_with(worker: Worker, job: Callable[..., dict[str, Any]], struck: str, breaks: str, folder: Path) -> None:
    """Kill what a trial was forked from: the trial is lost, to be tried again, and nothing of it is left."""
    tally, forks = folder / f"tally-{breaks}", folder / f"forks-{breaks}"
    worker.ask(job(how=breaks, tally=str(tally), forks=str(forks)))
    _until(lambda: tally.exists() and (breaks == "hang-in-c" or len(_lines(forks)) >= 2))
    (guard,) = _named("bench-guard")
    ours = [guard, *_named("bench-trial"), *map(psutil.Process, _lines(forks))]
    (guard if struck == "bench-guard" else guard.parent()).kill()
    outcome, _ = worker.answer()
    assert (outcome.status, outcome.provenance["ended_by"]) == (Status.KILLED, LOST)
    assert next_need(outcome, (), {"CPU": 1.0, "GPU": 0.0}, ()) is not None
    assert not psutil.wait_procs(ours, timeout=60)[1]


def _lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []


@pytest.mark.faults
def test_when_servers_are_lost_their_trials_are_and_others_start_from_new_ones(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """First the run's server, then the worker's own; each time while a trial runs."""
    with spawn.running() as found:
        worker = Worker(found)
        try:
            _lost_with(worker, job, "bench-server", "fork-and-hang", tmp_path)
            outcome, of_the_run = worker.run(job())
            assert (outcome.status, of_the_run) == (Status.OK, False), outcome.log
            _lost_with(worker, job, "bench-server", "hang-in-c", tmp_path)
            assert worker.run(job())[0].status is Status.OK
        finally:
            worker.end()


def test_when_a_guard_is_lost_its_trial_is_and_the_server_goes_on(
    variables: dict[str, str], job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    worker = Worker(variables)
    try:
        for breaks in ("hang-in-c", "fork-and-hang"):
            _lost_with(worker, job, "bench-guard", breaks, tmp_path)
        outcome, of_the_run = worker.run(job())
        assert (outcome.status, of_the_run) == (Status.OK, True), outcome.log
    finally:
        worker.end()


def test_a_trial_ends_with_its_worker_and_has_its_standing(
    variables: dict[str, str], job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Ray's workers have a low priority and are the first to go when memory runs out; so must be what uses the
    processor and the memory. The server goes on.
    """
    tally = tmp_path / "tally"
    worker = Worker(variables)
    try:
        process = psutil.Process(worker.process.pid)
        process.nice(7)
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("900", encoding="utf-8")
        worker.ask(job(how="hang-in-c", tally=str(tally)))
        _until(tally.exists)
        (trial,) = _named("bench-trial")
        assert trial.nice() == 7
        assert Path(f"/proc/{trial.pid}/oom_score_adj").read_text(encoding="utf-8").strip() == "900"
        session = Path(f"/proc/{trial.pid}/autogroup")
        if session.exists():  # not in every kernel
            assert session.read_text(encoding="utf-8").split()[-2:] == ["nice", "7"]
    finally:
        worker.end()
    assert _gone("bench-trial", "bench-guard")
    assert len(_named("bench-server")) == 1


@pytest.mark.faults
def test_everything_ends_with_the_driver(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Of a run whose driver is killed: its server, which says so, and trials of workers that are not yet gone."""
    tally = tmp_path / "tally"
    code = (
        "import json, time\nfrom normbench.runner import folder, spawn\n"
        "with folder.run_folder(), spawn.running() as variables:\n"
        "    print(json.dumps(variables), flush=True)\n    time.sleep(1000)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(SABOTEUR)},
    ) as driver:
        assert driver.stdout is not None
        worker = Worker(json.loads(driver.stdout.readline()))
        try:
            worker.ask(job(how="hang-in-c", tally=str(tally)))
            _until(tally.exists)
            ours = psutil.Process(driver.pid).children(recursive=True)
            assert [p.name() for p in ours] == ["bench-server", "bench-guard", "bench-trial"]
            driver.kill()
            outcome, _ = worker.answer()
            assert (outcome.status, outcome.provenance["ended_by"]) == (Status.KILLED, LOST)
            assert not psutil.wait_procs(ours, timeout=20)[1]
            assert driver.stderr is not None
            assert driver.stderr.read().decode() == f"bench: {GONE}\n"
            assert not list(tmp_path.glob("normbench-run-*"))
        finally:
            worker.end()


@pytest.mark.faults
def test_modules_of_the_working_directory_are_none_of_a_trials(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """A user's own files there, with names of the standard library, of libraries, and of this package; for the worker
    of a run, and for one with a server of its own and an empty part in its `PYTHONPATH`.
    """
    for name in ("types", "numpy", "torch", "normbench", "benchmark", "sitecustomize", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a module of the working directory')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.syspath_prepend("")
        with spawn.running() as found:
            for kind, changed in ((found, {}), ({}, {"PYTHONPATH": os.pathsep + str(SABOTEUR)})):
                worker = Worker(kind, tmp_path)
                try:
                    outcome, of_the_run = worker.run(job(), **changed)
                    assert (outcome.status, of_the_run) == (Status.OK, kind is found), outcome
                finally:
                    worker.end()


def test_a_server_that_cannot_load_says_why(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "foolbox.py").write_text("raise RuntimeError('broken on purpose')")
    worker = Worker({"PYTHONPATH": str(tmp_path)})
    try:
        outcome, _ = worker.run(job())
        assert (outcome.status, outcome.provenance["ended_by"]) == (Status.KILLED, LOST)
        assert "no process could be started" in outcome.reason
        assert "broken on purpose" in outcome.log
    finally:
        worker.end()


def test_without_a_socket_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with spawn.running() as variables:
        assert variables == {}
    assert not list(deep.iterdir())
