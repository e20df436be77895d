"""What tuning tried for each method: validation accuracy of every setting, the choice, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from normbench.board import slugify
from normbench.board.tuning import Sweep, Tried
from normbench.pages.context import Context
from normbench.pages.methods import key_of
from normbench.spec.tuning import order, written

#: Settings of a suite that get a column each; more of them are listed a line each.
COLUMNS = 10


def write(context: Context) -> None:
    """Write tuning.html, where there is something to tell."""
    sweeps = context.results.sweeps
    if not sweeps:
        return
    methods = {e.norm: context.methods[key_of(e)] for b in context.results.boards for e in b.entries}
    by_suite: dict[str, list[Sweep]] = {}
    for sweep in sweeps:
        by_suite.setdefault(sweep.suite, []).append(sweep)
    context.writer.page(
        "tuning.html",
        "tuning.html",
        title="Tuning",
        suites=[_suite(i, name, several, methods) for i, (name, several) in enumerate(by_suite.items())],
    )


def _suite(position: int, name: str, sweeps: Sequence[Sweep], methods: dict[str, Any]) -> dict[str, Any]:
    settings = sorted({t.settings for s in sweeps for t in s.tried}, key=order)
    columns = settings if len(settings) <= COLUMNS and len({s.keys for s in sweeps}) == 1 else []
    return {
        "id": f"suite-{position}-{slugify(name, 40)}",
        "name": name,
        "columns": [written(s) for s in columns],
        "sweeps": [_sweep(s, columns, methods) for s in sweeps],
        "held_out": " or ".join(sorted({f"{100 * s.held_out:g} %" for s in sweeps})),
        "seeds": " or ".join(map(str, sorted({s.seeds for s in sweeps}))),
        "candidates": sum(s.trials for s in sweeps),
        "edge": any(s.at_the_edge for s in sweeps),
    }


def _sweep(sweep: Sweep, columns: Sequence[Any], methods: dict[str, Any]) -> dict[str, Any]:
    by = {t.settings: t for t in sweep.tried}
    return {
        "label": sweep.label,
        "method": methods.get(sweep.norm),
        "cells": [_cell(by.get(settings)) for settings in columns],
        "lines": [] if columns else [_cell(t) for t in sweep.tried],
        "chosen": sweep.chosen.text if sweep.chosen else "none",
        "edge": sweep.at_the_edge,
        "candidates": sweep.trials,
        "epochs": f"{sweep.epochs:,}",
        "seconds": f"{sweep.train_seconds:,.1f}",
    }


def _cell(tried: Tried | None) -> dict[str, Any]:
    if tried is None:
        return {"text": "–", "settings": "", "chosen": False, "failed": False}
    return {"text": tried.display, "settings": tried.text, "chosen": tried.chosen, "failed": tried.accuracy is None}
