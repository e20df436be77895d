"""Which engines the trials of a run had, and why they were not those that were asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from normbench.spec.shown import counted

#: What is computed by an engine: key in the provenance of a row, key of the reason, in words.
_PARTS = (
    ("engine", "engine_reason", "training steps"),
    ("search", "search_reason", "gradients of attacks"),
    ("exact_search", "exact_search_reason", "attacks in float32"),
    ("adversary", "adversary_reason", "gradients of adversarial training"),
)


def engine_lines(provenances: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each engine and reason. None where all trials ran eagerly and nothing else was asked for, as on every
    CPU by default.
    """
    found: Counter[tuple[str, str, str]] = Counter()
    for facts in provenances:
        for key, why, words in _PARTS:
            if name := facts.get(key):
                found[words, name, facts.get(why) or ""] += 1
    if all(name == "eager" and not reason for _, name, reason in found):
        return []
    return [
        f"{words}: {name}, {counted(count, 'trial')}{f'; {reason}' if reason else ''}"
        for (words, name, reason), count in sorted(found.items())
    ]
