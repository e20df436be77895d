"""How far each method's values spread between seeds, told from few seeds by what all methods of a board say together.

Values follow x[i, j] = mean[i] + seed[j] + e[i, j], with e[i, j] normal of variance s2[i]. Seeds are shared: the same
initialisation and order of data for all methods. Three seeds alone say next to nothing about one method's variance.
The variances of a board's methods are therefore taken as drawn from one scaled inverse chi-square distribution, whose
scale and degrees of freedom are not known either (Smyth 2004, "Linear models and empirical Bayes methods for assessing
differential expression", doi:10.2202/1544-6115.1027). Smyth estimates the two from moments; with three seeds that is
too bold where variances differ much, so they are integrated over a grid here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln

Array = npt.NDArray[np.float64]

#: Degrees of freedom that the prior of variances may have: from "they differ by orders" to "they are equal".
FREEDOMS = np.array([1, 1.5, 2, 3, 4, 6, 9, 14, 24, 50, np.inf])
#: Weight of each beforehand. It leans to variances that differ, since the other error is the worse one: chosen by
#: simulation (`perf/coverage.py`), so that no setting there errs on more than one board in twenty.
LEANING = 1 / (1 + FREEDOMS.clip(max=1e6) / 4)
#: Logarithm of the prior's scale around that of the mean variance.
_SCALES = np.linspace(-5, 9, 57)
#: A variance below this share of the largest is that of rounding.
_NOTHING = 1e-12
#: Degrees of freedom that pairing by seed must leave: those of two methods with three seeds in common.
_PAIRED = 2
#: Less own degrees of freedom than this say nothing of a method's variance.
_LEAST_FREEDOM = 0.25


@dataclass(frozen=True)
class TwoWay:
    """Values of methods (rows) taken apart into methods, seeds and what is left."""

    means: Array
    """(methods,): each method's mean, as it would be over all seeds. Where a method lacks some, what the other methods
    say of those seeds stands in.
    """
    counts: Array
    """(methods,): seeds that each method has."""
    squares: Array
    """(methods,): sum of squares of what is left."""
    freedoms: Array
    """(methods,): degrees of freedom of those sums; together (methods - 1)(seeds - 1) where none is missing."""
    extra: Array
    """(methods,): variance that a method's mean has from seeds that it lacks; 0 where it has all."""


def two_way(values: Array, weights: Array) -> TwoWay:
    """Weighted least squares.

    values: (methods, seeds), NaN where there is none, at least one a row. weights: (methods,), the inverse of each
    method's variance. Where seeds do not link the methods (two have none in common), seed effects are left in.
    """
    there = np.isfinite(values)
    counts = there.sum(axis=1).astype(float)
    seeds = values.shape[1]
    filled = np.where(there, values, 0.0)
    centred = np.where(there, filled - (filled.sum(axis=1) / counts)[:, None], 0.0)
    share = there / counts[:, None]
    # Normal equations of the seed effects, the methods' means eliminated.
    normal = np.diag(weights @ there) - (share * weights[:, None]).T @ there
    linked = np.linalg.matrix_rank(normal, tol=1e-10 * float(np.trace(normal)), hermitian=True) == seeds - 1
    left_over = float(counts.sum()) - (len(values) + seeds - 1)
    if len(values) > 1 and linked and left_over >= _PAIRED:
        inverse = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
    else:
        inverse = np.zeros((seeds, seeds))
    effects = inverse @ (weights @ centred)
    effects -= effects.mean()
    means = np.where(there, filled - effects, 0.0).sum(axis=1) / counts
    left = np.where(there, filled - effects - means[:, None], 0.0)
    # Trace of inverse restricted to a method's seeds and centred over them.
    inner = there @ np.diag(inverse) - ((share @ inverse) * there).sum(axis=1)
    lacking = share - 1 / seeds
    extra = ((lacking @ inverse) * lacking).sum(axis=1) if inverse.any() else np.zeros(len(values))
    freedoms = np.maximum(counts - 1 - weights * inner, 0.0)
    return TwoWay(means, counts, (left**2).sum(axis=1), freedoms, np.maximum(extra, 0.0))


