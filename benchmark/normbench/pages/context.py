"""What all pages share while a site is being built: names of files, methods, charts."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from normbench.board import Board, describe, slugify
from normbench.pages.methods import Method, methods
from normbench.pages.press import Press
from normbench.pages.results import Results
from normbench.pages.writer import Writer

#: With more trials than this there is no page for each; numbers then lead to the table of all runs.
TRIAL_PAGES = 2000
#: Columns that are keys of `bench run --only`.
SELECTABLE = ("dataset", "model", "batch_size", "width", "epochs", "optimizer", "lr", "weight_decay")
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Context:
    results: Results
    writer: Writer
    press: Press

    @cached_property
    def methods(self) -> dict[str, Method]:
        return methods(e for b in self.results.boards for e in b.entries)

    @cached_property
    def trial_pages(self) -> bool:
        return len(self.results.position) <= TRIAL_PAGES

    @cached_property
    def combinations(self) -> dict[tuple[str, str], list[Board]]:
        """Boards by dataset and architecture, the one with the lead board first."""
        found: dict[tuple[str, str], list[Board]] = defaultdict(list)
        for board in sorted(self.results.boards, key=lambda b: b.prominence, reverse=True):
            found[board.dataset, board.model].append(board)
        lead = self.results.lead()
        first = (lead.dataset, lead.model) if lead else None
        return dict(sorted(found.items(), key=lambda item: (item[0] != first, item[0])))

    @cached_property
    def suffixes(self) -> dict[tuple[str, str], str]:
        """What file names of a combination's pages end in; nothing for the first."""
        found: dict[tuple[str, str], str] = {}
        for i, (dataset, model) in enumerate(self.combinations):
            slug = slugify(f"{dataset}-{model}", 48)
            while f"-{slug}" in found.values():
                slug += "-x"
            found[dataset, model] = f"-{slug}" if i else ""
        return found

    def topic_href(self, topic: str, board: Board) -> str:
        """Where a board stands on the pages of a topic (`accuracy`, ...)."""
        return f"{topic}{self.suffixes[board.dataset, board.model]}.html#{board.slug}"

    def trial_href(self, trial_id: str) -> str:
        """Where a trial is shown, relative to the site's root."""
        return f"trials/{trial_slug(trial_id)}.html" if self.trial_pages else f"runs.html#q={trial_slug(trial_id)}"

    @cached_property
    def _varying(self) -> dict[str, list[str]]:
        table = self.results.table
        found = {}
        for suite in pc.unique(table.column("suite")).to_pylist():
            part = table.filter(pc.equal(table.column("suite"), suite))
            found[suite] = [key for key in SELECTABLE if len(pc.unique(part.column(key))) > 1]
        return found

    def varying(self, suite: str) -> list[str]:
        """Keys of `bench run --only` besides norm and seed in which trials of a suite differ."""
        return self._varying[suite]

    def board_view(self, board: Board) -> dict[str, Any]:
        """What templates print about a board."""
        several = self.combinations[board.dataset, board.model]
        widths, batches = {b.width for b in several}, {b.batch_size for b in several}
        parts = [f"width ×{board.width:g}"] * (len(widths) > 1) + [f"batch {board.batch_size}"] * (len(batches) > 1)
        short = ", ".join(parts)
        namesakes = [b for b in several if (b.width, b.batch_size) == (board.width, board.batch_size)]
        if len(namesakes) > 1 or not short:
            short = board.title if len(namesakes) > 1 else f"batch {board.batch_size}"
        return {
            "id": board.id,
            "slug": board.slug,
            "title": board.title,
            "short": short,
            "dataset": board.dataset,
            "stem": board.stem,
            "width": board.width,
            "batch_size": board.batch_size,
            "test_total": board.test_total,
            "attack_texts": [describe(a) for a in board.attacks],
            "shared": board.shared,
        }


def trial_slug(trial_id: str) -> str:
    """A trial's id as a file name; results from elsewhere may carry any text as an id."""
    return trial_id if _ID.fullmatch(trial_id) else slugify(trial_id, 40) + "-x"
