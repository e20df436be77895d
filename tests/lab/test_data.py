"""Finding, fingerprinting and decoding datasets, from folders and from a hub."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from normbench.lab import data
from normbench.lab.data import DataError
from normbench.lab.data._fingerprint import integers
from normbench.spec.trial import DataSpec

from tests.conftest import stripes, write_split


def load(spec: DataSpec, data_dir: Path | None) -> data.Dataset:
    source = data.locate(spec, data_dir, download=False)
    assert source is not None
    return data.load(spec, source)


def test_pixels_and_labels_survive(data_dir: Path) -> None:
    loaded = load(DataSpec(dataset="stripes"), data_dir)
    images, labels = stripes(96, 0)
    assert np.array_equal(loaded.train.images[..., 0], images)
    assert np.array_equal(loaded.train.labels, labels)
    assert loaded.classes == ("left", "right", "top")
    assert (loaded.channels, loaded.image_size) == (1, 8)


def test_moments_are_those_of_the_training_images(data_dir: Path) -> None:
    loaded = load(DataSpec(dataset="stripes", train_examples=60, validation=0.25), data_dir)
    used = np.asarray(loaded.train.images) / 255
    assert len(loaded.train.labels) == 45
    assert loaded.mean[0] == pytest.approx(used.mean(), abs=1e-12)
    assert loaded.std[0] == pytest.approx(used.std(), abs=1e-12)


def test_validation_is_the_held_out_end_of_the_training_images(data_dir: Path) -> None:
    whole = load(DataSpec(dataset="stripes"), data_dir)
    split = load(DataSpec(dataset="stripes", validation=0.25), data_dir)
    assert split.validation is not None
    assert np.array_equal(np.concatenate([split.train.images, split.validation.images]), whole.train.images)
    assert np.array_equal(split.test.images, whole.test.images)


def test_arrays_are_mapped_and_decoded_once(data_dir: Path) -> None:
    first = load(DataSpec(dataset="stripes", image_size=12), data_dir)
    assert isinstance(first.train.images, np.memmap)
    assert first.image_size == 12
    stamp = Path(first.train.images.filename).stat().st_mtime_ns
    again = load(DataSpec(dataset="stripes", image_size=12), data_dir)
    assert Path(again.train.images.filename).stat().st_mtime_ns == stamp


def test_fingerprint_is_of_the_content_not_of_the_file(tmp_path: Path) -> None:
    images, labels = stripes(40, 3)
    for name, options in (("a", {}), ("b", {"row_group_size": 7, "compression": "gzip"})):
        for split in ("train", "test"):
            write_split(tmp_path / name / f"{split}.parquet", images, labels, **options)
    changed = labels.copy()
    changed[-1] = (changed[-1] + 1) % 3
    write_split(tmp_path / "c" / "train.parquet", images, labels)
    write_split(tmp_path / "c" / "test.parquet", images, changed)
    prints = {}
    for name in "abc":
        source = data.locate(DataSpec(dataset=name), tmp_path, download=False)
        assert source is not None
        prints[name] = data.fingerprint(source)
    assert prints["a"] == prints["b"] != prints["c"]


@pytest.mark.parametrize("order", [(10, 0), (0, 10), (10, 3), (2, 10)], ids=str)
def test_an_equal_fingerprint_means_an_equal_number_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, int]
) -> None:
    """Folders with the same images and labels, which name other numbers of classes, decoded in either order."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    found = {}
    for names in order:
        for split in ("train", "test"):
            path = tmp_path / f"named-{names}" / f"{split}.parquet"
            write_split(path, *stripes(6, 0), names=[f"class {i}" for i in range(names)])
        spec = DataSpec(dataset=f"named-{names}")
        source = data.locate(spec, tmp_path, download=False)
        assert source is not None
        print_ = data.fingerprint(source)
        found[names] = (print_, len(data.load(spec, source, print_).classes))
    assert {names: classes for names, (_, classes) in found.items()} == {n: max(n, 3) for n in order}
    assert (found[order[0]][0] == found[order[1]][0]) == (max(order[0], 3) == max(order[1], 3))