@dataclass(frozen=True)
class Variances:
    """What is believed of each method's variance: a mixture of scaled inverse chi-square distributions."""

    likely: Array
    """(methods,): the geometric mean of what it may be."""
    _own: Array
    _freedoms: Array
    _scales: Array
    _weights: Array
    """(prior freedoms, prior scales): how likely each pair is."""

    def draw(self, count: int, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """(count, methods): variances as they may be. What a draw costs is most of a ranking's time, hence float32."""
        # Evenly spaced over the mixture, which is less noisy than drawing its parts at random.
        spaced = (np.arange(count) + 0.5) / count
        place = np.minimum(np.searchsorted(np.cumsum(self._weights), spaced), self._weights.size - 1)
        prior, scale = np.unravel_index(place, self._weights.shape)
        freedom, scales = FREEDOMS[prior][:, None], self._scales[scale][:, None]
        equal = np.isinf(freedom)
        freedom = np.where(equal, 0.0, freedom)
        total = np.where(equal, 1.0, freedom + self._freedoms).astype(np.float32)
        squares = freedom * scales + self._freedoms * self._own
        drawn = squares.astype(np.float32) / (2 * generator.standard_gamma(total / 2, dtype=np.float32))
        return np.where(equal, scales, drawn).astype(np.float32)


def variances(squares: Array, freedoms: Array, floor: float = 0.0, *, equal: bool = False) -> Variances | None:
    """Variances of all methods from their sums of squares and degrees of freedom, both (methods,).

    floor: the least that a variance is taken for, from the resolution of the values. equal: they are known to be equal.
    None where nothing varies.
    """
    known = freedoms > _LEAST_FREEDOM
    own = np.where(known, squares / np.where(known, freedoms, 1.0), 0.0)
    own = np.where(known, np.maximum(own, floor), 0.0)
    # What does not vary at all, as what failed to train does not, says nothing of the others' variances.
    telling = known & (own > max(floor, _NOTHING * float(own.max(initial=0.0))))
    if not telling.any():
        if floor <= 0 or not known.any():
            return None
        telling = known
    centre = float(np.average(own[telling], weights=freedoms[telling]))
    scales = centre * np.exp(_SCALES)
    weights = _weights(own[telling], freedoms[telling], scales, equal=equal)
    prior = np.where(np.isinf(FREEDOMS), 1e9, FREEDOMS)[None, :, None]
    own_freedoms = np.where(known, freedoms, 0.0)
    both = (prior * scales + (own_freedoms * own)[:, None, None]) / (prior + own_freedoms[:, None, None])
    return Variances(np.exp((np.log(both) * weights).sum(axis=(1, 2))), own, own_freedoms, scales, weights)


def _weights(own: Array, freedoms: Array, scales: Array, *, equal: bool) -> Array:
    """(FREEDOMS, scales): posterior weights of the prior's two numbers. own / scale follows F(freedoms, prior)."""
    d = freedoms[:, None]
    ratio = own[:, None] / scales
    log = np.log(ratio)
    found = np.full((len(FREEDOMS), len(scales)), -np.inf)
    for row, prior in enumerate(FREEDOMS):
        if np.isinf(prior):
            density = d / 2 * (log - ratio + np.log(d / 2)) - gammaln(d / 2)
        elif equal:
            continue
        else:
            density = d / 2 * (log + np.log(d / prior)) - (d + prior) / 2 * np.log1p(d * ratio / prior)
            density = density - betaln(d / 2, prior / 2)
        found[row] = density.sum(axis=0) + np.log(LEANING[row])
    weights: Array = np.exp(found - found.max())
    weights /= weights.sum()
    return weights
