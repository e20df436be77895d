"""The list of methods and a page for each: what it is, what it claims, what it costs, how it did."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from normbench.board import Board, Entry, Metric, why_not
from normbench.norms import Norm, registry
from normbench.pages.context import Context
from normbench.pages.equations import mathml
from normbench.pages.figures import accuracies
from normbench.pages.methods import Method, claims, invariance, key_of, linked, parameters

#: Boards that a method's page lists; all its trials stand in the table of runs.
LISTED = 200


def write(context: Context) -> None:
    """Write methods.html and `methods/<slug>.html` for every method that is registered or has results."""
    results: dict[str, list[tuple[Board, Entry]]] = {key: [] for key in context.methods}
    for board in context.results.boards:
        for entry in board.entries:
            for key in {key_of(entry), *(n for n in entry.methods if n in results and n != "none")}:
                results[key].append((board, entry))
    speeds = {key: _speed(results[key], results.get("bn", [])) for key in results}
    lead = context.results.lead()
    shown = {key_of(e): e for e in _best(lead)} if lead and lead.contends else {}

    def place(method: Method) -> tuple[bool, bool, str, str]:
        return method.key not in shown, not results[method.key], method.family, method.key

    context.writer.page(
        "methods.html",
        "methods.html",
        title="Methods",
        methods=[
            {
                "method": m,
                "invariant": _invariant(m),
                "trials": sum(len(e.runs) for _, e in results[m.key]),
                "speed": speeds[m.key],
                "result": _result(context, lead, shown[m.key]) if lead and m.key in shown else None,
            }
            for m in sorted(context.methods.values(), key=place)
        ],
        lead=_lead(context, lead) if lead and shown else None,
        chart=accuracies(context, lead, list(shown.values())) if lead else None,
        broken=registry.problems(),
    )
    for method in context.methods.values():
        _page(context, method, results[method.key], speeds[method.key])


def _lead(context: Context, board: Board) -> dict[str, str]:
    robust = board.headline("robust")
    return {
        "title": board.title,
        "href": context.topic_href("accuracy", board),
        "robust": robust.title if robust else "",
    }


def _best(board: Board) -> list[Entry]:
    """Of every method the entry with the highest clean accuracy, the best one first."""
    clean = board.headline("clean")
    ordered = [e for e in board.standings(clean) if clean.key in e.cells] if clean else []
    return list({key_of(e): e for e in reversed(ordered)}.values())[::-1]


def _invariant(method: Method) -> str:
    scales = [c.claims.weight_scale for c in method.cards]
    return next((s for s in ("row", "block", "tensor") if s in scales), "none" if scales else "unknown")


def _page(context: Context, method: Method, results: list[tuple[Board, Entry]], speed: str) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for board, entry in results[:LISTED]:
        found.setdefault(context.set_up(board).suffix, []).append(_result(context, board, entry))
    context.writer.page(
        "method.html",
        f"methods/{method.slug}.html",
        title=f"{method.full} ({method.key})" if method.full != method.key else method.key,
        method=method,
        cards=[_card(c) for c in method.cards],
        unknown=[n for n in method.names if n not in {c.name for c in method.cards}],
        speed=speed,
        results=[(f"results{s.suffix}", s.title, found[s.suffix]) for s in context.set_ups if s.suffix in found],
        hidden=max(0, len(results) - LISTED),
    )


def _card(cls: type[Norm]) -> dict[str, Any]:
    return {
        "name": cls.name,
        "summary": cls.summary,
        "equation": cls.equation,
        "math": mathml(cls.equation),
        "source": linked(cls.source),
        "family": cls.family,
        "invariance": invariance(cls),
        "claims": claims(cls),
        "parameters": parameters(cls),
    }


def _result(context: Context, board: Board, entry: Entry) -> dict[str, Any]:
    cells = []
    for group in ("clean", "robust", "weight-norm"):
        metric = board.headline(group)
        cell = entry.cells.get(metric.key) if metric else None
        notes = _notes(board, entry, metric) if metric and cell else ("", "")
        cells.append(
            {
                "value": f"{cell.display} {cell.metric.unit}" if cell else "–",
                "notes": [n for n in notes if n],
                "rank": notes[1],
                "covers": cell.covers if cell else "",
            }
        )
    return {
        "id": f"{board.slug}-{entry.id}",
        "board": f"width\u00a0×{board.width:g}, batch\u00a0{board.batch_size}",
        "href": context.row_href("accuracy", board, entry),
        "label": entry.label,
        "cells": cells,
        "seeds": [
            {"href": f"../{context.trial_href(r.trial_id)}", "text": f"{r.seed}", "failed": not r.ok}
            for r in entry.runs
        ],
        "status": entry.status,
        "level": entry.level,
        "reason": next((r.reason for r in entry.failed if r.reason), ""),
    }


def _notes(board: Board, entry: Entry, metric: Metric) -> tuple[str, str]:
    """Which number it is, where there are several; and its rank, or why there is none."""
    rank = board.rank(entry, metric)
    placed = f"rank {rank.text} of {rank.of}" if rank else why_not(entry, metric)
    return metric.title if metric.group == "robust" else "", placed


def _speed(own: Iterable[tuple[Board, Entry]], reference: Iterable[tuple[Board, Entry]]) -> str:
    """Training speed relative to batch norm: the median over boards that have both."""
    per_board: dict[str, list[float]] = {}
    for board, entry in reference:
        if entry.norm == "bn":
            per_board.setdefault(board.id, []).extend(_rates(entry))
    ratios = [
        statistics.fmean(rates) / statistics.fmean(per_board[b.id])
        for b, e in own
        if (rates := _rates(e)) and per_board.get(b.id)
    ]
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def _rates(entry: Entry) -> list[float]:
    return [r.images_per_second for r in entry.runs if r.ok and r.images_per_second]
