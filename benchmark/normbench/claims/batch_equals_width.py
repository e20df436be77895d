"""Read off the study of batch size and width."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.claims.base import Part, Trained, estimated
from normbench.studies import Evidence
from normbench.studies._grid import NEAR, grids, read
from normbench.studies._stats import resample
from normbench.studies.batch_width import BatchWidth


class BatchEqualsWidth(Trained):
    name = "batch-equals-width"
    summary = "The batch size should be close to the width of the network"
    source = "sun"
    theme = "batch"
    place = "Section 4, with the rank analysis of section 2.2"
    study = "batch-width"
    note = (
        "Epochs are fixed, so that a smaller batch takes more steps: group norm, which knows no batch, does best with "
        "small ones too. Ghost batches, at one batch size of the optimizer, keep that apart."
    )

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        if not BatchWidth().fits(found):
            return
        for heading, records in found.settings.items():
            for grid in grids(records):
                readings = read(grid, resample(grid.values(lambda r: r.run.values.get("clean"))), "first")
                if grid.control or readings.slope is None or readings.offset is None:
                    continue
                seeds = int(readings.resampled.counts.max(initial=0))
                slope = estimated(
                    f"slope of log2 best batch on log2 width, {grid.label}", readings.slope, seeds, at_least=0.5
                )
                ratio = f"log2 of best batch over width, {grid.label}"
                yield heading, None if readings.censored else slope
                yield (
                    heading,
                    None
                    if readings.censored
                    else estimated(ratio, readings.offset, seeds, at_least=-NEAR, at_most=NEAR),
                )
