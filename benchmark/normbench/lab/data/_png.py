"""Arrays of pixels as encoded images, so that they go the way of all others.

The encoding is PNG without compression, written here: a library's output changes with its version, and these bytes
decide the fingerprint of a dataset. Parquet compresses them.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

#: PNG's number for grey and for RGB, by channels.
_COLOUR = {1: 0, 3: 2}
#: Most bytes of a stored block of deflate.
_BLOCK = 65_535


def encoded(images: npt.NDArray[np.uint8]) -> list[bytes]:
    """One PNG an image. images: uint8 (N, H, W, C), C = 1 or 3. Source: RFC 2083, RFC 1951."""
    count, height, width, channels = images.shape
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _COLOUR[channels], 0, 0, 0))
    lines = np.zeros((count, height, 1 + width * channels), np.uint8)  # a line starts with its filter: 0, none
    lines[:, :, 1:] = images.reshape(count, height, width * channels)
    start, end = b"\x89PNG\r\n\x1a\n" + head, _chunk(b"IEND", b"")
    return [b"".join((start, _chunk(b"IDAT", _stored(image.tobytes())), end)) for image in lines]


def _stored(content: bytes) -> bytes:
    """A zlib stream that holds the content as it is."""
    blocks = [content[i : i + _BLOCK] for i in range(0, len(content), _BLOCK)]
    parts = [b"\x78\x01"]
    for i, block in enumerate(blocks):
        parts += [struct.pack("<BHH", i == len(blocks) - 1, len(block), len(block) ^ 0xFFFF), block]
    return b"".join((*parts, struct.pack(">I", zlib.adler32(content))))


def _chunk(kind: bytes, content: bytes) -> bytes:
    length, check = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
    return b"".join((length, kind, content, check))
