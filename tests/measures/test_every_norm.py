"""Measures that know the normalization layers say something finite about every method."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from normbench import norms
from normbench.lab.observer import Observer
from normbench.measures import registry
from normbench.spec.trial import TrainSpec

from tests.matrix import sample
from tests.measures._probes import probe_of

MEASURES = ("conditioning", "constraints", "disturbance", "pruning", "shift", "wasserstein")
TRANSFORMER: dict[str, Any] = {
    "model": "vit_tiny_patch16_224",
    "patch_size": 4,
    "depth": 2,
    "embed_dim": 24,
    "num_heads": 2,
}


CASES = [*((n, {}) for n in norms.registry.names()), *((n, TRANSFORMER) for n in ("bn", "ln-tok", "bw-zca", "sn"))]


@pytest.mark.parametrize(
    ("norm", "network"),
    sample(CASES, [*((n, {}) for n in ("bn", "gn", "ws", "bw-pca", "none", "noise")), ("ln-tok", TRANSFORMER)]),
)
def test_values_are_finite(norm: str, network: dict[str, Any]) -> None:
    probe = probe_of(f"bn+{norm}" if issubclass(norms.registry.get(norm), norms.NormModifier) else norm, **network)
    before = {k: v.clone() for k, v in probe.model.state_dict().items()}
    for name in MEASURES:
        if name == "pruning" and norm == "fixup":  # there is no gamma that channels could be told apart by
            continue
        readings = Observer([registry.make(name)], probe, TrainSpec(epochs=1)).look(0, 1)
        assert readings, name
        assert all(r.measure.startswith(f"{name}.") for r in readings)
        assert [r for r in readings if r.value is None or not math.isfinite(r.value)] == []
    assert all(torch.equal(v, before[k]) for k, v in probe.model.state_dict().items())
