"""What trials are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from normbench.board.words import attacked, capital, quantity
from normbench.spec.robustness import WORST_CASE

Group = Literal["clean", "robust", "weight-norm"]


@dataclass(frozen=True)
class Metric:
    """A number that trials are compared by. `size` is in pixel space [0, 1] where the metric is an attack's."""

    key: str
    group: Group
    label: str
    attack: str = ""
    threat: str = ""
    size: float | None = None

    @property
    def share(self) -> bool:
        """Whether it is an accuracy, a share in [0, 1], of which more is better. Growth of weights is neither good nor
        bad.
        """
        return self.group != "weight-norm"

    @property
    def heading(self) -> str:
        """The label at the start of a line; names of attacks stay as they are written."""
        return self.label if self.attack and self.attack != WORST_CASE else f"{self.label[:1].upper()}{self.label[1:]}"

    @property
    def words(self) -> str:
        """What is measured, in plain English within a sentence: `clean accuracy`, `accuracy under BIM at 2/255`. The
        label is what commands and files call it.
        """
        if self.group == "weight-norm":
            return quantity(self.key)
        if not self.attack:
            return self.label
        said = attacked(self.attack, self.threat, self.size)
        if self.group == "clean":
            return said
        return f"accuracy in the {said}" if self.attack == WORST_CASE else f"accuracy under {said}"

    @property
    def title(self) -> str:
        """Likewise at the head of a column or on an axis: `BIM at 2/255`."""
        return capital(attacked(self.attack, self.threat, self.size) if self.attack else self.words)

    @property
    def unit(self) -> str:
        return "%" if self.share else "×"

    def display(self, value: float | None) -> str:
        """In the unit, without naming it: 0.98123 as `98.12`, growth 3.1416 as `3.14`."""
        if value is None:
            return "–"
        return f"{100 * value:.2f}" if self.share else f"{value:.2f}"
