"""Writes the file of a new plug-in from a template that already runs (`bench new norm NAME`)."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from pathlib import Path
from string import Template
from typing import Any

from normbench.spec.plugins import NOT_PLUGINS, Registry

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write(registry: Registry[Any], template: Template, name: str, folder: Path, also: Collection[str] = ()) -> Path:
    """Write the file of a plug-in called `name` into `folder`. template: has `$name` and `$class_name`. also: names
    that the folder needs for something else.

    Raises `ValueError` where the name cannot be one or is taken, `FileExistsError` where the file is there, `OSError`
    where it cannot be written.
    """
    taken = sorted({*NOT_PLUGINS, *also})
    if not _NAME.fullmatch(name) or name in taken:
        raise ValueError(
            f"{name!r} cannot name {_a(registry.kind)}: expected small letters and digits in words joined by '-', as "
            f"in 'batch-renorm', none of {', '.join(taken)}"
        )
    if name in registry.names():
        raise ValueError(f"{_a(registry.kind)} is called {name!r} already: {registry.get(name).summary}")
    stem = name.replace("-", "_")
    path = folder / f"{stem}_.py" if keyword.iskeyword(stem) else folder / f"{stem}.py"
    if path.exists():
        raise FileExistsError(f"{path} is there already")
    class_name = "".join(part.capitalize() for part in name.split("-"))
    try:
        path.write_text(template.substitute(name=name, class_name=class_name), encoding="utf-8")
    except OSError:  # a full disk: half a file would be a broken plug-in
        path.unlink(missing_ok=True)
        raise
    return path


def _a(kind: str) -> str:
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"
