"""The first page: who leads, by how much, how sure that is, and which claims of the sources hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normbench.board import MIN_SEEDS, Board, Comparison, Entry, Metric, badges, compare, why_not
from normbench.claims._listed import Listed
from normbench.pages import claims_page, figures
from normbench.pages.claims_page import Group
from normbench.pages.context import Context
from normbench.pages.methods import Method, key_of
from normbench.pages.svg import Chart
from normbench.pages.verdicts import Span, Strip, shares, span
from normbench.spec.about import Role

#: Boards beside the first that the page lists, and rows of the first one that it shows.
BOARDS, ROWS = 12, 24
#: Datasets as people write them; others keep their names.
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar10-jpeg": "CIFAR-10 after JPEG compression",
    "cifar100": "CIFAR-100",
    "cifar100-jpeg": "CIFAR-100 after JPEG compression",
    "digits": "handwritten digits",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "svhn": "SVHN",
}


@dataclass(frozen=True)
class Answer:
    """Who leads a board in one metric, by how much, and how sure that is."""

    what: str
    """`In clean accuracy`, `Under attack`."""
    where: str
    """What the metric is exactly; empty where the name says it."""
    leader: tuple[str, str]
    """The method, and its settings in words."""
    method: Method
    value: str
    runner: tuple[str, str] | None
    """The best entry of another method; None where there is none."""
    ahead: str
    interval: str
    certain: bool
    ties: tuple[Entry, ...]
    """Entries beside the leader that may be the best."""
    of: int
    """Entries that were tested."""


def answer(context: Context, board: Board, metric: Metric | None) -> Answer | None:
    """The answer of a board; None where no entry was tested."""
    if metric is None or not board.tested(metric):
        return None
    tested = [e for e in board.standings(metric) if not why_not(e, metric)]
    leader = tested[0]
    runner = next((e for e in tested if e.norm != leader.norm), None)
    made = compare(board, leader, runner, metric) if runner else None
    return Answer(
        what="In clean accuracy" if metric.group == "clean" else "Under attack",
        where=attack_words(metric),
        leader=spelled(leader, context.methods[key_of(leader)]),
        method=context.methods[key_of(leader)],
        value=leader.cells[metric.key].metric.display(leader.cells[metric.key].value),
        runner=spelled(runner, context.methods[key_of(runner)]) if runner else None,
        ahead=_points(made.mean) if made and made.mean is not None else "",
        interval=_interval(made),
        certain=made is not None and made.verdict == "higher",
        ties=tuple(e for e in board.tied_for_first(metric) if e.id != leader.id),
        of=len(tested),
    )


def _points(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "−")


def spelled(entry: Entry, method: Method) -> tuple[str, str]:
    """The method of an entry, and in words its full name and the settings that tell it from others: `ws+bn`, `weight
    standardization + batch normalization, without weight decay`.
    """
    names = [c.summary.partition(":")[0].partition(";")[0] for c in method.cards]
    full = " + ".join(f"{n[:1].lower()}{n[1:]}" for n in names)
    settings = entry.label.removeprefix(entry.norm).split(" · ")[1:]
    return entry.norm, ", ".join([full] * bool(full) + [_setting(s) for s in settings])


def _setting(text: str) -> str:
    name, _, value = text.rpartition(" ")
    if name == "wd":
        return "without weight decay" if value == "0" else f"with weight decay {value}"
    return f"{'learning rate' if name == 'lr' else name} {value}".strip()


def _interval(made: Comparison | None) -> str:
    """The interval of a difference in points: `[−1.3, +5.7]`."""
    if made is None or made.interval is None:
        return ""
    return "[{:+.1f}, {:+.1f}]".format(*(100 * v for v in (made.interval.low, made.interval.high))).replace("-", "−")


def attack_words(metric: Metric) -> str:
    """`in the worst case of all attacks within 2/255 in L∞`; empty for clean accuracy."""
    return metric.words.removeprefix("accuracy ") if metric.group == "robust" else ""


def scope(board: Board) -> str:
    """What a board is about, for a sentence: `16×16 CIFAR-10, a network of 10 layers, 10 epochs, 3 seeds`."""
    known = {b.kind: b.text for b in badges(board)}
    side = f"{board.side}×{board.side} " if board.side else ""
    parts = [f"{side}{DATASETS.get(board.dataset, board.dataset)}"]
    if layers := known.get("layers"):
        parts.append(f"a network of {layers}")
    return ", ".join([*parts, *(known[k] for k in ("train", "test", "epochs", "seeds") if k in known)])


@dataclass(frozen=True)
class Column:
    """One metric of the standings."""

    metric: Metric
    axis: Span
    head: str

    @property
    def ends(self) -> tuple[str, str]:
        return f"{100 * self.axis.low:g}", f"{100 * self.axis.high:g} %"


@dataclass(frozen=True)
class Place:
    """An entry in one column."""

    value: str
    strip: Strip | None
    leads: bool
    why: str


def columns(board: Board) -> list[Column]:
    """Clean and robust accuracy, each on an axis that is zoomed to the data."""
    found = [m for m in (board.headline("clean"), board.headline("robust")) if m and board.tested(m)]
    return [Column(m, _axis(board, m), "Clean accuracy" if m.group == "clean" else "Under attack") for m in found]


def _axis(board: Board, metric: Metric) -> Span:
    return span(
        [
            (c.value, c.interval.low if c.interval else None, c.interval.high if c.interval else None)
            for e in board.entries
            if (c := e.cells.get(metric.key))
        ]
    )


def _place(board: Board, entry: Entry, column: Column) -> Place:
    cell, why = entry.cells.get(column.metric.key), why_not(entry, column.metric)
    if cell is None:
        return Place("–", None, leads=False, why=why)
    rank = board.rank(entry, column.metric)
    low, high = (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
    strip = column.axis.strip(cell.value, low, high, [p.value for p in cell.points])
    return Place(column.metric.display(cell.value), strip, leads=bool(rank and rank.best == 1), why=why)


def standings(context: Context, board: Board) -> dict[str, Any] | None:
    """All entries of a board with their intervals, the best first, leaders marked; the first `ROWS` of them."""
    made = columns(board)
    if not made:
        return None
    ordered = board.standings(made[0].metric)
    shown = [e for i, e in enumerate(ordered) if i < ROWS or any(_leads(board, e, c.metric) for c in made)]
    return {
        "columns": made,
        "rows": [(e, context.methods[key_of(e)], [_place(board, e, c) for c in made]) for e in shown],
        "hidden": len(ordered) - len(shown),
        "settings": [name for name, _ in ordered[0].settings],
        "beyond": any(p.strip and p.strip.beyond for e in shown for p in (_place(board, e, c) for c in made)),
    }


def _leads(board: Board, entry: Entry, metric: Metric) -> bool:
    rank = board.rank(entry, metric)
    return bool(rank and rank.best == 1)


def write(context: Context, rows: Sequence[Listed]) -> None:
    """Write index.html."""
    boards = sorted(context.results.boards, key=lambda b: b.prominence, reverse=True)
    winners, others = [b for b in boards if b.contends], [b for b in boards if not b.contends]
    lead = winners[0] if winners else None
    answers = [a for g in ("clean", "robust") if lead and (a := answer(context, lead, lead.headline(g)))]
    context.writer.page(
        "index.html",
        "index.html",
        title="Overview",
        lead=lead and _board(context, lead, ""),
        scope=lead and scope(lead),
        answers=answers,
        standings=standings(context, lead) if lead else None,
        charts=_scatter(context, lead) if lead else [],
        groups=[_card(g) for g in claims_page.groups(rows)],
        shares=shares(r.finding.verdict for r in rows),
        claims=len(rows),
        sources=len({r.claim.source for r in rows}),
        boards=[_board(context, b, _best(context, b)) for b in winners[1:][:BOARDS]]
        + [_board(context, b, _why(b)) for b in others[:BOARDS]],
        hidden=max(0, len(winners) - 1 - BOARDS) + max(0, len(others) - BOARDS),
        seeds_needed=MIN_SEEDS,
        methods=len({key_of(e) for b in boards for e in b.entries}),
    )


def _best(context: Context, board: Board) -> str:
    """Who leads a board that contends, in short."""
    found = answer(context, board, board.headline("clean"))
    if found is None:
        return ""
    sure = "certainly the best" if found.certain and not found.ties else "not certainly the best"
    return f"{found.leader[0]} has the highest clean accuracy, {found.value} %, {sure}"


def _why(board: Board) -> str:
    return "an example that shows that it runs" if board.role is Role.EXAMPLE else f"fewer than {MIN_SEEDS} seeds"


def _board(context: Context, board: Board, why: str) -> dict[str, Any]:
    robust = board.headline("robust")
    return {
        "title": board.title,
        "clean": context.topic_href("accuracy", board),
        "robust": context.topic_href("robustness", board) if robust else "",
        "entries": len(board.entries),
        "trials": sum(len(e.runs) for e in board.entries),
        "failed": sum(len(e.failed) for e in board.entries),
        "why": why,
    }


def _card(group: Group) -> dict[str, Any]:
    return {
        "key": group.key,
        "title": group.theme.title,
        "count": len(group.rows),
        "shares": group.shares,
        "leads": [claims_page.view(r) for r in group.leads],
    }


def _scatter(context: Context, board: Board) -> list[Chart]:
    clean, robust = board.headline("clean"), board.headline("robust")
    if clean is None or robust is None:
        return []
    chart = figures.overview(context, board, clean, robust, title=robust.title)
    return [chart] if chart else []
