"""What a row of results holds: the columns of a shard, and how a trial and its outcome become one. See
docs/results.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from normbench.spec.outcome import Outcome
from normbench.spec.trial import Trial, digest

SCHEMA_VERSION = 3
VERSION_KEY = b"normbench.schema_version"

_ATTACK = pa.struct(
    [
        ("attack", pa.string()),
        ("threat", pa.string()),
        ("size", pa.float64()),
        ("correct", pa.int64()),
        ("total", pa.int64()),
        ("accuracy", pa.float64()),
        ("outcomes", pa.binary()),
        ("seconds", pa.float64()),
        ("model_calls", pa.int64()),
        ("largest", pa.float64()),
    ]
)
_ROBUSTNESS = pa.struct(
    [
        ("attack", pa.string()),
        ("threat", pa.string()),
        ("sizes", pa.list_(pa.float64())),
        ("fell_at", pa.binary()),
        ("area", pa.float64()),
        ("median_size", pa.float64()),
    ]
)
_HEALTH = pa.struct([("check", pa.string()), ("passed", pa.bool_()), ("evidence", pa.string())])
_READING = pa.struct(
    [
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("measure", pa.string()),
        ("layer", pa.string()),
        ("value", pa.float64()),
    ]
)

#: One row a trial. Accuracies are shares in [0, 1], times are in seconds, sizes in pixel space. JSON columns hold
#: canonical JSON text.
SCHEMA = pa.schema(
    [
        ("suite", pa.string()),
        ("trial_id", pa.string()),
        ("entry", pa.string()),
        ("board", pa.string()),
        ("identity", pa.string()),
        ("identity_parts", pa.string()),
        ("content", pa.string()),
        ("source", pa.string()),
        ("device_class", pa.string()),
        ("precision", pa.string()),
        ("spec", pa.string()),
        ("dataset", pa.string()),
        ("model", pa.string()),
        ("stem", pa.string()),
        ("width", pa.float64()),
        ("norm", pa.string()),
        ("batch_size", pa.int64()),
        ("seed", pa.int64()),
        ("stage", pa.string()),
        ("epochs", pa.int64()),
        ("optimizer", pa.string()),
        ("lr", pa.float64()),
        ("weight_decay", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("log", pa.string()),
        ("epoch", pa.int64()),
        ("clean_correct", pa.int64()),
        ("test_total", pa.int64()),
        ("clean_accuracy", pa.float64()),
        ("clean_outcomes", pa.binary()),
        ("test_loss", pa.float64()),
        ("train_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("attacks", pa.list_(_ATTACK)),
        ("robustness", pa.list_(_ROBUSTNESS)),
        ("health", pa.list_(_HEALTH)),
        ("curves", pa.list_(_READING)),
        ("measure_seconds", pa.string()),
        ("attempts", pa.int64()),
        ("audit", pa.string()),
        ("provenance", pa.string()),
        ("started", pa.timestamp("ms", tz="UTC")),
        ("wall_seconds", pa.float64()),
        ("train_seconds", pa.float64()),
        ("images_per_second", pa.float64()),
        ("peak_memory", pa.int64()),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
)

#: The columns that planning and messages need. None of them grows with attacks, layers or epochs.
BRIEF = tuple(
    n
    for n in SCHEMA.names
    if n
    not in {
        "curves",
        "clean_outcomes",
        "attacks",
        "robustness",
        "health",
        "log",
        "audit",
        "provenance",
        "measure_seconds",
        "peak_memory",
    }
)


def to_row(suite: str, trial: Trial, identity: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Flatten a trial and its outcome into the columns of `SCHEMA`."""
    flat = {
        n: getattr(outcome, n)
        for n in SCHEMA.names
        if n in Outcome.model_fields
        and n
        not in {
            "status",
            "attacks",
            "robustness",
            "health",
            "curves",
            "measure_seconds",
            "audit",
            "provenance",
            "started",
        }
    }
    return flat | {
        "suite": suite,
        **of_trial(trial),
        **of_identity(identity),
        "spec": to_json(trial.model_dump(mode="json")),
        "dataset": trial.data.dataset,
        "model": trial.model.name,
        "stem": trial.model.stem,
        "width": trial.model.width,
        "norm": trial.norm_label,
        "batch_size": trial.batch_size,
        "seed": trial.seed,
        "stage": trial.stage,
        "epochs": trial.train.epochs,
        "optimizer": trial.train.optimizer,
        "lr": trial.train.lr,
        "weight_decay": trial.train.weight_decay,
        "status": outcome.status.value,
        "clean_accuracy": outcome.clean_accuracy,
        "attacks": [a.model_dump() | {"accuracy": a.accuracy} for a in outcome.attacks],
        "robustness": [c.model_dump() for c in outcome.robustness],
        "health": [h.model_dump() for h in outcome.health],
        "curves": [r.model_dump() for r in outcome.curves],
        "measure_seconds": to_json(outcome.measure_seconds),
        "audit": to_json(outcome.audit),
        "provenance": to_json(outcome.provenance),
        "started": datetime.fromtimestamp(outcome.started, UTC),
    }


def of_trial(trial: Trial) -> dict[str, Any]:
    """The columns that name a trial: its own id, that of its entry, that of its board."""
    return {"trial_id": trial.trial_id, "entry": trial.entry, "board": trial.board}


def of_identity(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an identity, from its parts as `normbench.plan.identity.Identity` has them.

    content: the data's fingerprint. source: a digest of code, protocol and versions; seeds that are averaged should
    share it.
    """
    parts = {k: v for k, v in parts.items() if k != "hash"}
    return {
        "identity": digest(parts)[:32],
        "identity_parts": to_json(parts),
        "content": parts.get("data"),
        "source": digest([parts.get(k) for k in ("code", "protocol", "versions")])[:12],
        "device_class": parts.get("device_class"),
        "precision": parts.get("precision"),
    }


def trial_of(row: dict[str, Any]) -> Trial:
    """The trial that a row was made from."""
    return Trial.model_validate_json(row["spec"])


def to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
