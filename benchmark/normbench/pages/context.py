"""What all pages share while a site is being built: names of files, methods, charts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from normbench.board import Board, Entry, badges, describe, slugify
from normbench.board.badges import badge, test_images
from normbench.board.titles import apart
from normbench.pages.methods import Method, methods
from normbench.pages.press import Press
from normbench.pages.results import Results
from normbench.pages.writer import Writer
from normbench.plan.origin import Origin
from normbench.spec.text import natural

#: With more trials than this there is no page for each; numbers then lead to the table of all runs.
TRIAL_PAGES = 2000
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class SetUp:
    """Boards that differ in nothing but what pages filter by: those that stand on one page, and on its filter."""

    title: str
    suffix: str
    """What file names of its pages end in; nothing for the first."""
    boards: tuple[Board, ...]
    """By width and batch size."""


#: What may tell set-ups of one title apart, in the order in which it is tried.
_TELLS: tuple[Callable[[Sequence[Board]], str], ...] = (
    *(lambda boards, kind=kind: badge(boards[0], kind) for kind in ("epochs", "train", "test", "device")),
    lambda boards: f"suite {', '.join(sorted({s for b in boards for s in b.suites}))}",
    lambda boards: "; ".join(describe(a) for a in boards[0].attacks) or "no attacks",
    lambda boards: boards[0].alike,
)


@dataclass(frozen=True)
class Context:
    results: Results
    writer: Writer
    press: Press
    origin: Origin = field(default_factory=Origin)

    @cached_property
    def methods(self) -> dict[str, Method]:
        return methods(e for b in self.results.boards for e in b.entries)

    @cached_property
    def trial_pages(self) -> bool:
        return len(self.results.position) <= TRIAL_PAGES

    @cached_property
    def set_ups(self) -> list[SetUp]:
        """Boards by what they have in common (see `Board.alike`), the set-up of the lead board first."""
        found: dict[str, list[Board]] = defaultdict(list)
        for board in self.results.boards:
            found[board.alike].append(board)
        lead = self.results.lead()
        groups = sorted(found.values(), key=lambda boards: (lead not in boards, natural(boards[0].title)))
        titles = apart(groups, lambda boards: boards[0].set_up, _TELLS)
        made: list[SetUp] = []
        for boards, title in zip(groups, titles, strict=True):
            slug = slugify(title, 64)
            while f"-{slug}" in {s.suffix for s in made}:
                slug += "-x"
            made.append(SetUp(title, f"-{slug}" if made else "", tuple(boards)))
        return made

    @cached_property
    def _set_up_of(self) -> dict[str, SetUp]:
        return {board.id: s for s in self.set_ups for board in s.boards}

    def set_up(self, board: Board) -> SetUp:
        return self._set_up_of[board.id]

    def topic_href(self, topic: str, board: Board) -> str:
        """Where a board stands on the pages of a topic (`accuracy`, ...)."""
        return f"{topic}{self.set_up(board).suffix}.html#{board.slug}"

    @cached_property
    def _anchors(self) -> dict[str, dict[str, str]]:
        return {}

    def anchors(self, board: Board) -> dict[str, str]:
        """Ids of a board's rows, by entry: no two rows of a page share one."""
        if board.id not in self._anchors:
            names = apart(board.entries, lambda e: slugify(e.label), [lambda e: e.id])
            ids = (f"{board.slug}--{slugify(name, 100)}" for name in names)
            self._anchors[board.id] = {e.id: i for e, i in zip(board.entries, ids, strict=True)}
        return self._anchors[board.id]

    def row_href(self, topic: str, board: Board, entry: Entry) -> str:
        """Where an entry stands on a board's page."""
        return f"{self.topic_href(topic, board).partition('#')[0]}#{self.anchors(board)[entry.id]}"

    def trial_href(self, trial_id: str) -> str:
        """Where a trial is shown, relative to the site's root."""
        return f"trials/{trial_slug(trial_id)}.html" if self.trial_pages else f"runs.html#q={trial_slug(trial_id)}"

    def board_view(self, board: Board) -> dict[str, Any]:
        """What templates print about a board."""
        several = self.set_up(board).boards
        widths, batches = {b.width for b in several}, {b.batch_size for b in several}
        parts = [f"width ×{board.width:g}"] * (len(widths) > 1) + [f"batch {board.batch_size}"] * (len(batches) > 1)
        return {
            "id": board.id,
            "slug": board.slug,
            "title": board.title,
            "short": ", ".join(parts) or f"batch {board.batch_size}",
            "badges": badges(board),
            "dataset": board.dataset,
            "stem": board.stem,
            "width": board.width,
            "batch_size": board.batch_size,
            "tested": test_images(board),
            "attack_texts": [describe(a) for a in board.attacks],
            "shared": board.shared,
        }


def trial_slug(trial_id: str) -> str:
    """A trial's id as a file name; results from elsewhere may carry any text as an id."""
    return trial_id if _ID.fullmatch(trial_id) else slugify(trial_id, 40) + "-x"
