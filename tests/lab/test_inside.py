"""Normalization inside forwards is listed as kept, and nothing else is."""

from __future__ import annotations

import pytest
import torch
from normbench.lab.network.inside import watching
from normbench.lab.network.invariance import audited
from normbench.lab.network.swap import swap
from normbench.norms import resolve
from timm.layers import ScaledStdConv2d, StdConv2d
from torch import nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d


class CosineAttention(nn.Module):
    """As in Swin V2 and XCiT."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = functional.normalize(x.flatten(2), dim=-1)
        return x + (flat @ flat.mT @ x.flatten(2)).view(x.shape)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3)))


def network(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), *parts, Head())


CASES = {
    "attention": (CosineAttention(), "CosineAttention", "vectors of length 1"),
    "standardized weight": (StdConv2d(8, 8, 3, padding=1), "StdConv2d", "weight standardization"),
    "scaled standardized weight": (ScaledStdConv2d(8, 8, 3, padding=1), "ScaledStdConv2d", "weight standardization"),
    "frozen batch norm": (FrozenBatchNorm2d(8), "FrozenBatchNorm2d", "frozen statistics"),
}


@pytest.mark.parametrize(("part", "layer", "what"), CASES.values(), ids=CASES)
def test_what_normalizes_inside_a_forward_is_kept_with_what_it_is(part: nn.Module, layer: str, what: str) -> None:
    model = network(part)
    _, components = resolve("gn")
    done = audited(model, swap(model, components, torch.zeros(2, 3, 8, 8)), 3, 8)
    (kept,) = done.kept
    assert (kept.name, kept.layer) == ("2", layer)
    assert what in kept.reason
    assert len(done.replaced) == 1


@pytest.mark.parametrize("norm", ["bn", "gn", "ln-tok", "sn+bn", "wn", "ws+gn", "bcn"])
def test_what_a_swap_put_there_is_not_listed(norm: str) -> None:
    model = network(nn.ReLU())
    _, components = resolve(norm)
    done = audited(model, swap(model, components, torch.zeros(2, 3, 8, 8)), 3, 8)
    assert all("inside its forward" not in k.reason for k in done.kept)


def test_no_hook_is_left_and_outputs_stay() -> None:
    model = network(CosineAttention()).eval()
    x = torch.randn(2, 3, 8, 8)
    before = model(x)
    with watching(model) as seen:
        during = model(x)
    assert [k.name for k in seen] == ["2"]
    assert torch.equal(before, during)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(RuntimeError), watching(model):
        model(torch.zeros(2, 5, 8, 8))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
