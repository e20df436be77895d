"""Every format and mode of images: decoded by a stated rule, or refused with its name, the file and the row."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from normbench.lab.data import DataError
from normbench.lab.data._pixels import FORMATS, MOST_PIXELS, ImageError, pixels
from PIL import Image

from tests.lab.datasets import both, encoded, load, noise, put

RAMP = np.linspace(0, 65535, 256).reshape(16, 16)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _declared(side: int) -> bytes:
    """A PNG of a hundred bytes that says it is side x side."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(b"0" * 99)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *(("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")),
        *(("1", "TIFF"), ("L", "TIFF"), ("P", "TIFF"), ("PA", "TIFF"), ("CMYK", "TIFF"), ("YCbCr", "TIFF")),
        *(("L", "JPEG"), ("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGB", "WEBP"), ("RGBA", "WEBP"), ("P", "GIF")),
        *(("RGB", "BMP"), ("1", "BMP"), ("L", "BMP")),
    ],
)
def test_eight_bits_decode_as_pillow_converts_them(mode: str, form: str) -> None:
    """As they did before there were rules, so that results on such images stay good."""
    blob = encoded(noise(mode=mode), form)
    stored = Image.open(io.BytesIO(blob))
    expected = np.asarray(stored.convert("L" if mode in {"1", "L"} else "RGB"))
    found = pixels(blob, None)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected.reshape(found.shape))
    assert found.shape[2] == (1 if mode in {"1", "L"} else 3)


@pytest.mark.parametrize(
    ("image", "form", "said"),
    [
        (Image.fromarray(RAMP.astype(np.uint16)), "PNG", "mode I;16 (16-bit grey)"),
        (Image.fromarray(RAMP.astype(np.uint16)), "TIFF", "mode I;16 (16-bit grey)"),
        (Image.fromarray(RAMP.astype(np.int32)), "TIFF", "mode I (32-bit grey)"),
        (Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF", "mode F (floating-point grey)"),
    ],
    ids=["I;16 PNG", "I;16 TIFF", "I", "F"],
)
def test_more_than_eight_bits_are_refused_by_name(tmp_path: Path, image: Image.Image, form: str, said: str) -> None:
    both(tmp_path, [encoded(noise(side=16)), encoded(image, form)])
    with pytest.raises(DataError, match=rf"train\.parquet, row 1 .*{re.escape(said)}"):
        load(tmp_path)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_refused(mode: str) -> None:
    image = noise(mode=mode)
    image.putpixel((2, 3), (*image.getpixel((2, 3))[:-1], 254))  # type: ignore[misc, index]
    with pytest.raises(ImageError, match=f"transparent pixels \\(mode {mode}\\)"):
        pixels(encoded(image), None)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_key_colour_is_refused_where_it_occurs(mode: str) -> None:
    image = noise(mode=mode)
    used = {"1": 0, "RGB": image.getpixel((0, 0))}.get(mode, image.getpixel((0, 0)))
    with pytest.raises(ImageError, match="transparent pixels"):
        pixels(encoded(image, transparency=used), None)
    if mode in {"L", "RGB"}:
        free = next(v for v in range(256) if v not in np.asarray(image))
        key = free if mode == "L" else (free, free, free)
        assert np.array_equal(pixels(encoded(image, transparency=key), None), pixels(encoded(image), None))


def test_images_stand_as_exif_says() -> None:
    """All eight orientations of one image are that image: the corner of each has another brightness."""
    upright = Image.fromarray(np.kron(np.array([[250, 180], [110, 40]], np.uint8), np.ones((8, 8), np.uint8)))
    how = Image.Transpose
    stored = {2: how.FLIP_LEFT_RIGHT, 3: how.ROTATE_180, 4: how.FLIP_TOP_BOTTOM, 5: how.TRANSPOSE}
    stored |= {6: how.ROTATE_90, 7: how.TRANSVERSE, 8: how.ROTATE_270}
    for orientation, turn in stored.items():
        for form in ("JPEG", "PNG", "WEBP", "TIFF"):
            image = upright.transpose(turn)
            exif = image.getexif()
            exif[0x0112] = orientation
            lossy = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(form, {})
            found = pixels(encoded(image, form, exif=exif, **lossy), None)[..., 0]
            assert np.abs(found.astype(int) - np.asarray(upright)).max() <= 2, (orientation, form)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about what is broken
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage" * 9])
def test_broken_exif_is_ignored_as_by_viewers(exif: bytes) -> None:
    assert np.array_equal(pixels(encoded(noise(), exif=exif), None), np.asarray(noise()))


def test_the_first_frame_counts() -> None:
    frames = [noise(seed, mode="P") for seed in (1, 2)]
    blob = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(pixels(blob, None), np.asarray(frames[0].convert("RGB")))


def test_an_image_that_runs_a_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands EPS to Ghostscript, which is the first `gs` on the path."""
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ImageError, match="none of PNG, JPEG, WEBP, BMP, GIF, TIFF"):
        pixels(encoded(noise(), "EPS"), None)
    assert not ran.exists()


@pytest.mark.parametrize("form", ["PPM", "ICO", "JPEG2000", "TGA", "PCX", "EPS"])
def test_formats_that_are_not_on_the_list_are_refused(form: str) -> None:
    assert form not in FORMATS
    with pytest.raises(ImageError, match="none of PNG"):
        pixels(encoded(noise(), form), None)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [int(MOST_PIXELS**0.5) + 1, 13_000, 40_000, 2**31 - 1])
def test_a_declared_size_beyond_all_memory_is_refused(side: int) -> None:
    with pytest.raises(ImageError):
        pixels(_declared(side), 8)


def test_a_broken_image_is_named_by_file_and_row(tmp_path: Path) -> None:
    blobs = [encoded(noise(i, 24), "JPEG") for i in range(6)]
    broken = [*blobs[:4], blobs[4][:200], blobs[5]]
    put(tmp_path / "train-00000-of-00002.parquet", blobs)
    put(tmp_path / "train-00001-of-00002.parquet", broken)
    put(tmp_path / "test-00000-of-00001.parquet", blobs)
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet, row 4 \(the first is 0\): an image cannot be"):
        load(tmp_path, image_size=8)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about what is damaged
@pytest.mark.parametrize("form", FORMATS)
def test_damage_to_any_byte_gives_pixels_or_one_message(form: str) -> None:
    blob = encoded(noise(side=9), form)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(blob), 60):
        for changed in (blob[:position], blob[:position] + bytes([blob[position] ^ 0x5A]) + blob[position + 1 :]):
            with contextlib.suppress(ImageError):
                assert pixels(changed, 9).shape[:2] == (9, 9)


def test_grey_images_become_colour_where_others_are(tmp_path: Path) -> None:
    blobs = [encoded(noise(i, mode="L" if i % 2 else "RGB")) for i in range(6)]
    both(tmp_path, blobs, [0, 1, 1, 0, 0, 1])
    found = load(tmp_path).train.images
    assert found.shape == (6, 6, 6, 3)
    for i in range(6):
        assert np.array_equal(found[i], np.asarray(noise(i, mode="L" if i % 2 else "RGB").convert("RGB")))
