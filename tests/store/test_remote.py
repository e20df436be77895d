"""Results on an S3 server: the whole way, from a run to the site, and care of them. The server is moto's, in a process
of its own.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from normbench.api.weights import load
from normbench.plan.identity import identity
from normbench.store.compact import compact
from normbench.store.files import FilesError, RemoteFiles, inside, open_files
from normbench.store.leases import LeaseError, Leases
from normbench.store.merge import merge
from normbench.store.store import Store
from normbench.store.verify import verify
from normbench.store.weights import file_of, kept, put, read, unnamed

from tests.command import bench
from tests.conftest import MakeTrial
from tests.store.samples import contents, fill, outcome, rows
from tests.store.test_leases import TRIALS, take_at_once

SUITE = """
suite: s
about: A test.
data: {dataset: stripes, image_size: 16}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [bn]
batch_sizes: [16]
widths: [0.125]
seeds: 2
train: {epochs: 1, lr: 0.05}
measures: [weight-norm]
limits: {cpu: 1, time: 5m}
"""


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """Environment variables that lead to a server with the bucket `bucket`."""
    command = Path(sys.executable).with_name(
        "moto_server"
    )  # that of this environment: an older one, found elsewhere, answers uploads in its own way
    if not command.exists():
        pytest.skip("needs moto[server] in this environment")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [command, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        ends = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                assert time.monotonic() < ends
                time.sleep(0.2)
        keys = {
            "AWS_ACCESS_KEY_ID": "dummy",
            "AWS_SECRET_ACCESS_KEY": "dummy",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield keys | {"AWS_ENDPOINT_URL": address}
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def address(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Of an empty folder of results."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{tmp_path.name}/results"


def test_a_remote_folder_behaves_as_a_local_one(address: str, tmp_path: Path) -> None:
    for files in (open_files(address), open_files(tmp_path), open_files(f"file://{tmp_path}/uri")):
        assert files.list() == []
        assert files.list("s") == []
        files.write("s/a", b"1")
        files.write("s/a", b"22")
        files.write("s/b", b"")
        files.move("s/b", "s/.aside/b")
        assert [(e.name, e.is_folder) for e in files.list("s")] == [(".aside", True), ("a", False)]
        assert [e.size for e in files.list("s") if not e.is_folder] == [2]
        assert files.read("s/a") == b"22"
        files.remove("s/a")
        files.remove("s/a")
        with pytest.raises(FileNotFoundError):
            files.read("s/a")
        for name in ("../x", "s/../../x", "/etc/passwd", "s//x", "s/./x", "", "s\\x", "s/\0"):
            with pytest.raises(FilesError):
                files.write(name, b"x")
    assert isinstance(open_files(f"file://{tmp_path}"), RemoteFiles)
    assert inside("s/a") == "s/a"


def test_an_address_that_nothing_opens_is_one_message(tmp_path: Path) -> None:
    answer = bench("results", "verify", "--results", "nosuch://x/y", cwd=tmp_path)
    assert answer.returncode == 2
    assert "results folder nosuch://x/y: pyarrow cannot open it" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_rows_come_back_and_are_compacted_merged_and_leased(
    address: str, tmp_path: Path, make_trial: MakeTrial
) -> None:
    near, far = Store(tmp_path / "near"), Store(address)
    fill(near, make_trial, range(4))
    assert merge(near, far) == {"added": 4, "replaced": 0, "kept": 0, "marks": 0}
    assert far.table().equals(near.table())
    fill(far, make_trial, [1], started=8.0)
    expected = rows(far)
    with Leases(far.files, "s", "bench run") as run:
        run.take(["a" * 16])
        with pytest.raises(LeaseError):
            compact(far, "s")
    made = compact(far, "s")
    assert (made.rows, made.removed) == (4, 4)
    assert rows(Store(address)) == expected
    assert [e.name for e in far.files.list("s")] == [str(made.file).rpartition("/")[2]]
    assert verify(far) == (4, [])
    back = Store(tmp_path / "back")
    merge(far, back)
    compact(back, "s")
    assert contents(tmp_path / "back")[str(made.file)] == far.files.read(str(made.file))


@pytest.mark.faults
def test_no_trial_is_held_twice_on_s3_when_many_want_it_at_once(address: str) -> None:
    assert take_at_once(open_files(address)) == Counter(TRIALS)


def test_what_stops_a_file_from_being_created_is_the_file_or_a_living_try(address: str) -> None:
    files = open_files(address)
    files.write("s/a", b"1")
    assert files.create("s", ["a", "b"], b"2") == {"b"}
    assert files.create("s", ["a", "b"], b"3") == set()
    assert (files.read("s/a"), files.read("s/b")) == (b"1", b"2")
    files.write(f"s/.c.{'0' * 32}.tmp", b"3")  # of a process that tries at this moment, and sorts first
    assert files.create("s", ["c"], b"4") == set()
    assert [e.name for e in files.list("s")] == [f".c.{'0' * 32}.tmp", "a", "b"]


def test_pyarrow_has_no_conditional_put_still(address: str) -> None:
    """Where it has one, `RemoteFiles.create` can be one call."""
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(f"{address}/s/a")
    for content in (b"1", b"2"):
        with system.open_output_stream(path, metadata={"If-None-Match": "*"}) as stream:
            stream.write(content)
    assert open_files(address).read("s/a") == b"2"


def test_a_damaged_object_is_named_and_set_aside(address: str, make_trial: MakeTrial) -> None:
    store = Store(address)
    (one, _) = fill(store, make_trial, [0, 1])
    name = f"s/{one.trial_id}.parquet"
    store.files.write(name, store.files.read(name)[:-20])
    assert len(rows(store)) == 1
    assert list(store.problems) == [f"{address}/{name}"]
    fill(store, make_trial, [0])
    assert [e.name for e in store.files.list("s/.set-aside")] == [f"{one.trial_id}.parquet"]
    assert len(rows(Store(address))) == 2


def test_weights_lie_there_too(address: str, make_trial: MakeTrial) -> None:
    store = Store(address)
    (trial,) = fill(store, make_trial, [0])
    said = put(address, "s", trial.trial_id, b"weights")
    assert list(unnamed(store, "s", set())) == [file_of("s", trial.trial_id)]
    named = outcome().model_copy(update={"provenance": {"weights": said.model_dump()}})
    store.write("s", trial, identity(trial, "f" * 64).to_dict(), named)
    assert kept(store, "s") == {trial.trial_id}
    assert list(unnamed(store, "s", set())) == []
    assert read(store, "s", trial.trial_id, said) == b"weights"
    assert verify(store) == (1, [])
    put(address, "s", trial.trial_id, b"damaged")
    assert [f.path for f in verify(store)[1]] == [f"{address}/{file_of('s', trial.trial_id)}"]


@pytest.mark.faults
def test_the_whole_way_on_s3(address: str, tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)

    def on_s3(*arguments: str, code: int = 0) -> str:
        answer = bench(*arguments, "--results", address, cwd=tmp_path, BENCH_DATA=str(data_dir))
        assert answer.returncode == code, answer.stdout + answer.stderr
        return answer.stdout

    assert "[2/2]" in on_s3("run", "s.yaml", "--site", "site", "--keep-weights")
    assert len(kept(store := Store(address), "s")) == 2
    assert all(load(r["trial_id"], results=address) for r in store.rows())
    assert "2 cached" in on_s3("status", "s.yaml")
    assert "2 results hold together" in on_s3("results", "verify")
    assert f"{address}/s/compact-" in on_s3("results", "compact")
    assert "2 results hold together" in on_s3("results", "verify")
    assert "2 cached" in on_s3("run", "s.yaml", "--site", "site")
    assert json.loads(on_s3("board", "s.yaml", "--json"))
    on_s3("site", "--out", "again")
    assert (tmp_path / "again" / "index.html").is_file()
    assert not (tmp_path / "s3:").exists()