def test_colour_images_and_sharded_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 5, 5, 3)).astype(np.uint8)
    labels = np.arange(6)
    write_split(tmp_path / "x" / "train-00000-of-00002.parquet", images[:4], labels[:4])
    write_split(tmp_path / "x" / "train-00001-of-00002.parquet", images[4:], labels[4:])
    write_split(tmp_path / "x" / "test-00000-of-00001.parquet", images, labels)
    loaded = load(DataSpec(dataset="x"), tmp_path)
    assert np.array_equal(loaded.train.images, images)
    assert loaded.classes == tuple("012345")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"dataset": "strypes"}, "there is no dataset 'strypes'.*did you mean 'stripes'"),
        ({"dataset": "./nowhere/x"}, r"expected nowhere/x/train\.parquet"),
        (
            {"dataset": "stripes", "image_column": "picture"},
            "image column picture: columns that could be it are img.*set data.image_column",
        ),
        ({"dataset": "stripes", "train_examples": 97}, "has 96 train images; train_examples asks for 97"),
        ({"dataset": "stripes", "train_examples": 1, "validation": 0.5}, "leaves none to train on"),
        (
            {"dataset": "stripes", "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)},
            "1 channels; mean and std need as many",
        ),
        ({"dataset": "hub:../../etc"}, "expected hub:owner/name"),
    ],
)
def test_errors_say_what_and_where(data_dir: Path, spec: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(DataSpec(**spec), data_dir)


def test_broken_files(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "cut").mkdir()
    content = (data_dir / "stripes" / "train.parquet").read_bytes()
    (tmp_path / "cut" / "train.parquet").write_bytes(content[: len(content) // 2])
    shutil.copy(data_dir / "stripes" / "test.parquet", tmp_path / "cut" / "test.parquet")
    with pytest.raises(DataError, match=r"cannot read .*train\.parquet as Parquet"):
        load(DataSpec(dataset="cut"), tmp_path)

    no_image = pa.table({"img": pa.array([{"bytes": b"not an image", "path": None}]), "label": pa.array([0])})
    mixed_labels = np.array([0, 1])
    for split in ("train", "test"):
        (tmp_path / "bad").mkdir(exist_ok=True)
        pq.write_table(no_image, tmp_path / "bad" / f"{split}.parquet")
    with pytest.raises(DataError, match="an image cannot be decoded"):
        load(DataSpec(dataset="bad"), tmp_path)

    for split in ("train", "test"):
        write_split(tmp_path / "oblong" / f"{split}.parquet", np.zeros((2, 4, 6), np.uint8), mixed_labels)
    with pytest.raises(DataError, match=r"set data\.image_size"):
        load(DataSpec(dataset="oblong"), tmp_path)


class _Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for one dataset repository: revision listing, tree, and files."""

    files: dict[str, bytes]
    commit = "a" * 40

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        name = path.partition("/resolve/")[2].partition("/")[2]
        if name in self.files:
            content, kind = self.files[name], "application/octet-stream"
        elif path.startswith("/api/datasets/uoft-cs/cifar10/tree/"):
            listing = [{"type": "file", "path": n, "size": len(c), "oid": "b" * 40} for n, c in self.files.items()]
            content, kind = json.dumps(listing).encode(), "application/json"
        elif path.startswith("/api/datasets/uoft-cs/cifar10"):
            siblings = [{"rfilename": n} for n in self.files]
            content, kind = (
                json.dumps({"id": "uoft-cs/cifar10", "sha": self.commit, "siblings": siblings}).encode(),
                "application/json",
            )
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content) & 0xFFFFFFFF:x}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(data_dir: Path) -> Iterator[str]:
    _Hub.files = {
        f"plain_text/{s}-00000-of-00001.parquet": (data_dir / "stripes" / f"{s}.parquet").read_bytes()
        for s in ("train", "test")
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


_ASK = """
import json, sys
from normbench.lab import data
from normbench.spec.trial import DataSpec
spec = DataSpec(dataset=sys.argv[1])
try:
    source = data.locate(spec, None, download=sys.argv[2] == "yes")
    print(json.dumps(None if source is None else len(data.load(spec, source).train.labels)))
except data.DataError as error:
    print(json.dumps(str(error)))
"""


def _ask(dataset: str, download: str, endpoint: str, home: Path) -> object:
    """In a process of its own: the hub's client reads its settings when it is imported."""
    import os

    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    answer = subprocess.run(
        [sys.executable, "-c", _ASK, dataset, download],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def test_the_hub_is_asked_once_and_then_its_cache(hub: str, tmp_path: Path) -> None:
    assert _ask("cifar10", "no", hub, tmp_path) is None  # planning fetches nothing
    assert _ask("cifar10", "yes", hub, tmp_path) == 96
    assert _ask("cifar10", "no", "http://127.0.0.1:9", tmp_path) == 96  # from the cache, with nobody answering


def test_without_network_the_error_names_the_ways_out(tmp_path: Path) -> None:
    message = _ask("cifar10", "yes", "http://127.0.0.1:9", tmp_path)
    assert isinstance(message, str)
    for part in ("uoft-cs/cifar10", "--data", "BENCH_DATA", "bench run digits"):
        assert part in message


def test_without_network_a_folder_of_torchvision_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()

    def offline(*_: object, **__: object) -> None:
        raise DataError("not reached")

    monkeypatch.setattr("normbench.lab.data._locate.from_hub", offline)
    with pytest.raises(DataError, match=r"not reached\. The same images.*`dataset: cifar-10-batches-py` reads them"):
        data.locate(DataSpec(dataset="cifar10"), tmp_path, download=True)
    with pytest.raises(DataError, match=r"not reached$"):
        data.locate(DataSpec(dataset="cifar100"), tmp_path, download=True)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64"])
def test_labels_of_any_width_and_slice_come_as_they_are(kind: str) -> None:
    labels = pa.array([3, 1, 4, 1, 5], kind)
    for part in (labels, labels.slice(1, 3), labels.slice(5)):
        assert integers(part).tolist() == part.to_pylist()
