"""A stand-in for the capture of CUDA graphs that needs no GPU.

It records the operators of a step and does them again on the tensors that they ran on: no Python of the step runs, and
everything is read and written at the recorded addresses, as a graph does. Before each replay it also runs the step
itself, puts everything back, and raises `MovedError` where that step runs another operator, reads or writes at another
address, uses another number than was recorded, or leaves elsewhere what the next step reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any, TypeVar

import torch
from normbench.tensors.operations import Call, Operations
from normbench.tensors.snapshot import Snapshot
from torch import nn

T = TypeVar("T")


class MovedError(RuntimeError):
    """A replay would read or write elsewhere, or use other numbers, than the step does now."""


class WaitedError(RuntimeError):
    """The host would wait for the GPU inside the step, which ends a capture."""


class StandIn:
    """As `normbench.lab.engine.cuda_graph.CudaCapture`, for the step of `model` and `optimizer` on a CPU.

    replays: how many there were.
    """

    #: Fused updates take the rate from a tensor on a CPU too.
    updates: Mapping[type, dict[str, Any]] = {
        kind: {"fused": True} for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
    }

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        self._tape: list[Call] = []
        self.replays = 0

    def warm_up(self, step: Callable[[], object], times: int) -> None:
        for _ in range(times):
            step()

    def record(self, step: Callable[[], T]) -> T:
        self._step = step
        self._tape, found = _recorded(step)
        self._trace = _trace(self._tape)
        return found

    def replay(self) -> None:
        self._verify()
        self.replays += 1
        with torch.no_grad():
            for call in self._tape:
                if _is_view(call):
                    continue
                result = call.operator(*call.args, **call.kwargs)
                if not call.writes:
                    again = Call(call.operator, call.args, call.kwargs, result)
                    for kept, now in zip(call.given, again.given, strict=True):
                        kept.copy_(now)

    def _verify(self) -> None:
        before, names = Snapshot(self._model, self._optimizer), self._names()
        self._optimizer.zero_grad(set_to_none=True)
        try:
            now = _trace(_recorded(self._step)[0])
            if gone := sorted(names[a] for a in names.keys() - self._names().keys()):
                raise MovedError(f"the step leaves elsewhere what the next one reads: {', '.join(gone)}")
        finally:
            before.restore()
        for number, (then, here) in enumerate(zip_longest(self._trace, now, fillvalue="nothing")):
            if then != here:
                raise MovedError(
                    f"operator {number}: recorded was {_told(then, names)}, the step runs {_told(here, names)}"
                )

    def _names(self) -> dict[int, str]:
        tensors = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        names = {p: n for n, p in self._model.named_parameters()}
        for parameter, values in self._optimizer.state.items():
            tensors |= {f"{k} of {names[parameter]}": v for k, v in values.items() if isinstance(v, torch.Tensor)}
        return {_address(t): name for name, t in tensors.items()}


Seen = tuple[str, tuple[Any, ...]]


def _recorded(step: Callable[[], T]) -> tuple[list[Call], T]:
    tape: list[Call] = []

    def keep(call: Call) -> None:
        if call.waits:
            raise WaitedError(f"{call.operator} waits for the host")
        tape.append(call)

    with Operations(keep):
        found = step()
    return tape, found


def _trace(tape: list[Call]) -> list[Seen]:
    """Each operator with the addresses that were there before the step, and with the numbers that it was given."""
    made: set[int] = set()
    trace: list[Seen] = []
    for call in tape:
        before = [_address(t) for t in call.taken if t.numel()]
        trace.append((str(call.operator), (*(a for a in before if a not in made), *_numbers((call.args, call.kwargs)))))
        made |= {_address(t) for t in call.given} - set(before)
    return trace


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [n for k, v in sorted(value.items()) for n in (k, *_numbers(v))]
    if isinstance(value, list | tuple):
        return [n for v in value for n in _numbers(v)]
    if isinstance(value, float):
        return [repr(value)]  # NaN is itself here
    return [value] if isinstance(value, bool | int | str) else []


def _is_view(call: Call) -> bool:
    """Whether nothing is computed: the result is another view of an argument."""
    if torch.Tag.inplace_view in call.operator.tags:
        return True
    if call.writes or not call.given:
        return False
    taken = {_address(t) for t in call.taken}
    return all(_address(t) in taken for t in call.given)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _told(seen: Seen | str, names: dict[int, str]) -> str:
    if isinstance(seen, str):
        return seen
    return f"{seen[0]} on {[names.get(v, v) if isinstance(v, int) else v for v in seen[1]]}"
