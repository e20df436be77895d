"""Which architectures there are, and which stems and widths they take; known without importing torch or timm."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

_ENTRY = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)


@cache
def architectures() -> dict[str, str]:
    """Every model name of the installed timm, to the file of `timm.models` that defines it: `resnet18` to `resnet`."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("timm is not installed")
    found = {}
    for path in sorted((Path(spec.origin).parent / "models").glob("*.py")):
        found.update(dict.fromkeys(_ENTRY.findall(path.read_text(encoding="utf-8")), path.stem))
    return found


def file_of(name: str) -> str:
    """The file of `timm.models` that defines `name`."""
    return architectures()[name]


def unknown(name: str) -> str | None:
    """The message where no architecture is called `name`."""
    if name in architectures():
        return None
    near = difflib.get_close_matches(name, architectures(), 1)
    return f"no architecture is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else "; timm.list_models() lists them")


#: Files of `timm.models` with a stem for small images.
CIFAR_STEMS = ("resnet",)
#: Files of `timm.models` that take a width.
WIDTHS = ("resnet",)


def stem_problem(name: str, stem: str) -> str | None:
    """Why the architecture `name` cannot have the stem `cifar` or `native`; None where it can."""
    if stem == "native" or file_of(name) in CIFAR_STEMS:
        return None
    return f"{name} (timm.models.{file_of(name)}) has no CIFAR stem; write `stem: native`. Families with one: {', '.join(CIFAR_STEMS)}"


def width_problem(name: str, width: float) -> str | None:
    """Why the architecture `name` cannot have its channels multiplied by `width`; None where it can."""
    if width == 1 or file_of(name) in WIDTHS:
        return None
    return f"{name} (timm.models.{file_of(name)}) takes no width; write `widths: [1]`. Families that do: {', '.join(WIDTHS)}"
