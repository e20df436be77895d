"""Another user of the machine gets into a run nowhere: not into its files and sockets, not through its ports."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.runner.stranger import calls, pages
from tests.runner.test_faults import Running, place, started  # noqa: F401 (fixtures)
from tests.test_cli import Place

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user"),
    pytest.mark.skipif(sys.platform != "linux", reason="sockets and environments are looked at through Linux' /proc"),
]

_LIST_KEYS = "/ray.rpc.InternalKVGcsService/InternalKVKeys"
_MAKE_ENVIRONMENT = "POST /get_or_create_runtime_env"


def test_a_stranger_reads_lists_writes_and_calls_nothing(
    place: Place,  # noqa: F811
    started: Callable[..., Running],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """All that lies in the run's folder and that its processes have open, and each call that Ray knows at each port,
    without a token and with a wrong one. With the right one the same calls get an answer.
    """
    home = tmp_path_factory.mktemp("home")
    place.suite(norms="'saboteur[how=none,seconds=0.2]'", seeds=1, epochs=500)
    run = started(HOME=str(home), RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="known to others", TMPDIR="/tmp")
    run.until(run.trials)
    family = [psutil.Process(run.process.pid), *run.family()]
    (folder,) = Path("/tmp").glob(f"normbench-run-{run.process.pid}-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list((folder / "ray").glob("session_2*"))) == 1, "Ray's own folder lies in it"
    assert [p for p in folder.glob("server-*/socket") if p.is_socket()], "that of the server of trials"
    assert not (home / ".ray").exists(), "Ray writes its token there"

    tokens = {p.environ().get("RAY_AUTH_TOKEN") for p in family if p.name() in {"gcs_server", "raylet"}}
    (token,) = tokens
    assert token is not None
    assert len(token) == 64
    assert not [p for p in family if token in " ".join(p.cmdline())], "anyone may read the arguments of a process"
    assert not [p for p in folder.rglob("*") if p.is_file() and token.encode() in p.read_bytes()]

    ports = {
        s.laddr.port: p.name() for p in family for s in p.net_connections("inet") if s.status == psutil.CONN_LISTEN
    }
    given = {
        "uid": pwd.getpwnam("nobody").pw_uid,
        "paths": [str(folder), *map(str, folder.rglob("*"))],
        "processes": [p.pid for p in family if p.is_running()],
        "ports": list(ports),
    }
    answer = subprocess.run(
        [sys.executable, "-m", "tests.runner.stranger"], input=json.dumps(given), capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert said["found"] == []
    assert {"gcs_server", "raylet", "ray::RuntimeEnvAgent"} <= {name.strip() for name in ports.values()}
    assert all(said["refused"]), "each port was asked in its own language"

    with_it = {name: port for port, name in ports.items()}
    assert calls(with_it["gcs_server"], [_LIST_KEYS], "0" * 64) == {_LIST_KEYS: "UNAUTHENTICATED"}
    assert calls(with_it["gcs_server"], [_LIST_KEYS], token) == {_LIST_KEYS: "OK"}
    assert pages(with_it["ray::RuntimeEnvAgent"], token)[_MAKE_ENVIRONMENT] not in {401, 403}
    assert run.process.poll() is None
