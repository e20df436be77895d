"""Writes the file of a new measure (`bench new measure NAME`)."""

from __future__ import annotations

from pathlib import Path
from string import Template

from normbench.measures import registry
from normbench.spec.scaffold import write

_CARD = Template('''"""TODO: the measure in one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from normbench.measures._weights import raw_weights
from normbench.measures.base import Measure, Probe, Value


class $class_name(Measure):
    """The largest absolute value of each layer's weight. TODO: the equation, and what its symbols are.

    Source: TODO: authors, title, where and when it was published.
    """

    name: ClassVar[str] = "$name"
    summary: ClassVar[str] = "TODO: a few words for tables"
    source: ClassVar[str] = "TODO: authors year, arXiv number"
    cost: ClassVar[str] = "TODO: of one look, in a few words: one forward and backward of the probe"

    # Parameters are typed fields with defaults, written so in a suite: `{$name: {every: 2}}`.
    # `every`, the number of epochs between two looks, is there for every measure. `EndMeasure` looks at the trained
    # network alone, `StepMeasure` follows optimizer steps.

    def read(self, probe: Probe) -> Iterable[Value]:
        # TODO: look at `probe.model`, which is in eval mode, with `probe.images` and `probe.labels`. Whatever changes
        # here is put back. A layer's name is empty where a value is of the whole network.
        for layer, _, raw in raw_weights(probe.model):
            yield Value("$name.largest", layer, raw.detach().abs().max().item())
''')


def scaffold(name: str, folder: Path) -> Path:
    """Write the file of a measure called `name` into `folder`; it passes its checks as it is, as the largest value of
    each weight. Raises as `normbench.spec.scaffold.write`.
    """
    return write(registry, _CARD, name, folder)
