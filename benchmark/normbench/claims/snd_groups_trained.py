"""Read off the study of stochasticity."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.claims.base import Part, Trained, estimated
from normbench.studies import Evidence
from normbench.studies.stochasticity import read


class DisturbanceGroupsTrained(Trained):
    name = "snd-groups-trained"
    summary = "In trained networks smaller groups of whitening disturb less"
    source = "huang"
    theme = "whitening"
    place = "Slide: controlling the stochasticity of BW by groups"
    study = "stochasticity"

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        for board, _, slopes in read(found):
            for method, slope in slopes:
                what = f"slope of log2 disturbance on log2 group size, {method}"
                seeds = max((len({r.seed for r in e.runs if r.ok}) for e in board.entries), default=0)
                yield board.title, estimated(what, slope, seeds, at_least=0.0) if slope else None
