"""What a method costs, as plain values: times and memory of its layer and of a network with it, beside batch norm."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from normbench.spec.trial import Value

#: What costs are told against.
REFERENCE = "bn"

Seconds = Annotated[float, Field(gt=0, le=1e9)]


class Timing(Value):
    """One thing that was timed, in turns with the same of `bn`."""

    what: Literal["layer", "network"]
    shape: str
    """Of the input: `64x32x32x32`."""
    step: Literal["forward", "backward", "inference", "training"]
    """`forward`: in training mode. `training`: a whole step of the network, with the optimizer's."""
    seconds: Seconds
    """Median over the rounds; on a CPU, of its time."""
    reference: Seconds
    """The same of `bn`."""
    ratio: Seconds
    """Median over the rounds of the method's time over that of `bn` in the same round."""
    low: Seconds
    high: Seconds
    """Ends of a 95 % interval of that median."""


class Kept(Value):
    """Memory that a forward pass in training keeps for the backward pass, parameters not counted."""

    what: Literal["layer", "network"]
    shape: str
    bytes: Annotated[int, Field(ge=0, le=2**62)]
    reference: Annotated[int, Field(ge=0, le=2**62)]


class Cost(Value):
    """One method on one machine."""

    method: str
    """As a suite writes it."""
    family: str
    code: str
    """Digest of the sources and of the version of torch that decide the numbers."""
    rounds: int
    timings: tuple[Timing, ...] = ()
    kept: tuple[Kept, ...] = ()
    failed: dict[str, str] = {}  # noqa: RUF012
    """Why there is nothing of a shape, by what and shape."""
    load: float | None = None
    """Processes that wanted a processor when it began, this one included; None where the system does not tell."""


class Costs(Value):
    """All methods that were measured on one machine, by name."""

    format: Literal[1] = 1
    machine: dict[str, Any]
    methods: dict[str, Cost] = {}  # noqa: RUF012

    @property
    def device(self) -> str:
        """The name of the GPU or CPU."""
        found = self.machine.get("device")
        return str(self.machine.get("cpu", "CPU") if found in {None, "cpu"} else found)
