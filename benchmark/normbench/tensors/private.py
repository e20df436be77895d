"""The private parts of torch that this package needs, with the reason. Those of its compiler are in
`normbench.lab.engine.compiling`.

`tests/tensors/test_private.py` fails where one of these changes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves as _tree_leaves

#: Batch normalization for any number of axes: the public classes differ in nothing but the number that they accept.
AnyBatchNorm = _BatchNorm

#: The fused kernel that `torch.nn.utils.parametrizations.weight_norm` calls; a `TorchFunctionMode` looks for it.
weight_norm = torch._weight_norm


def writes(tensor: torch.Tensor) -> int:
    """How often `tensor`, or another view of its memory, was written to. Comparing values would not show a write that
    changes none, such as ReLU on positive values.
    """
    return tensor._version


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors anywhere in nested tuples, lists and mappings: arguments and outputs of torch's functions."""
    return [leaf for leaf in _tree_leaves(value) if isinstance(leaf, torch.Tensor)]
