"""A real Ray cluster on loopback: nodes of different kinds, one killed during the run, code and data shipped, a token,
and what cannot work told at once.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.runner.test_faults import Running, is_trial
from tests.test_cli import SABOTEUR, Place

pytestmark = pytest.mark.cluster

RAY = [str(Path(sys.executable).with_name("ray"))]
HEAD = "127.0.0.2"
OPTIONS = ["--disable-usage-stats", "--include-log-monitor=false", "--object-store-memory=100000000", "--block"]


class Nodes:
    """Raylets on addresses of loopback, each with a home, a cache and an environment of its own, as machines would
    have.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.token = root, secrets.token_hex(32)
        self.running: dict[str, psutil.Popen] = {}
        self.port, self.client_port = _free_port(), _free_port()
        self.scratch = Path(
            tempfile.mkdtemp(prefix="nb-")
        )  # short: names of sockets are limited to about 100 characters
        # what nodes would import if the driver's code were not shipped
        (root / "wrong" / "normbench").mkdir(parents=True)
        (root / "wrong" / "normbench" / "__init__.py").write_text(
            "raise ImportError('this is not the code of the driver')\n"
        )

    @property
    def address(self) -> str:
        return f"{HEAD}:{self.port}"

    def environment(self, ip: str) -> dict[str, str]:
        home = self.root / ip
        home.mkdir(exist_ok=True)
        left_out = {"BENCH_DATA", "BENCH_RESULTS", "RAY_ADDRESS"}
        own = {
            "HOME": str(home),
            "BENCH_CACHE": str(home / "cache"),
            "PYTHONPATH": str(self.root / "wrong"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "300",  # 30 are few where many share the cores
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "RAY_TMPDIR": str(self.scratch),  # so that no other Ray of this machine meets this one
        }
        return {k: v for k, v in os.environ.items() if k not in left_out} | own

    def start(self, ip: str, *options: str, **settings: str) -> None:
        where = (
            [
                "--head",
                f"--port={self.port}",
                f"--ray-client-server-port={self.client_port}",
                "--include-dashboard=false",
            ]
            if ip == HEAD
            else [f"--address={self.address}"]
        )
        log = (self.root / f"{ip}.log").open("w")
        self.running[ip] = psutil.Popen(
            [
                *RAY,
                "start",
                *where,
                f"--node-ip-address={ip}",
                "--disable-usage-stats",
                "--include-log-monitor=false",
                "--object-store-memory=100000000",
                f"--temp-dir={self.scratch / ip.rpartition('.')[2]}",  # a folder a node, as machines would have
                "--block",
                *options,
            ],
            env=self.environment(ip) | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while "Ray runtime started" not in (self.root / f"{ip}.log").read_text(
            errors="replace"
        ):  # one after the other: two at once may take one port
            assert self.running[ip].poll() is None, self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-2000:]}" for p in self.root.glob("*.log"))

    def trials(self, ip: str) -> list[psutil.Process]:
        return [p for p in self.running[ip].children(recursive=True) if is_trial(p)]

    def kill(self, ip: str) -> None:
        """Everything on a node at once, as when its power goes."""
        process = self.running.pop(ip)
        for member in [process, *process.children(recursive=True)]:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HEAD, 0))
        port = int(probe.getsockname()[1])
    return 7000 + port % 2500  # below the ports that Ray gives to its workers (10002 to 19999)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    try:
        made.start(HEAD, "--num-cpus=0")
        made.start("127.0.0.3", "--num-cpus=2")
        made.start("127.0.0.4", "--num-cpus=2", "--num-gpus=1")  # a GPU in name: nothing here computes on it
        yield made
    finally:
        for ip in list(made.running):
            made.kill(ip)
        shutil.rmtree(made.scratch, ignore_errors=True)


@pytest.fixture
def place(tmp_path: Path, data_dir: Path, nodes: Nodes) -> Place:
    """A driver whose data and plug-ins are nowhere on the nodes: the dataset lies in its own home."""
    made = Place(tmp_path, data_dir)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "stripes").symlink_to(data_dir / "stripes")
    made.environment |= {
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(SABOTEUR), os.environ.get("PYTHONPATH")])),
        "RAY_AUTH_TOKEN": nodes.token,
        "RAY_ADDRESS": nodes.address,
        "RAY_TMPDIR": str(nodes.scratch),
        "NORMBENCH_CHECKPOINT_SECONDS": "0",
    }
    made.environment.pop("RAY_AUTH_MODE", None)
    return made


def suite(place: Place, limits: str = "cpu: 1, gpu: 0", **settings: object) -> None:
    path = place.suite(**settings)  # type: ignore[arg-type]
    path.write_text(path.read_text().replace("dataset: stripes", "dataset: ~/stripes").replace("cpu: 1", limits))


def with_address(place: Place, address: str) -> None:
    place.run_arguments = lambda: ["run", "small.yaml", "--results", "results", "--site", "site", "--address", address]  # type: ignore[method-assign]


def test_a_node_that_is_lost_costs_a_second_try(place: Place, nodes: Nodes) -> None:
    """`--address auto`; four at a time on two nodes; the power of one goes while it trains; every row comes, from the
    driver's own code and data.
    """
    suite(place, norms="bn, gn, 'saboteur[how=none,seconds=0.02]'", seeds=4, epochs=4)
    with_address(place, "auto")
    run = Running(place)
    run.until(lambda: any(line.startswith("[") for line in run.lines))
    run.until(lambda: nodes.trials("127.0.0.3"))
    nodes.kill("127.0.0.3")
    code = run.end(400)
    rows = list(place.store.rows())
    try:
        assert code == 0, "".join(run.lines)
        assert "4 trials at a time" in "".join(run.lines)
        assert len(rows) == 12
        assert {r["status"] for r in rows} == {"ok"}
        again = [r for r in rows if r["attempts"] > 1]
        assert 1 <= len(again) <= 4
        assert all("the Ray worker that ran it was lost" in r["log"] for r in again)
        for ip in ("127.0.0.3", "127.0.0.4"):
            cached = sorted(
                p.name for p in (nodes.root / ip / "cache" / "data").iterdir() if not p.name.endswith(".lock")
            )
            assert len(cached) == 1
            assert not cached[0].startswith(".")
        assert place.bench("results", "verify", "--results", "results").returncode == 0
    finally:
        nodes.start("127.0.0.3", "--num-cpus=2")


