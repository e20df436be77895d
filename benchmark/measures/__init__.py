"""Measures: `registry` finds them."""

from __future__ import annotations

from benchmark.measures.base import Measure, Probe, Value
from benchmark.plugins import Registry

__all__ = ["Measure", "Probe", "Value", "registry"]

registry: Registry[Measure] = Registry("measure", "benchmark.measures", Measure, "normbench.measures")  # type: ignore[type-abstract]
