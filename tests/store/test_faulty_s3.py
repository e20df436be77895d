"""Results on an S3 server behind a network that fails: of every hundred requests twelve end in an error or with a
connection that is cut, before or after the server has done what was asked. Nothing is lost, and nothing doubled.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from normbench.errors import BenchError
from normbench.store import weights
from normbench.store.compact import compact
from normbench.store.files import each
from normbench.store.merge import merge
from normbench.store.store import Store
from normbench.store.verify import verify

from tests.command import bench
from tests.conftest import MakeTrial
from tests.store.samples import fill, rows
from tests.store.test_remote import SUITE, s3

__all__ = ["s3"]
pytestmark = pytest.mark.faults

SHARE = 0.12
SEED = int(os.environ.get("NORMBENCH_S3_SEED", "0"))
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
#: Headers of one connection, which are not handed on.
OWN = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}


class Faulty(ThreadingHTTPServer):
    """Hands requests to the server at `behind`, and fails as the text above says."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = urlsplit(behind).netloc
        self.draw, self.lock = random.Random(SEED), threading.Lock()
        self.counts = {"asked": 0, "busy": 0, "busy after all": 0, "cut before": 0, "cut after": 0, "cut within": 0}

    def handle_error(self, *_: object) -> None:
        """Clients hang up."""

    def fate(self) -> str:
        with self.lock:
            self.counts["asked"] += 1
            if self.draw.random() >= SHARE:
                return ""
            chosen = self.draw.choice([name for name in self.counts if name != "asked"])
            self.counts[chosen] += 1
            return chosen


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = b"".join(self.body())
        fate = self.server.fate()
        if fate == "busy":
            return self.answer(503, [("Content-Type", "application/xml")], BUSY)
        if fate == "cut before":
            return self.cut()
        behind = http.client.HTTPConnection(self.server.behind, timeout=60)
        with contextlib.closing(behind):
            behind.request(
                self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() not in OWN}
            )
            answer = behind.getresponse()
            content = answer.read()
        if fate == "cut after":
            return self.cut()
        if fate == "busy after all":
            return self.answer(500, [], b"")
        self.answer(answer.status, answer.getheaders(), content, within=fate == "cut within")

    def body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, within: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in OWN:
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if within else content)
        self.wfile.flush()
        if within:
            self.cut()

    def cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def network(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    server = Faulty(s3["AWS_ENDPOINT_URL"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def test_rows_that_were_stored_are_there_once(
    network: Faulty, s3: dict[str, str], tmp_path: Path, make_trial: MakeTrial
) -> None:
    """Written, written again, merged, compacted and read back, each step again until it says that it was done."""
    near, far = Store(tmp_path / "near"), Store(f"s3://bucket/{tmp_path.name}/results")
    fill(near, make_trial, range(12))
    expected = rows(near)
    _until_done(lambda: merge(near, far))
    for name in near.shards("s"):
        assert _until_done(lambda name=name: far.files.read(name)) == near.files.read(name)
    _until_done(lambda: each(lambda name: far.files.write(name, near.files.read(name)), near.shards("s")))
    _until_done(lambda: compact(far, "s"))
    assert _until_done(lambda: rows(Store(far.root))) == expected
    os.environ["AWS_ENDPOINT_URL"] = s3["AWS_ENDPOINT_URL"]
    there = Store(far.root)
    assert rows(there) == expected
    assert verify(there) == (12, [])
    assert sum(network.counts.values()) - network.counts["asked"] > 0.06 * network.counts["asked"], network.counts


def _until_done(step):  # type: ignore[no-untyped-def]
    """The step's answer, once it has one; until then it says what failed as people are told of it."""
    said = []
    for _ in range(20):
        try:
            return step()
        except (OSError, BenchError) as error:
            said.append(str(error))
    raise AssertionError("\n".join(said))


def test_a_run_ends_with_all_of_its_rows(network: Faulty, s3: dict[str, str], data_dir: Path, tmp_path: Path) -> None:
    """One that the network stops says so in one message, and the same command goes on; what it had stored stays.
    Weights lie beside the row that names them, or it says why they do not.
    """
    (tmp_path / "s.yaml").write_text(SUITE + "keep: weights\n")
    address = f"s3://bucket/{tmp_path.name}/results"
    command = ["run", "s.yaml", "--results", address, "--site", "site"]
    near = {"BENCH_DATA": str(data_dir)} | s3
    far = near | {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]}
    os.environ |= s3
    stored: dict[str, object] = {}
    for _ in range(10):
        answer = bench(*command, cwd=tmp_path, **far)
        found = {r["trial_id"]: r["started"] for r in Store(address).rows()}
        assert stored.items() <= found.items(), "a stored row is not run again"
        stored = found
        assert "Traceback" not in answer.stderr
        if answer.returncode == 0:
            break
        assert answer.returncode == 2, answer.stdout + answer.stderr
        assert [line for line in answer.stderr.splitlines() if address in line], answer.stderr
    assert answer.returncode == 0, answer.stderr
    assert len(stored) == 2
    there = Store(address)
    assert verify(there) == (2, [])
    told = [json.loads(r["provenance"]) for r in there.rows()]
    assert sum(weights.KEY in facts for facts in told) == len(weights.kept(there, "s"))
    assert [facts for facts in told if not {weights.KEY, weights.PROBLEM} & {*facts}] == []
    plan = json.loads(bench("plan", "s.yaml", "--results", address, "--json", cwd=tmp_path, **near).stdout)
    assert (plan["cached"], plan["missing"]) == (2, 0)