def test_through_rays_client(place: Place, nodes: Nodes) -> None:
    suite(place, norms="bn, 'saboteur', 'saboteur[how=kill,tally=%s]'" % (place.root / "tally"), seeds=1)
    with_address(place, f"ray://{HEAD}:{nodes.client_port}")
    answer = place.bench(*place.run_arguments())
    rows = {r["norm"].partition(",")[0]: (r["status"], r["attempts"]) for r in place.store.rows()}
    assert rows == {"bn": ("ok", 1), "saboteur": ("error", 1), "saboteur[how=kill": ("ok", 2)}, (
        answer.stdout + answer.stderr
    )
    assert answer.returncode == 1


def test_out_of_gpu_memory_counts_only_alone_on_the_device(place: Place, nodes: Nodes) -> None:
    """Two trials share a GPU; one runs out of its memory, once, and is tried again with all of it. The GPU exists in
    name only, so they compute on the CPU.
    """
    tallies = [place.root / "once", place.root / "always"]
    norms = f"bn, 'saboteur[how=gpu-memory,tally={tallies[0]}]', 'saboteur[how=gpu-memory,tally={tallies[1]},times=9]'"
    suite(place, limits="cpu: 1, gpu: 0.5", norms=norms, seeds=1)
    code = (
        "import normbench.runner.tune as t; t.device_of = lambda need: 'cpu'; from normbench.cli.main import "
        "main; main()"
    )
    with_address(place, nodes.address)
    answer = subprocess.run(
        [sys.executable, "-c", code, *place.run_arguments()],
        cwd=place.root,
        env=place.environment,
        capture_output=True,
        text=True,
    )
    rows = {r["norm"].partition("[")[2][-9:]: (r["status"], r["attempts"]) for r in place.store.rows()}
    assert sorted(rows.values()) == [("ok", 1), ("ok", 2), ("out_of_memory", 2)], answer.stdout + answer.stderr
    assert "2 trials at a time, each with 1 CPU and 0.5 GPU" in answer.stdout
    assert answer.stdout.count("it is tried again, alone on its device") == 2


def test_what_no_node_offers_is_told_at_once(place: Place, nodes: Nodes) -> None:
    suite(place, limits="cpu: 2, gpu: 3")
    with_address(place, nodes.address)
    answer = place.bench(*place.run_arguments())
    assert answer.returncode == 2
    assert "each trial asks for 2 CPUs and 3 GPUs" in answer.stderr
    assert "2 CPUs and 1 GPUs" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_without_the_token_nobody_joins(place: Place, nodes: Nodes) -> None:
    suite(place)
    with_address(place, nodes.address)
    answer = place.bench(*place.run_arguments(), RAY_AUTH_TOKEN="0" * 64)
    assert answer.returncode == 2, answer.stdout
    assert "RAY_AUTH_TOKEN" in answer.stderr.splitlines()[-1]
    assert not list(place.store.rows())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_an_address_where_nothing_is_is_told_at_once(place: Place, address: str) -> None:
    suite(place)
    with_address(place, address)
    answer = place.bench(*place.run_arguments())
    assert answer.returncode == 2
    assert f"--address {address}" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_node_with_other_versions_is_refused(place: Place, nodes: Nodes) -> None:
    about = nodes.root / "wrong" / "timm-0.0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 0.0.1\n")
    try:
        nodes.start("127.0.0.5", "--num-cpus=5")
        suite(place, limits="cpu: 3, gpu: 0")  # fits on that node alone
        with_address(place, nodes.address)
        answer = place.bench(*place.run_arguments())
        assert answer.returncode == 2, answer.stdout
        assert "127.0.0.5" in answer.stderr
        assert "timm 0.0.1 (here" in answer.stderr
    finally:
        about.joinpath("METADATA").unlink()
        about.rmdir()
        nodes.kill("127.0.0.5")


def test_a_driver_that_is_killed_leaves_nothing_running_and_the_rest_runs_later(place: Place, nodes: Nodes) -> None:
    suite(place, norms="bn, 'saboteur[how=none,seconds=0.05]'", seeds=2, epochs=3)
    with_address(place, nodes.address)
    run = Running(place)
    run.until(lambda: any(line.startswith("[1/4]") for line in run.lines))
    run.until(lambda: nodes.trials("127.0.0.3") + nodes.trials("127.0.0.4"))
    trials = nodes.trials("127.0.0.3") + nodes.trials("127.0.0.4")
    run.process.send_signal(signal.SIGKILL)
    run.end(60)
    _, alive = psutil.wait_procs(trials, timeout=60)
    assert not alive
    before = {r["trial_id"]: r["started"] for r in place.store.rows()}
    answer = place.bench(*place.run_arguments())
    assert answer.returncode == 0, answer.stdout + answer.stderr
    after = {r["trial_id"]: r["started"] for r in place.store.rows()}
    assert len(after) == 4
    assert before.items() <= after.items()
    assert all(json.loads(r["provenance"])["normbench"] for r in place.store.rows())
