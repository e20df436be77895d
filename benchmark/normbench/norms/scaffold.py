"""Writes the file of a new method (`bench new norm NAME`)."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

from normbench.norms import registry

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RESERVED = frozenset({"base", "check", "layers", "scaffold"})

_CARD = Template('''"""TODO: the method in one line.

Equation: `y = gamma x + beta`. TODO: with what each symbol is and over which axes statistics are taken.

Shapes: `(N, C, *)` to the same; `weight` and `bias` are `(C,)`.

Invariances: none. TODO: what may be rescaled or shifted without changing the output, and what the source says
otherwise.

Source: TODO: authors, title, where and when it was published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from normbench.norms.base import ActivationNorm, Claims, Eps, Family, Site

if TYPE_CHECKING:
    import torch
    from torch import nn


class $class_name(ActivationNorm):
    name: ClassVar[str] = "$name"
    summary: ClassVar[str] = "TODO: a few words for tables"
    source: ClassVar[str] = "TODO: authors year, arXiv number"
    equation: ClassVar[str] = "y = gamma x + beta"
    family: ClassVar[Family] = "no statistics"
    # What the method promises. Every field is measured:
    # `bench check norm $name` shows where a claim and the layer part ways.
    claims: ClassVar[Claims] = Claims(
        weight_scale="none",  # does the output stay when the weight before it is rescaled: by row, block, tensor, none
        input_scale=False,
        input_shift=False,
        exact=None,  # True or False where a scale invariance is claimed
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="none",  # what has a constant norm: channel, instance, group, sample, position, none
        constraints="0",  # how many constraints the output obeys, in d channels, n examples, p positions, g groups
    )

    # Parameters are typed fields with defaults, written `$name[eps=1e-3]` in a suite.
    # None here means: that of the layer that is replaced.
    eps: Eps = None

    def layer(self, site: Site) -> nn.Module:
        from normbench.norms.layers.base import Layer

        class $class_name(Layer):
            """TODO: what it computes. `Layer` brings gamma and beta, and calls `normalize` with float32 or float64."""

            def __init__(self, channels: int, *, eps: float, affine: bool) -> None:
                super().__init__(channels, affine=affine)
                self.eps = eps

            def normalize(self, x: torch.Tensor) -> torch.Tensor:
                # TODO: e.g. x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps), torch imported in `layer`
                return x

        return $class_name(site.channels, eps=self.eps or site.eps, affine=site.affine)
''')


def scaffold(name: str, folder: Path) -> Path:
    """Write the file of a method called `name` into `folder`; it passes its checks as it is, as a scale and a shift of
    each channel.

    Raises `ValueError` where the name cannot be one or is taken, `FileExistsError` where the file is there, `OSError`
    where it cannot be written.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        taken = ", ".join(sorted(_RESERVED))
        raise ValueError(
            f"{name!r} cannot name a method: expected small letters and digits in words joined by '-', as in "
            f"'batch-renorm', none of {taken}"
        )
    if name in registry.names():
        raise ValueError(f"a norm is called {name!r} already: {registry.get(name).summary}")
    stem = name.replace("-", "_")
    path = folder / f"{stem}_.py" if keyword.iskeyword(stem) else folder / f"{stem}.py"
    if path.exists():
        raise FileExistsError(f"{path} is there already")
    class_name = "".join(part.capitalize() for part in name.split("-"))
    try:
        path.write_text(_CARD.substitute(name=name, class_name=class_name), encoding="utf-8")
    except OSError:  # a full disk: half a file would be a broken method
        path.unlink(missing_ok=True)
        raise
    return path
