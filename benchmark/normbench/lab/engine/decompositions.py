"""What whitening layers decompose, decomposed once a step, and on a GPU without asking the host.

The gradient of a whitening matrix needs the eigenvalues and eigenvectors of the covariance that the forward pass has
computed already. Layers save the covariance alone and decompose it again. So a step runs inside `Decomposed`, which
answers the second time with what it found the first time: the same bits, for half the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from normbench.norms.layers.whitening import BatchWhitening, GroupWhitening
from normbench.tensors.private import writes


def decomposes(model: nn.Module) -> bool:
    """Whether a layer of `model` decomposes matrices."""
    return any(
        isinstance(module, GroupWhitening) or (isinstance(module, BatchWhitening) and module.method != "newton")
        for module in model.modules()
    )


class Decomposed(TorchFunctionMode):
    """Inside, `torch.linalg.eigh` of a tensor that nobody has written to since is computed once.

    unchecked: `torch.linalg.cholesky` does not ask whether the matrix was positive definite, for which the host would
    wait. Where it was not, the factor is NaN, and training ends as diverged; `torch.linalg.cholesky` would raise.
    """

    def __init__(self, *, unchecked: bool) -> None:
        super().__init__()
        self._unchecked = unchecked
        self._known: dict[tuple[int, int, torch.Size], tuple[torch.Tensor, Any]] = {}
        """The matrices are held, so that no address is used twice."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.linalg.eigh and len(args) == 1 and not kwargs:
            matrix: torch.Tensor = args[0]
            key = (matrix.data_ptr(), writes(matrix), matrix.shape)
            if key not in self._known:
                self._known[key] = (matrix, func(matrix))
            return self._known[key][1]
        if func is torch.linalg.cholesky and self._unchecked:
            factor, info = torch.linalg.cholesky_ex(*args, **(kwargs or {}))
            return torch.where((info == 0)[..., None, None], factor, torch.nan)
        return func(*args, **(kwargs or {}))
