"""Read off the study of stochasticity."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.claims.base import Part, Trained, compared
from normbench.studies import Evidence
from normbench.studies.stochasticity import read


class DisturbanceOrderTrained(Trained):
    name = "snd-order-trained"
    summary = "In trained networks the disturbance falls in the order PCA, CD, ZCA, BN"
    source = "huang"
    theme = "whitening"
    place = "Slide: investigation into the stochasticity"
    study = "stochasticity"

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        for board, steps, _ in read(found):
            for first, second, made in steps:
                yield board.title, compared(f"octaves of disturbance, {first} over {second}", made)
