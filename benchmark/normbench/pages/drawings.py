"""Drawn charts, kept from one build to the next: drawing takes most of a build's time, and most charts have not
changed.

A chart's file is named by the SHA-256 of what it is drawn from and of the versions that draw it, so a wrong one cannot
be found; one that was cut short is drawn again. Files that no build has used for a month are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert

from normbench.paths import cache_dir

#: Raised when charts of the same specification are to be drawn otherwise.
FORMAT = 1
#: Seconds after which a drawing that nobody asked for goes.
KEPT = 30 * 86_400
_ENDS = {"svg": b"</svg>", "pdf": b"%%EOF"}


def svg(spec: dict[str, Any]) -> str:
    """The SVG of a Vega-Lite specification."""
    key = json.dumps(spec, sort_keys=True, allow_nan=False)
    return _kept("svg", key, lambda: vl_convert.vegalite_to_svg(spec).encode()).decode()


def pdf(drawn: str) -> bytes:
    """The PDF of an SVG."""
    return _kept("pdf", drawn, lambda: vl_convert.svg_to_pdf(drawn))


def clean(now: float | None = None) -> int:
    """Remove what was not used for a month; how many files went."""
    gone = 0
    with contextlib.suppress(OSError):
        for path in _folder().iterdir():
            with contextlib.suppress(OSError):
                if (now or time.time()) - path.stat().st_mtime > KEPT:
                    path.unlink()
                    gone += 1
    return gone


def _folder() -> Path:
    return cache_dir() / "charts"


def _kept(kind: str, source: str, draw: Callable[[], bytes]) -> bytes:
    digest = hashlib.sha256(f"{FORMAT} {version('vl-convert-python')} {source}".encode()).hexdigest()
    path = _folder() / f"{digest}.{kind}"
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if found.rstrip().endswith(_ENDS[kind]):
            os.utime(path)
            return found
    made: bytes = draw()
    with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        temporary.write_bytes(made)
        temporary.replace(path)
    return made
