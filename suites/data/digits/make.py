"""Write train.parquet and test.parquet beside this file from the digits that scikit-learn ships: `python
suites/data/digits/make.py`.

README.md states the origin, the licence and the rules of split, order and scaling that this file carries out.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits

#: Test images of each class.
TEST_PER_CLASS = 36
CLASSES = 10


def interleaved(rows: list[list[int]]) -> list[int]:
    """One row of each class in turn, as long as each lasts."""
    return [of_class[turn] for turn in range(max(map(len, rows))) for of_class in rows if turn < len(of_class)]


def png(values: Any) -> bytes:
    """An 8x8 image of values 0..16 as a grey PNG; v becomes round(v * 255 / 16), halves to even."""
    grey = np.rint(values * 255 / 16).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(
        buffer, "PNG", compress_level=0
    )  # uncompressed: the same bytes from every version of zlib
    return buffer.getvalue()


def tables() -> dict[str, pa.Table]:
    digits = load_digits()
    rows = [np.flatnonzero(digits.target == label).tolist() for label in range(CLASSES)]
    features = {"img": {"_type": "Image"}, "label": {"names": [str(c) for c in range(CLASSES)], "_type": "ClassLabel"}}
    schema = pa.schema(
        [("img", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    chosen = {"train": [r[:-TEST_PER_CLASS] for r in rows], "test": [r[-TEST_PER_CLASS:] for r in rows]}
    made = {}
    for split, of_class in chosen.items():
        order = interleaved(of_class)
        images = [{"bytes": png(digits.images[i]), "path": f"{i:04d}.png"} for i in order]
        made[split] = pa.table({"img": images, "label": [int(digits.target[i]) for i in order]}, schema=schema)
    return made


def write(folder: Path) -> None:
    for split, table in tables().items():
        pq.write_table(table, folder / f"{split}.parquet", compression="zstd", compression_level=9)


if __name__ == "__main__":
    write(Path(__file__).parent)
