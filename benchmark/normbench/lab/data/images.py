"""How many images a dataset holds, and how large they are, without decoding all of them."""

from __future__ import annotations

import pyarrow.parquet as pq

from normbench.lab.data import Source, stored
from normbench.lab.data._pixels import ImageError, opened
from normbench.spec.about import Images


def images(source: Source) -> Images | None:
    """Counts of both splits, and the side of the first training image (where a trial does not resize them, all have
    one); None where a split is empty. Raises `DataError`.
    """
    train, test = (
        sum(pq.ParquetFile(path).metadata.num_rows for path in files) for files in (source.train, source.test)
    )
    if not train or not test:
        return None
    blobs, _ = next(stored(source, source.train))
    try:
        width, height = opened(blobs[0].as_py()).size
    except ImageError:  # decoding will say what is wrong with it
        width, height = 0, 1
    return Images(train=train, test=test, side=width if width == height else None)
