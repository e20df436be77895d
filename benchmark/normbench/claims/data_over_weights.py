"""Read off the boards."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.board import compare
from normbench.claims.base import Part, Trained, compared
from normbench.studies import Evidence
from normbench.studies.base import varied


class DataOverWeights(Trained):
    name = "data-over-weights"
    summary = "Normalizing data (batch norm) gives better accuracy than normalizing weights (WN, CWN, WS, SN)"
    source = "sun"
    theme = "training"
    place = "Section 2.4; also Huang, slide on challenges"
    study = "bim-worst-case"

    def parts(self, found: Evidence) -> Iterable[tuple[str, Part | None]]:
        for board in found.boards:
            clean = board.headline("clean")
            batch = {varied(e.spec, "norm", "norm_label", "train.lr"): e for e in board.entries if e.norm == "bn"}
            for entry in board.entries if clean else ():
                other = batch.get(varied(entry.spec, "norm", "norm_label", "train.lr"))
                if other and entry.norm in {"wn", "cwn", "ws", "sn"} and clean:
                    what = f"{other.label} less {entry.label}, clean, points"
                    yield board.title, compared(what, compare(board, other, entry, clean), 100.0)
