"""Small networks under two methods, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from normbench.claims._small import Training, train
from normbench.studies._stats import Array

#: Learning rates that are tried, each method taking its best.
RATES = (0.1, 0.3, 1.0)


def best(of: Training, *methods: str) -> list[Array]:
    """(seeds,) of each method: accuracy at the best of the rates."""
    return [train(replace(of, norm=m)).best for m in methods]


def highest_rate(of: Training, method: str, least: float) -> Array:
    """(seeds,): log2 of the largest rate at which a network reaches an accuracy of `least`; of the smallest rate where
    none does.
    """
    accuracy = train(replace(of, norm=method)).accuracy
    logs = np.log2(np.array(of.rates))
    reached = np.where(accuracy >= least, logs[:, None], logs.min())
    found: Array = reached.max(axis=0)
    return found


def reached(of: Training, methods: Sequence[str], scales: Sequence[float]) -> list[Array]:
    """(seeds,) of each method: accuracy at its best rate where the scale of the initial weights suits it least."""
    return [np.min([train(replace(of, norm=m, scale=s)).best for s in scales], axis=0) for m in methods]
