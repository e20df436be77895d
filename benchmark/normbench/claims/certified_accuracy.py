"""Certified accuracy from a network's Lipschitz constant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normbench.claims.base import Computed, Part, exact


class CertifiedAccuracy(Computed):
    name = "certified-accuracy"
    summary = "Normalizing weights bounds a network's Lipschitz constant, which certifies accuracy against attacks"
    source = "huang"
    theme = "robustness"
    place = "Slide: challenges and opportunities (Tsuzuku et al. 2018)"
    test = "trained"
    scope = (
        "MLPs of 64 units, both weights of spectral norm 1, 200 held-out digits (8x8), L2 in units of standardized "
        "inputs, 40 steps of descent of the margin, 4 seeds, float64"
    )

    def about(self) -> Any:
        """Factor on the certified radii."""
        return 1.0

    def turned(self) -> Any:
        """Radii that nothing certifies."""
        return 20.0

    def measure(self, about: Any, seed: int) -> Iterable[Part]:
        import torch

        from normbench.claims._certified import certified

        found = certified(seed)
        radii = about * found.radii()
        stood = found.withstands(radii)
        right = found.margins() > 0
        broken = (right & ~stood).double().sum() / right.double().sum()
        yield exact(
            "share of right images that an attack turns within their certified radius", float(broken), at_most=0.0
        )
        half = torch.full_like(radii, 0.5)
        safe, attacked = (t.double().mean() for t in (radii >= half, found.withstands(half)))
        yield exact(
            "certified accuracy at a radius of 0.5 less accuracy under attack there",
            float(safe - attacked),
            at_most=0.0,
        )
