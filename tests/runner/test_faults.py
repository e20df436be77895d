"""Faults in real runs of the command: what breaks costs only itself, what is interrupted ends at once, and no door
stands open (`tox -e faults`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.test_cli import BENCH, SABOTEUR, Place

pytestmark = pytest.mark.faults


@pytest.fixture
def place(tmp_path: Path, data_dir: Path) -> Place:
    made = Place(tmp_path, data_dir)
    made.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SABOTEUR), os.environ.get("PYTHONPATH")]))
    return made


class Running:
    """A started `bench run`, in a process group of its own as a terminal would start it."""

    def __init__(self, place: Place, **settings: str) -> None:
        self.place = place
        self.process = subprocess.Popen(
            [*BENCH, *place.run_arguments()],
            cwd=place.root,
            env=place.environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def trials(self) -> list[psutil.Process]:
        """Processes in which trials run."""
        return [p for p in self.family() if is_trial(p)]

    def until(self, what: Callable[[], object], seconds: float = 300.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, "".join(self.lines)
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.05)

    def end(self, seconds: float = 600.0) -> int:
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code


def is_trial(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.name() == "bench-trial")
    return False


def is_worker(process: psutil.Process) -> bool:
    """Is it a Ray worker that has a trial?"""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()[0].startswith("ray::ImplicitFunc")
    return False


def left_behind(run: Running, family: list[psutil.Process]) -> list[str]:
    """Processes and folders of a run that are still there some seconds after its end."""
    alive = [f"{p.pid} {p.name()}" for p in psutil.wait_procs(family, timeout=10)[1]]
    ours = {"/tmp", tempfile.gettempdir()}
    patterns = (f"normbench-run-{run.process.pid}-*", f"ray/session_*_{run.process.pid}")
    return alive + [str(path) for place in ours for pattern in patterns for path in Path(place).glob(pattern)]


@pytest.fixture
def started(place: Place) -> Iterator[Callable[..., Running]]:
    runs: list[Running] = []

    def start(**settings: str) -> Running:
        runs.append(Running(place, **settings))
        return runs[-1]

    yield start
    for run in runs:
        family = run.family()
        run.process.kill()
        psutil.wait_procs(family, timeout=30)


def test_every_fault_costs_only_itself(place: Place) -> None:
    """One suite with each of them: the row says which, good trials beside it are whole, retries are made where they can
    help, and counted.
    """
    tallies = {name: place.root / name for name in ("once", "always", "later")}
    faults = {
        "saboteur": ("error", 1, "RuntimeError: broken on purpose"),  # how=raise is its default
        "gn[groups=7]": ("error", 1, "7 groups do not divide 8 channels"),
        "saboteur[how=nan]": ("diverged", 1, "not finite in epoch 1"),
        "saboteur[how=segfault]": ("killed", 1, "SIGSEGV"),
        "saboteur[how=abort]": ("killed", 1, "SIGABRT"),
        "saboteur[how=exit]": ("killed", 1, "exit code 3"),
        "saboteur[how=hang-in-c]": ("timed_out", 1, "longer than its limit of 30 s"),
        "saboteur[how=memory]": ("out_of_memory", 2, "out of host memory"),
        "saboteur[how=allocation]": ("out_of_memory", 2, "can't allocate memory"),
        f"saboteur[how=kill,tally={tallies['once']}]": ("ok", 2, ""),
        f"saboteur[how=kill,tally={tallies['always']},times=9]": ("killed", 3, "SIGKILL"),
        f"saboteur[how=kill-later,tally={tallies['later']},times=2,after=10]": ("ok", 3, ""),
    }
    place.suite(norms=", ".join(["bn", "gn", *(f"'{f}'" for f in faults)]), seeds=1, epochs=4, time="30s")
    answer = place.bench(*place.run_arguments(), NORMBENCH_CHECKPOINT_SECONDS="0")
    rows = {r["norm"]: r for r in place.store.rows()}
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert set(rows) == {"bn", "gn", *faults}
    assert {n: (rows[n]["status"], rows[n]["attempts"]) for n in rows} == {"bn": ("ok", 1), "gn": ("ok", 1)} | {
        n: f[:2] for n, f in faults.items()
    }
    for norm, (_, attempts, reason) in faults.items():
        assert reason in rows[norm]["reason"], norm
        earlier = [line for line in rows[norm]["log"].splitlines() if line.startswith("try ")]
        assert len(earlier) == attempts - 1, norm
    said = answer.stdout.partition("[1/")[0]  # before anything is trained
    assert "impossible: gn[groups=7] on resnet18: " in said
    assert "such trials end as error before they are trained" in said
    assert "saboteur.py" in rows["saboteur"]["log"]
    assert "in layer" in rows["saboteur[how=hang-in-c]"]["log"]
    later = rows[f"saboteur[how=kill-later,tally={tallies['later']},times=2,after=10]"]
    assert json.loads(later["provenance"])["resumed_at"] == [
        1,
        2,
    ]  # six batches an epoch, killed after ten, and again after ten
    assert "it is tried again" in answer.stdout
    assert "alone on its machine" in answer.stdout
    assert place.bench("results", "verify", "--results", "results").returncode == 0
    kept = place.root / "results" / ".checkpoints"
    assert not kept.exists() or all(p.suffix == ".safetensors" for p in kept.iterdir())


def test_ctrl_c_ends_stuck_trials_within_five_seconds(place: Place, started: Callable[..., Running]) -> None:
    place.suite(norms="bn, 'saboteur[how=hang-in-c]'", seeds=1)
    run = started()
    run.until(lambda: any(line.startswith("[1/2]") for line in run.lines))
    run.until(run.trials)
    time.sleep(3.0)  # into the call that is stuck
    trials, began = run.trials(), time.monotonic()
    assert trials
    os.killpg(run.process.pid, signal.SIGINT)
    code = run.end(30)
    took = time.monotonic() - began
    assert code == 130, "".join(run.lines)
    assert "the same command goes on from here" in "".join(run.lines)
    _, alive = psutil.wait_procs(trials, timeout=max(0.0, 5.0 - took))
    assert not alive
    assert took < 5.0
    assert [r["norm"] for r in place.store.rows()] == ["bn"]


def caught(pid: int, number: int) -> bool:
    """Has a process a handler of its own for this signal?"""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    found = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> (number - 1) & 1)


def test_a_second_ctrl_c_ends_at_once(place: Place, started: Callable[..., Running]) -> None:
    place.suite(norms="'saboteur[how=hang-in-c]'", seeds=1)
    run = started()
    run.until(run.trials)
    family = run.family()
    os.killpg(run.process.pid, signal.SIGINT)
    run.until(lambda: not caught(run.process.pid, signal.SIGINT))  # two at once would be one
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.end(60) in {130, -signal.SIGINT}
    _, alive = psutil.wait_procs([p for p in family if is_trial(p)], timeout=10)
    assert not alive


@pytest.mark.parametrize(
    ("number", "reached"),
    [
        (signal.SIGTERM, "gcs_server"),
        (signal.SIGHUP, "raylet"),
        (signal.SIGINT, "raylet"),
        (signal.SIGTERM, "bench-trial"),
    ],
)
def test_a_signal_ends_a_run_during_the_start_of_ray_too(
    place: Place, started: Callable[..., Running], number: signal.Signals, reached: str
) -> None:
    """As soon as a process of this name is there."""
    place.suite(norms="'saboteur[how=none,seconds=1]'", seeds=1)
    run = started()
    run.until(lambda: any(_name(p) == reached for p in run.family()))
    family = run.family()
    run.process.send_signal(number)
    assert run.end(60) == 128 + number, "".join(run.lines)
    assert "interrupted: what had finished is stored; the same command goes on from here" in "".join(run.lines)
    assert "Traceback" not in "".join(run.lines)
    assert left_behind(run, family) == []


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return str(process.name())
    return ""


#: Imported by every Python process of a run: it writes a line now and then, as libraries do.
TALKATIVE = """
import os, threading, time
def _write():
    while True:
        time.sleep(0.05)
        os.write(2, f"words of {os.getpid()}\\n".encode())
