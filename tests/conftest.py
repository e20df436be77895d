"""Shared pieces: a small dataset that can be learnt, and trials on it."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from normbench import attacks, measures, norms
from normbench.spec.trial import Component, DataSpec, ModelSpec, TrainSpec, Trial
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else each process that compiles starts others, which load torch and compile no sooner where tests keep all cores busy.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# Modules of libraries stay to the end: while they load nothing is garbage, and later none of them is looked through.
gc.disable()
# A shell starts what runs in its background with Ctrl-C ignored, and Python then leaves it so.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: Half a minute long and more. They come first, so that no process waits for another that begins one last.
LONGEST = {"test_one_command_from_suite_to_site_and_nothing_twice", "test_mypy_finds_nothing"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.name not in LONGEST)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of the tests have."""
    own = factory.getbasetemp()
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Decoded data of tests never meets that of the user. The processes of one run share it, as those of a user do."""
    os.environ["BENCH_CACHE"] = str(shared_folder(tmp_path_factory) / "cache")


def write_split(
    path: Path, images: np.ndarray, labels: np.ndarray, names: list[str] | None = None, **options: object
) -> None:
    """Images uint8 (N, H, W) or (N, H, W, 3) as a Parquet file in the hub's layout."""
    blobs = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        blobs.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table(
        {
            "img": pa.array(blobs, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(labels.tolist(), pa.int64()),
        }
    )
    if names:
        feature = {"img": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)


def stripes(count: int, seed: int, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Noisy grey images: class 0 is bright on the left, class 1 on the right, class 2 on top."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 100, (count, side, side))
    half = side // 2
    images[labels == 0, :, :half] += 120
    images[labels == 1, :, half:] += 120
    images[labels == 2, :half, :] += 120
    return images.astype(np.uint8), labels


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the dataset `stripes`: 96 training and 48 test images, 3 classes."""
    root = tmp_path_factory.mktemp("data")
    for split, count, seed in (("train", 96, 0), ("test", 48, 1)):
        write_split(root / "stripes" / f"{split}.parquet", *stripes(count, seed), names=["left", "right", "top"])
    return root


MakeTrial = Callable[..., Trial]


@pytest.fixture
def make_trial() -> MakeTrial:
    """Makes trials on `stripes`: a resnet10t-sized network that trains in a second."""

    def make(
        norm: str = "bn",
        seed: int = 0,
        data: dict[str, object] | None = None,
        model: dict[str, object] | None = None,
        batch_size: int = 16,
        **train: object,
    ) -> Trial:
        label, components = norms.resolve(norm)
        return Trial(
            data=DataSpec(**({"dataset": "stripes", "image_size": 16} | (data or {}))),
            model=ModelSpec(
                **({"name": "resnet18", "width": 0.125, "kwargs": {"layers": [1, 1, 1, 1]}} | (model or {}))
            ),
            norm=components,
            norm_label=label,
            batch_size=batch_size,
            seed=seed,
            train=TrainSpec(**({"epochs": 1, "lr": 0.05} | train)),
            attacks=(
                _component(attacks.registry, "noise"),
                _component(attacks.registry, "bim", eps=[1 / 255, 8 / 255], steps=3),
            ),
            measures=(_component(measures.registry, "weight-norm"),),
        )

    return make


def make_plain(norm: str = "bn", seed: int = 0) -> Trial:
    """As `make_trial`, without attacks and measures."""
    label, components = norms.resolve(norm)
    return Trial(
        data=DataSpec(dataset="stripes", image_size=16),
        model=ModelSpec(name="resnet18", width=0.125, kwargs={"layers": [1, 1, 1, 1]}),
        norm=components,
        norm_label=label,
        batch_size=16,
        seed=seed,
        train=TrainSpec(epochs=1, lr=0.05),
    )


def _component(registry: object, name: str, **params: object) -> Component:
    return registry.make(name, params).component()  # type: ignore[attr-defined, no-any-return]
