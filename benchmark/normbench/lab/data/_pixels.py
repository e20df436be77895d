"""One encoded image to 8-bit pixels. Every format and every mode of Pillow has a rule here, or is refused by name.

modes   1, L: one channel. P, RGB, RGBX, CMYK, YCbCr: three channels, as Pillow converts them, without colour profiles.
        Of 16-bit colour Pillow keeps the high byte. LA, La, PA, RGBA, RGBa: three channels if every pixel is opaque.
        Images with transparent pixels are refused, also where a palette or a key colour makes them so: what shows
        through them is not known. All other modes are refused: 16 bits (I;16), 32 bits (I), floats (F), LAB.
EXIF    orientation is obeyed: images stand as viewers show them. Other EXIF data, also broken, has no influence.
frames  the first one counts.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

#: Formats that Pillow reads by itself. EPS, which starts Ghostscript, and rare formats, whose readers nobody tests, are
#: not among them.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
#: Most pixels of a stored image (8192 x 8192). A few bytes can declare more than any memory holds.
MOST_PIXELS = 2**26

_GREY = frozenset({"1", "L"})
_COLOUR = frozenset({"P", "RGB", "RGBX", "CMYK", "YCbCr"})
#: Modes that may hold opacity, and the mode from which Pillow can take it.
_ALPHA = {"LA": "LA", "La": "LA", "P": "RGBA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}
_DEPTHS = {"I;16": "16-bit grey", "I": "32-bit grey", "F": "floating-point grey", "LAB": "Lab colour"}


class ImageError(ValueError):
    """An image is refused; the message says why."""


def opened(blob: bytes) -> Image.Image:
    """The image with its size and mode, not decoded yet. Raises `ImageError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(blob), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"it is none of {', '.join(FORMATS)}") from None
    except Exception as error:  # readers raise whatever their parsing meets: struct.error, KeyError, ...
        raise ImageError(_short(error)) from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ImageError(f"it is {width}x{height}; an image may have {MOST_PIXELS:,} pixels")
    return image


def mode_problem(image: Image.Image) -> str:
    """Why images of this mode are refused; empty where they are not."""
    if image.mode in _GREY | _COLOUR | _ALPHA.keys():
        return ""
    kind = next((f" ({text})" for mode, text in _DEPTHS.items() if image.mode.startswith(mode)), "")
    return f"it is of mode {image.mode}{kind}; expected grey or RGB of 8 bits: bring the images to that first"


def pixels(blob: bytes, side: int | None) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, C) of an encoded image, C = 1 or 3; resized to `side` x `side` where that is set. Raises
    `ImageError`.
    """
    from PIL import Image

    image = opened(blob)
    if problem := mode_problem(image):
        raise ImageError(problem)
    try:
        image.load()
        turn = _turn(image)
        converted = _eight_bits(image)
    except ImageError:
        raise
    except Exception as error:  # as in `opened`; a broken image is one whatever its reader raises
        raise ImageError(_short(error)) from error
    if turn is not None:
        converted = converted.transpose(turn)
    if side is not None and converted.size != (side, side):
        converted = converted.resize((side, side), Image.Resampling.BILINEAR)
    array = np.asarray(converted)
    return array[..., None] if array.ndim == 2 else array


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        alpha = np.asarray(image.convert(_ALPHA.get(image.mode, "RGBA")).getchannel("A"))
        if alpha.min() < 255:
            raise ImageError(f"it has transparent pixels (mode {image.mode}): put the images on a background")
        if image.mode in _ALPHA:
            image = image.convert(_ALPHA[image.mode])
    return image.convert("L" if image.mode in _GREY else "RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What EXIF says must be done so that the image stands upright; None: nothing. Viewers ignore EXIF data that they
    cannot read, and so does this.
    """
    from PIL import ExifTags, Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    if image.format == "TIFF":  # turned by Pillow when it is loaded
        return None
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None
    return turns.get(orientation) if isinstance(orientation, int) else None


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
