"""Stochastic normalization disturbance of layers on drawn inputs."""

from __future__ import annotations

from functools import cache

import numpy as np

from normbench.claims._layers import layer, normal
from normbench.measures.disturbance import disturbance
from normbench.studies._stats import Array

REPETITIONS = 6


@cache
def snd(method: str, channels: int, batch: int, seed: int) -> Array:
    """(REPETITIONS,): the disturbance of a layer, each time on inputs of its own, which methods share."""
    found = []
    for i in range(REPETITIONS):
        data = normal(seed, 4096, channels, stream=10 + i)
        found.append(disturbance(layer(method, channels), data, batch=batch, samples=12, examples=6, seed=i).snd)
    return np.array(found)