threading.Thread(target=_write, daemon=True).start()
"""


def test_a_lost_ray_worker_is_replaced_and_its_trial_tried_again(place: Place, started: Callable[..., Running]) -> None:
    module = place.root / "on the path"
    module.mkdir()
    (module / "sitecustomize.py").write_text(TALKATIVE)
    place.environment["PYTHONPATH"] = os.pathsep.join([str(module), place.environment["PYTHONPATH"]])
    place.suite(norms="'saboteur[how=none,seconds=0.01]', gn", seeds=1, epochs=4)
    run = started()
    run.until(run.trials)
    worker = next(p for p in run.family() if is_worker(p))
    worker.kill()
    assert run.end() == 0, "".join(run.lines)
    rows = list(place.store.rows())
    assert {r["status"] for r in rows} == {"ok"}
    assert sorted(r["attempts"] for r in rows) == [1, 2]
    (again,) = (r for r in rows if r["attempts"] == 2)
    assert f"the Ray worker that ran it was lost; it last wrote: words of {worker.pid}" in again["log"]
    assert "Trials did not complete" not in "".join(run.lines), "Tune's own list of what the driver has told already"


@pytest.mark.parametrize(("name", "part"), [("raylet", "raylet"), ("gcs_server", "head")])
def test_a_lost_part_of_ray_ends_the_run_with_one_message(
    place: Place, started: Callable[..., Running], name: str, part: str
) -> None:
    """Ray by itself ends such a run after up to a minute without a word."""
    place.suite(norms="bn, 'saboteur[how=none,seconds=0.3]'", seeds=1)
    run = started()
    run.until(lambda: any(line.startswith("[1/2]") for line in run.lines))
    run.until(run.trials)
    family = run.family()
    next(p for p in family if _name(p) == name).kill()
    assert run.end(50) == 3, "".join(run.lines)
    assert [line for line in run.lines if line.startswith("bench: ")] == [
        f"bench: Ray's {part} was lost; what had finished is stored, and the same command goes on from here\n"
    ]
    assert "Traceback" not in "".join(run.lines)
    assert left_behind(run, family) == []
    again = place.bench(*place.run_arguments())
    assert again.returncode == 0, again.stdout + again.stderr
    assert [(r["status"], r["attempts"]) for r in place.store.rows()] == [("ok", 1)] * 2


def test_rays_memory_monitor_cannot_end_the_run(place: Place) -> None:
    """With the monitor on (as on a cluster) and a trial that eats memory once: its worker is ended, the run goes on,
    the trial is tried again alone.
    """
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + 3 * 2**30) / memory.total
    if threshold > 0.95:
        pytest.skip("not enough free memory to eat some")
    tally = place.root / "tally"
    place.suite(norms=f"bn, 'saboteur[how=eat-memory,tally={tally}]', gn", seeds=1)
    settings = {"RAY_memory_monitor_refresh_ms": "100", "RAY_memory_usage_threshold": f"{threshold:.4f}"}
    answer = place.bench(*place.run_arguments(), **settings)
    rows = {r["norm"].partition("[")[0]: r for r in place.store.rows()}
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert {n: r["status"] for n, r in rows.items()} == {"bn": "ok", "gn": "ok", "saboteur": "ok"}
    assert rows["saboteur"]["attempts"] == 2, answer.stdout
    assert "out of memory" in rows["saboteur"]["log"] or "lost" in rows["saboteur"]["log"]


#: Imported by every Python process of a run: notes each address outside of loopback that something asks for.
AUDIT = """
import os, sys
def _hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        where = arguments[1] if event != "socket.getaddrinfo" else arguments
        host = where[0] if isinstance(where, tuple) else None
        if host is not None and not str(host).startswith("127.") and str(host) not in ("::1", "localhost", "None", ""):
            with open(os.environ["AUDIT_FILE"], "a") as file:
                file.write(f"{event} {where} {sys.argv[:2]}\\n")
