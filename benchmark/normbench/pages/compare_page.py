"""Any two methods of a board, seed by seed. All statistics are computed here, at build time: `compare.js` shows them.
Without JavaScript the page holds every method against one reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from normbench.board import (
    Board,
    Comparison,
    Entry,
    Metric,
    against,
    by_image,
    compare,
    discordant_pairs,
    image_errors,
    mcnemar_pairs,
)
from normbench.pages import figures
from normbench.pages.context import Context

#: Bytes of per-image outcomes that are read for a board; beyond, McNemar's test is left to the Parquet files.
OUTCOME_BYTES = 2_000_000
#: Comparisons of two entries in one metric that all scripts together hold, about 80 bytes each. Where there are more,
#: every board keeps its first metrics; a board with more pairs than this has no script.
COMPARISONS = 100_000
#: Boards whose comparison with a reference stands in the page itself.
STATIC = 12


def write(context: Context) -> None:
    """Write compare.html and `compare/<board>.js` for every board with at least two entries."""
    boards = [b for b in context.results.boards if len(b.entries) > 1 and b.metrics]
    scripted = [b for b in boards if comparable(b)]
    kept = max(1, COMPARISONS // max(1, sum(map(_pairs, scripted))))
    for board in scripted:
        text = json.dumps(_data(context, board, kept), allow_nan=False, separators=(",", ":"), sort_keys=True).replace(
            "</", "<\\/"
        )
        context.writer.text(f"compare/{board.slug}.js", f"NB.board({json.dumps(board.slug)},{text});\n")
    largest = sorted(boards, key=lambda b: -sum(len(e.runs) for e in b.entries))
    context.writer.page(
        "compare.html",
        "compare.html",
        title="Compare",
        boards=[{"slug": b.slug, "title": b.title} for b in largest if b in scripted],
        tables=[t for b in largest[:STATIC] if (t := _against_reference(context, b))],
    )


def comparable(board: Board) -> bool:
    """Whether the page shows any two methods of a board: where there are too many pairs, it shows one against all."""
    return len(board.entries) > 1 and bool(board.metrics) and _pairs(board) <= COMPARISONS


def _pairs(board: Board) -> int:
    return len(board.entries) * (len(board.entries) - 1) // 2


def _data(context: Context, board: Board, kept: int) -> dict[str, Any]:
    """What `compare.js` shows of a board: see `_comparison` for the numbers of a pair of entries."""
    headlines = [m for group in ("clean", "robust") if (m := board.headline(group))]
    chosen = list(dict.fromkeys([*headlines, *board.metrics]))[:kept]
    metrics = [m for m in board.metrics if m in chosen]
    entries = sorted(board.entries, key=lambda e: e.label)
    outcomes = _outcomes(context, board)
    words: dict[str, int] = {}
    pairs: dict[str, list[Any]] = {f"{a.id}.{b.id}": [] for a, b in combinations(entries, 2)}
    for metric in metrics:
        errors = _image_errors(board, metric, outcomes)
        images = _images(entries, metric, outcomes)
        for a, b in combinations(entries, 2):
            made = compare(board, a, b, metric)
            error = errors.get((a.id, b.id))
            beyond = made.beyond(error) if error is not None and made.verdict in {"higher", "lower"} else None
            pairs[f"{a.id}.{b.id}"].append(_comparison(made, beyond, images.get((a.id, b.id), ()), words))
    return {
        "entries": [_entry(e, metrics) for e in entries],
        "metrics": [{"key": m.key, "label": m.words, "share": m.share, "unit": m.unit} for m in metrics],
        "pairs": pairs,
        "words": list(words),
    }


def _comparison(
    made: Comparison, beyond: bool | None, images: Sequence[Any], words: dict[str, int]
) -> list[float | int | bool | Sequence[Any] | None]:
    """Mean, ends of the interval, p and verdict (its place in `words`) of the first minus the second; whether that
    holds for other test images too, null where that is not known; last, what McNemar's test says for each common seed.
    """
    interval = [_short(made.interval.low), _short(made.interval.high)] if made.interval else [None, None]
    word = words.setdefault(made.verdict, len(words))
    return [_short(made.mean), *interval, _short(made.p), word, beyond, images]


def _image_errors(
    board: Board, metric: Metric, outcomes: Mapping[str, Mapping[str, bytes]]
) -> dict[tuple[str, str], float]:
    """The error of a difference that comes from the test images, of each pair of entries whose trials all have their
    outcomes at hand.
    """
    shares = {}
    for entry in board.entries:
        cell = entry.cells.get(metric.key)
        packed = [outcomes.get(p.trial_id, {}).get(metric.key) for p in cell.points] if cell else []
        if cell and all(packed) and board.test_total and {p.total for p in cell.points} == {board.test_total}:
            shares[entry.id] = by_image([bits for bits in packed if bits], board.test_total)
    if not shares:
        return {}
    errors = image_errors(list(shares.values())).tolist()
    return {(a, b): e for a, row in zip(shares, errors, strict=True) for b, e in zip(shares, row, strict=True)}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.9g}")


def _outcomes(context: Context, board: Board) -> dict[str, dict[str, bytes]]:
    """Packed per-image outcomes by trial and metric; none where there are more than `OUTCOME_BYTES`."""
    found: dict[str, dict[str, bytes]] = {}
    size = 0
    for run in (r for e in board.entries for r in e.runs if r.ok):
        row = context.results.row(run.trial_id, ["clean_outcomes", "attacks"])
        bits = {f"{a['attack']}@{a['size']:.9g}": a["outcomes"] for a in row["attacks"] or []}
        found[run.trial_id] = {k: v for k, v in (bits | {"clean": row["clean_outcomes"]}).items() if v}
        size += sum(map(len, found[run.trial_id].values()))
        if size > OUTCOME_BYTES:
            return {}
    return found


def _images(
    entries: Sequence[Entry], metric: Metric, outcomes: Mapping[str, Mapping[str, bytes]]
) -> dict[tuple[str, str], list[tuple[int, int, int, float | None]]]:
    """Of each pair of entries, in their order, and each common seed with outcomes of the same images: how many only the
    first and only the second has right, and McNemar's p.
    """
    alike: dict[tuple[int, int], list[tuple[str, bytes]]] = {}
    for entry in entries:
        cell = entry.cells.get(metric.key)
        for point in cell.points if cell else ():
            if bits := outcomes.get(point.trial_id, {}).get(metric.key):
                alike.setdefault((point.seed, len(bits)), []).append((entry.id, bits))
    found: dict[tuple[str, str], list[tuple[int, int, int, float | None]]] = {}
    for (seed, _), own in sorted(alike.items()):
        only = discordant_pairs([bits for _, bits in own])
        counts, chances = only.tolist(), mcnemar_pairs(only).tolist()
        for (i, (a, _)), (j, (b, _)) in combinations(enumerate(own), 2):
            found.setdefault((a, b), []).append((seed, counts[i][j], counts[j][i], _short(chances[i][j])))
    return found


def _entry(entry: Entry, metrics: Sequence[Metric]) -> dict[str, Any]:
    cells = {m.key: entry.cells[m.key] for m in metrics if m.key in entry.cells}
    return {
        "id": entry.id,
        "label": entry.label,
        "norm": entry.norm,
        "status": entry.status,
        "points": {key: [[p.seed, p.value] for p in cell.points] for key, cell in cells.items()},
    }


def _against_reference(context: Context, board: Board) -> dict[str, Any] | None:
    metric = board.headline("clean")
    reference = figures.reference(board, metric) if metric else None
    if metric is None or reference is None:
        return None
    return {
        "slug": board.slug,
        "title": board.title,
        "href": context.topic_href("accuracy", board),
        "metric": metric.words,
        "reference": reference.label,
        "rows": [
            {
                "label": entry.label,
                "difference": f"{100 * comparison.mean:+.2f}" if comparison.mean is not None else "–",
                "interval": f"{100 * comparison.interval.low:+.2f} to {100 * comparison.interval.high:+.2f}"
                if comparison.interval
                else "–",
                "n": len(comparison.pairs),
                "p": "–" if comparison.p is None else f"{comparison.p:.3g}",
                "verdict": comparison.verdict,
            }
            for entry, comparison in against(board, reference, metric)
        ],
    }
