"""What torch keeps to itself is still there and does what we need of it."""

from __future__ import annotations

import torch
from normbench.tensors.private import AnyBatchNorm, tensors_in, weight_norm, writes
from torch import nn
from torch.nn.utils import parametrizations
from torch.overrides import TorchFunctionMode


def test_one_class_is_behind_every_batch_norm() -> None:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    assert all(issubclass(kind, AnyBatchNorm) for kind in kinds)
    for kind in kinds[:3]:
        assert kind.forward is AnyBatchNorm.forward


def test_weight_normalization_calls_the_function_that_we_know() -> None:
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    layer = parametrizations.weight_norm(nn.Linear(2, 2))
    with Watch():
        layer(torch.ones(1, 2))
    assert seen.count(weight_norm) == 1


def test_writes_are_counted_through_views_and_when_they_change_nothing() -> None:
    x = torch.zeros(4)
    before = writes(x)
    x.view(2, 2).relu_()
    assert writes(x) == writes(x[:2]) > before
    after = writes(x)
    (x + 1).sum()
    assert writes(x) == after


def test_tensors_are_found_at_any_depth() -> None:
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert [len(t) for t in tensors_in(((a, [b, 1]), {"c": {"d": c}, "e": None}))] == [1, 2, 3]
