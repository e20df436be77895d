"""How many images a dataset holds, and how large they are, without decoding all of them."""

from __future__ import annotations

from normbench.lab.data._pixels import ImageError, opened
from normbench.lab.data._source import Shard, Source
from normbench.spec.about import Images


def images(source: Source) -> Images | None:
    """Counts of both splits, and the side of the first training image (where a trial does not resize them, all have
    one); None where a split is empty. Raises `DataError`.
    """
    train, test = (sum(shard.rows() for shard in shards) for shards in (source.train, source.test))
    if not train or not test:
        return None
    width, height = _size(source.train) or (0, 1)
    return Images(train=train, test=test, side=width if width == height else None)


def unlike(source: Source) -> str:
    """What is wrong where the first training and the first test image differ in size; empty where nothing is. Raises
    `DataError`.
    """
    train, test = (_size(shards) for shards in (source.train, source.test))
    if not train or not test or train == test:
        return ""
    (width, height), (other, tall) = train, test
    return (
        f"dataset {source.name!r}: training images are {width}x{height}, test images {other}x{tall}; "
        "data.image_size brings them to one size"
    )


def _size(shards: tuple[Shard, ...]) -> tuple[int, int] | None:
    """Width and height of the first image; None where there is none, or where decoding will say what is wrong with
    it.
    """
    blobs = next((images for shard in shards for images, _ in shard.batches()), None)
    if not blobs:
        return None
    try:
        return opened(blobs[0].as_py()).size
    except ImageError:
        return None
