"""A contact sheet: the first images of every class, as they are trained on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from normbench.lab.data._decode import Dataset

if TYPE_CHECKING:
    from PIL import Image

#: Images of a class, and classes that are shown (the first ones).
COLUMNS = 10
ROWS = 40
#: Sides in pixels between which images are shown; small ones are enlarged by a whole number.
_SMALLEST, _LARGEST = 48, 128
_GAP = 4
_LETTERS = 24


def sheet(dataset: Dataset, names: Sequence[str]) -> bytes:
    """A PNG. names: of the classes, as they are to be written."""
    from PIL import Image, ImageDraw, ImageFont

    side = _shown(dataset.image_size)
    font = ImageFont.load_default(max(12, side // 5))
    rows = min(len(names), ROWS)
    texts = [name if len(name) <= _LETTERS else f"{name[: _LETTERS - 3]}..." for name in names[:rows]]
    left = _GAP + max(int(font.getlength(text)) for text in texts) + 2 * _GAP
    whole = Image.new("RGB", (left + COLUMNS * (side + _GAP), _GAP + rows * (side + _GAP)), "white")
    pen = ImageDraw.Draw(whole)
    for row, text in enumerate(texts):
        top = _GAP + row * (side + _GAP)
        pen.text((2 * _GAP, top + side // 2), text, fill="black", font=font, anchor="lm")
        for column, place in enumerate(np.flatnonzero(dataset.train.labels == row)[:COLUMNS]):
            whole.paste(_image(dataset.train.images[place], side), (left + column * (side + _GAP), top))
    stored = io.BytesIO()
    whole.save(stored, "PNG")
    return stored.getvalue()


def _shown(side: int) -> int:
    return side * -(-_SMALLEST // side) if side < _SMALLEST else min(side, _LARGEST)


def _image(pixels: npt.NDArray[np.uint8], side: int) -> Image.Image:
    from PIL import Image

    image = Image.fromarray(np.asarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    how = Image.Resampling.NEAREST if side >= image.width else Image.Resampling.BOX
    return image.resize((side, side), how)
