"""The boards: accuracy, robustness, weight norms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.board import Board
from normbench.board.metric import Group
from normbench.pages import figures
from normbench.pages.context import Context, SetUp
from normbench.pages.data_page import feed
from normbench.pages.rank_charts import RankTable, rank_chart, rank_table
from normbench.pages.svg import Chart
from normbench.pages.tables import BoardTable, board_table

#: Boards that have charts, of the whole site: those with most trials, one of every set-up first.
DRAWN = 4


@dataclass(frozen=True)
class Topic:
    name: str
    heading: str
    lede: str
    reading: str
    """How to read the board."""
    caption: str
    group: Group
    """Of the numbers that it is about."""


RANKS = (
    "A rank is a span: the best is 1 and one more for each method that is surely better, the worst leaves out those "
    "that are surely worse. Every method below a heavy line is surely worse than the first one above it. Two methods"
    " are told apart exactly where their intervals do not overlap; of boards on which no methods differ, at most one"
    " in twenty tells any pair apart. The intervals cover seeds: other first weights, another order of the images. "
    "They do not cover other test images: the page Compare says of each difference whether it holds for those too."
)

TOPICS = (
    Topic(
        "accuracy",
        "Accuracy",
        "Clean accuracy on the test images that each board names.",
        RANKS,
        "clean accuracy",
        "clean",
    ),
    Topic(
        "robustness",
        "Robustness",
        "Accuracy on perturbed test images: an image counts if it is right before and after.",
        "The ranks are of the attack and the size that the board's suite names. Where it names none, they are of "
        "the worst case over the attacks within one ball, else of the first attack that the suite lists, at the "
        "middle one of its sizes. No result has a say in that. Against the clean rank, ▲ 2 says that a method rises"
        f" by at least two ranks, ▼ 2 that it falls by at least two, ≈ that the spans overlap. {RANKS}",
        "robust accuracy",
        "robust",
    ),
    Topic(
        "weight-norm",
        "Weight norms",
        "How much the weights grow in training: their L2 norm at the end, divided by that at the start.",
        "Raw weights are what the optimizer moves; effective ones are what the layer multiplies with. Growth is "
        "neither good nor bad, so there are no ranks. A weight is scale-invariant if rescaling it changes nothing, "
        "measured before training as |cos(weight, gradient)| < 1e-4. Theory says only of these that they grow.",
        "growth of the weights",
        "weight-norm",
    ),
)


def write(context: Context) -> None:
    """Write the pages of every topic, one for each set-up."""
    drawn = _drawn(context)
    for topic in TOPICS:
        if not context.set_ups:
            _topic_page(context, topic, None, [], {}, {})
        for set_up in context.set_ups:
            tables = [(b, _table(context, topic, b)) for b in _of(topic, set_up.boards)]
            charts = {b.id: [c for c in _charts(context, topic, b) if c] for b in set_up.boards if b.id in drawn}
            robust = [b for b, _ in tables if topic.name == "robustness"]
            ranks = {b.id: made for b in robust if (made := rank_table(b))}
            _topic_page(context, topic, set_up, tables, charts, ranks)


def _of(topic: Topic, boards: Sequence[Board]) -> Sequence[Board]:
    """Those that have something to say of a topic: numbers, or failures. All of them where none does, so that the page
    says so.
    """
    return [b for b in boards if b.of(topic.group) or any(e.failed for e in b.entries)] or boards


def _drawn(context: Context) -> set[str]:
    ranked = (sorted(s.boards, key=lambda b: b.prominence, reverse=True) for s in context.set_ups)
    rows = itertools.zip_longest(*ranked)
    in_turn = [b.id for row in rows for b in row if b is not None]
    return set(in_turn[:DRAWN])


def _topic_page(
    context: Context,
    topic: Topic,
    set_up: SetUp | None,
    tables: Sequence[tuple[Board, BoardTable]],
    charts: dict[str, Any],
    ranks: dict[str, RankTable],
) -> None:
    rows = [row for _, t in tables for row in t.rows]
    context.writer.page(
        "topic.html",
        f"{topic.name}{set_up.suffix if set_up else ''}.html",
        title=f"{topic.heading}: {set_up.title}" if set_up else topic.heading,
        feeds=[feed(b) for b, _ in tables],
        heading=f"{topic.heading}: {set_up.title}" if set_up and len(context.set_ups) > 1 else topic.heading,
        lede=topic.lede,
        reading=topic.reading,
        caption=topic.caption,
        tables=[t for _, t in tables],
        set_ups=[(s.title, f"{topic.name}{s.suffix}.html", s is set_up) for s in context.set_ups],
        families=sorted({row.method.family for row in rows}),
        decays=[f"{v:g}" for v in sorted({row.entry.spec["train"]["weight_decay"] for row in rows})],
        charts=charts,
        ranks=ranks,
    )


def _table(context: Context, topic: Topic, board: Board) -> BoardTable:
    clean, robust = board.headline("clean"), board.headline("robust")
    if topic.name == "accuracy":
        return board_table(board, clean, board.of("clean"), context)
    if topic.name == "robustness":
        others = [m for m in board.of("robust") if m != robust]
        return board_table(board, robust, [robust, *others] if robust else [], context, against=clean)
    weights = board.growth
    beside = [m for m in (clean, robust) if m]
    return board_table(board, weights[0] if weights else None, [*weights, *beside], context)


def _charts(context: Context, topic: Topic, board: Board) -> Iterator[Chart | None]:
    clean, robust = board.headline("clean"), board.headline("robust")
    weights = next(iter(board.of("weight-norm")), None)
    name = f"{topic.name}-{board.slug}"
    if topic.name == "accuracy" and clean:
        if reference := figures.reference(board, clean):
            yield figures.differences(
                context,
                board,
                clean,
                reference,
                f"{name}-differences",
                f"Clean accuracy compared with {reference.label}, seed by seed",
            )
        yield figures.loss_curves(context, board, f"{name}-loss")
    if topic.name == "robustness" and clean and robust:
        yield rank_chart(context, board, f"{name}-ranks")
        yield figures.robustness_curves(context, board, f"{name}-sizes")
        yield figures.against_each_other(
            context, board, clean, robust, f"{name}-front", "Clean against robust accuracy", front=True
        )
        if reference := figures.reference(board, robust):
            yield figures.differences(
                context,
                board,
                robust,
                reference,
                f"{name}-differences",
                f"Robust accuracy compared with {reference.label}, seed by seed",
            )
    if topic.name == "weight-norm" and weights:
        yield figures.growth_curves(context, board, f"{name}-curves")
        if robust:
            yield figures.against_each_other(
                context,
                board,
                weights,
                robust,
                f"{name}-robust",
                "Growth of the weights and robust accuracy",
                front=False,
            )
        if clean:
            yield figures.against_each_other(
                context, board, weights, clean, f"{name}-clean", "Growth of the weights and clean accuracy", front=False
            )
