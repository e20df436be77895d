"""The operators that torch runs inside a block, one by one: forwards, backwards and in updates.

`torch.utils._python_dispatch` has an underscore in its name, but torch's documentation teaches `TorchDispatchMode`, and
nothing else shows what a backward pass and an optimizer run. All use of it is here;
`tests/tensors/test_operations.py` fails where it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from normbench.tensors.private import tensors_in

#: Operators that make the host wait on a GPU, beyond those that torch's tags tell: some decompositions ask whether they
#: have converged, and `_linalg_check_errors` asks for those that do not ask themselves (Cholesky factors, inverses).
#: A CUDA graph can hold none of them.
WAITING = frozenset(["_linalg_eigh", "linalg_eig", "_linalg_svd", "_linalg_check_errors", "linalg_lstsq", "is_nonzero"])
_WAITING_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.cudagraph_unsafe}
#: Their tag says that they may wait; they do where an index is a mask, whose set places are counted first.
_INDEXED = frozenset(["index", "index_put", "index_put_"])
_COPIES = frozenset(["_to_copy", "copy_"])


@dataclass(frozen=True)
class Call:
    """An operator that was run."""

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """Without namespace and overload: `add_`, `convolution`."""
        return str(self.operator.overloadpacket.__name__)

    @property
    def writes(self) -> bool:
        """Whether it writes into one of its arguments."""
        return bool(self.operator._schema.is_mutable)

    @property
    def taken(self) -> list[torch.Tensor]:
        return tensors_in((self.args, self.kwargs))

    @property
    def given(self) -> list[torch.Tensor]:
        return tensors_in(self.result)

    @property
    def waits(self) -> bool:
        """Whether the host has to wait for a GPU to run it."""
        if self.name in _INDEXED:
            return any(t.dtype in (torch.bool, torch.uint8) for t in self.taken[1:])
        if self.name in WAITING or not _WAITING_TAGS.isdisjoint(self.operator.tags):
            return True
        return self.name in _COPIES and len({t.device.type for t in (*self.taken, *self.given)}) > 1


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, `meet` is called with each operator after it was run; it may raise."""

    def __init__(self, meet: Callable[[Call], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._meet = meet

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call = Call(func, args, kwargs or {}, func(*args, **(kwargs or {})))
        self._meet(call)
        return call.result


def waiting(run: Callable[[], object]) -> list[str]:
    """Call `run`. Returns the operators for which the host would wait on a GPU, each once, in their order."""
    found: dict[str, None] = {}

    def note(call: Call) -> None:
        if call.waits:
            found[call.name] = None

    with Operations(note):
        run()
    return list(found)
