"""Why a trial is missing: how the most similar stored one differs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from normbench.spec.trial import Trial

#: A missing trial is compared with at most so many stored ones of its norm, seed and model: a hint must not cost more
#: than the plan.
_CANDIDATES = 200
_NONE = "not set"


class Nearest:
    """How the most similar stored trial differs. Each stored specification is read once, when it is asked for."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._texts: dict[tuple[Any, ...], list[str]] = {}
        self._specs: dict[tuple[Any, ...], list[frozenset[tuple[str, str]]]] = {}
        for row in rows:
            self._texts.setdefault((row["norm"], row["seed"], row["model"], row["stage"]), []).append(row["spec"])

    def why(self, trial: Trial) -> str:
        key = (trial.norm_label, trial.seed, trial.model.name, trial.stage)
        if key not in self._specs:
            self._specs[key] = [frozenset(_flat(json.loads(t)).items()) for t in self._texts.get(key, [])[:_CANDIDATES]]
        spec = _flat(trial.model_dump(mode="json")) if self._specs[key] else {}
        own = frozenset(spec.items())
        other = dict(min(self._specs[key], key=lambda o: len(own ^ o), default=()))
        differing = sorted(k for k in {*spec, *other} if spec.get(k) != other.get(k))
        if not 0 < len(differing) <= 3:
            return "it was never run"
        return (
            "it was never run with these settings: "
            f"{'; '.join(f'{k} is {spec.get(k, _NONE)}, stored with {other.get(k, _NONE)}' for k in differing)}"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            k: v
            for key, inner in value.items()
            for k, v in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return (
        {prefix: json.dumps(value)}
        if not (isinstance(value, list) and value and isinstance(value[0], dict))
        else _flat(dict(enumerate(value)), prefix)
    )
