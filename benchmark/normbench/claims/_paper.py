"""The source paper's findings as the study of its tables judges them, board by board."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.board.layout import attacks_of
from normbench.claims.base import Part, compared
from normbench.studies import Evidence
from normbench.studies._paper import accuracy_claims, columns_of, growth_claims, printed_dataset, tested


def findings(found: Evidence, text: str) -> Iterable[tuple[str, Part | None]]:
    """Of each board with the paper's columns, method by method: the finding that starts with `text`, in points or
    octaves.
    """
    for board in found.boards:
        columns = columns_of(found, board)
        noise, bim = attacks_of(board)
        clean = board.headline("clean")
        if not columns or clean is None or noise is None or bim is None:
            continue
        printed = printed_dataset(board.dataset)
        made = tested([*accuracy_claims(printed, columns, clean, noise, bim), *growth_claims(columns)])
        for claim in made:
            if claim.text.startswith(text):
                what = f"{claim.method.upper()}, {'points' if claim.percent else 'octaves'}"
                gap = None if claim.gap is None else 100 * claim.gap
                yield board.title, compared(what, claim.here, 100.0 if claim.percent else 1.0, gap)