sys.addaudithook(_hook)
"""


def test_on_one_machine_only_loopback_listens_and_nothing_calls_home(
    place: Place, started: Callable[..., Running]
) -> None:
    """The listening and connected sockets of every process of a run, looked at all along, and what Python code tried to
    reach.
    """
    audit, asked = place.root / "audit", place.root / "asked"
    audit.mkdir()
    (audit / "sitecustomize.py").write_text(AUDIT)
    place.environment["PYTHONPATH"] = os.pathsep.join([str(audit), place.environment["PYTHONPATH"]])
    place.suite(norms="bn, 'saboteur[how=none,seconds=0.01]'", seeds=2)
    run = started(AUDIT_FILE=str(asked))
    listening: set[tuple[str, str]] = set()
    remote: set[tuple[str, str]] = set()
    settings: dict[str, str] = {}
    while run.process.poll() is None:
        for process in [psutil.Process(run.process.pid), *run.family()] if run.process.poll() is None else []:
            try:
                name = process.name()
                for socket in process.net_connections("inet"):
                    if socket.status == psutil.CONN_LISTEN:
                        listening.add((name, socket.laddr.ip))
                    if socket.raddr:
                        remote.add((name, socket.raddr.ip))
                if name == "raylet" and not settings:
                    settings = process.environ()
            except psutil.Error:
                continue
        time.sleep(0.1)
    assert run.end() == 0, "".join(run.lines)
    assert {"raylet", "gcs_server"} <= {name for name, _ in listening}
    assert not {entry for entry in listening | remote if not _is_loopback(entry[1])}
    assert not asked.exists() or not asked.read_text(), asked.read_text()
    assert (settings["RAY_USAGE_STATS_ENABLED"], settings["RAY_memory_monitor_refresh_ms"]) == ("0", "0")


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in {"::1", "::ffff:127.0.0.1"}
