"""Means of simulations with an interval that other seeds hardly ever leave."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import stdtrit

from normbench.claims.base import Part

#: Two-sided confidence of intervals of simulations: they decide alone, many at once, and draws are cheap.
CONFIDENCE = 0.999


def mean(what: str, values: Any, *, at_most: float = math.inf, at_least: float = -math.inf) -> Part:
    """The mean of independent values (n,) with Student's t-interval."""
    drawn = np.asarray(values, float)
    n = len(drawn)
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * float(drawn.std(ddof=1)) / math.sqrt(n)
    middle = float(drawn.mean())
    return Part(what, middle, middle - half, middle + half, (at_least, at_most), n)
