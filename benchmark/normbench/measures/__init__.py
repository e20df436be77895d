"""Measures: `registry` finds them."""

from __future__ import annotations

from normbench.measures.base import Constraints, EndMeasure, Measure, NormLayer, Probe, Step, StepMeasure, Value
from normbench.spec.plugins import Registry
from normbench.spec.rooms import callable_room

__all__ = ["Constraints", "EndMeasure", "Measure", "NormLayer", "Probe", "Step", "StepMeasure", "Value", "registry"]

callable_room(__name__)

registry: Registry[Measure] = Registry("measure", "normbench.measures", Measure, "normbench.measures")  # type: ignore[type-abstract]
