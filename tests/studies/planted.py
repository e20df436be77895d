"""Rows of trials with a planted effect, or none: invented numbers of the shape that the store gives."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from normbench.norms import resolve
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from normbench.store.schema import of_identity, of_trial
from normbench.studies import registry
from normbench.studies.base import Evidence, Section

TOTAL = 10_000
#: Channels of the stages of a ResNet-18 at width 1.
STAGES = (64, 64, 128, 256, 512)


def row(
    norm: str,
    seed: int,
    clean: float | None,
    *,
    suite: str = "planted",
    dataset: str = "cifar10",
    model: str = "resnet18",
    width: float = 1.0,
    batch_size: int = 128,
    attacks: Mapping[tuple[str, str, float], float] = {},
    curves: Mapping[tuple[str, str], tuple[float, ...]] = {},
    validation: float | None = None,
    invariant: Iterable[str] = (),
    stage: str = "final",
    reason: str = "loss became non-finite in epoch 2",
    **train: Any,
) -> dict[str, Any]:
    """A row as `Store.rows` gives it; `clean` None: the trial diverged. `curves`: one value an epoch."""
    try:
        label, components = resolve(norm)
    except ValueError:
        from normbench.spec.trial import Component

        label, components = norm, (Component(name=norm),)
    trial = Trial(
        data=DataSpec(dataset=dataset),
        model=ModelSpec(name=model, width=width),
        norm=components,
        norm_label=label,
        batch_size=batch_size,
        seed=seed,
        train=TrainSpec(**train),
        stage=stage,
    )
    ok = clean is not None
    return {
        "suite": suite,
        **of_trial(trial),
        **of_identity({"data": dataset, "device_class": "cpu", "precision": "float32"}),
        "spec": json.dumps(trial.model_dump(mode="json"), sort_keys=True, separators=(",", ":")),
        "seed": seed,
        "stage": stage,
        "status": "ok" if ok else "diverged",
        "reason": "" if ok else reason,
        "epoch": 1,
        "started": datetime(2026, 1, 1, tzinfo=UTC),
        "test_total": TOTAL if ok else None,
        "clean_accuracy": clean,
        "validation_accuracy": validation,
        "attacks": [
            {"attack": a, "threat": t, "size": s, "accuracy": v, "total": TOTAL, "outcomes": b""}
            for (a, t, s), v in attacks.items()
        ]
        if ok
        else [],
        "curves": [
            {"step": 10 * i, "epoch": float(i), "measure": m, "layer": layer, "value": v}
            for (m, layer), values in curves.items()
            for i, v in enumerate(values)
        ]
        if ok
        else [],
        "audit": json.dumps(
            {
                "replaced": [{"channels": round(c * width)} for c in STAGES],
                "scale_invariant": [f"{n}.weight" for n in invariant],
                "parameters_before": 11_000_000,
                "parameters_after": 11_000_000,
            }
        ),
    }


Surface = Callable[[str, int, float, int], float]


def hump(peak: Callable[[int], float], height: float) -> Surface:
    """Accuracy that falls by `height` for each squared octave between a batch and the peak for this width."""
    return lambda norm, channels, width, batch: 0.9 - height * (math.log2(batch) - math.log2(peak(channels))) ** 2


def grid_rows(
    surface: Surface,
    norms: Iterable[str] = ("bn",),
    *,
    noise: float = 0.004,
    seeds: int = 3,
    draw: int = 0,
    batches: Iterable[int] = (8, 16, 32, 64, 128, 256),
    widths: Iterable[float] = (0.25, 0.5, 1.0, 2.0),
    lost: Iterable[tuple[str, float, int]] = (),
    **spec: Any,
) -> list[dict[str, Any]]:
    """Batch x width for each norm; cells of `lost` (norm, width, batch) diverged."""
    rng = np.random.default_rng(draw)
    gone = set(lost)
    rows = []
    for norm in norms:
        for width in widths:
            for batch in batches:
                for seed in range(seeds):
                    value = surface(norm, round(64 * width), width, batch) + noise * float(rng.normal())
                    rows.append(
                        row(
                            norm,
                            seed,
                            None if (norm, width, batch) in gone else value,
                            width=width,
                            batch_size=batch,
                            **spec,
                        )
                    )
    return rows


def sections(name: str, found: Evidence) -> list[Section]:
    """What the study of this name says of rows."""
    return list(registry.make(name).sections(found))
