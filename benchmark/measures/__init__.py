"""Measures: `registry` finds them."""

from __future__ import annotations

from benchmark.measures.base import Constraints, EndMeasure, Measure, NormLayer, Probe, Step, StepMeasure, Value
from benchmark.plugins import Registry

__all__ = ["Constraints", "EndMeasure", "Measure", "NormLayer", "Probe", "Step", "StepMeasure", "Value", "registry"]

registry: Registry[Measure] = Registry("measure", "benchmark.measures", Measure, "normbench.measures")  # type: ignore[type-abstract]
