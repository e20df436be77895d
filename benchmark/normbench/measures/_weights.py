"""The weights that measures are about: matrices and kernels of a network, raw and effective."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

PREFIX = "network."


def raw_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """(layer, module, raw parameter) of every module whose `weight` has at least two dimensions; reads no
    reparametrized weight, so changes no state.
    """
    from torch.nn.utils import parametrize

    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            originals = module.parametrizations["weight"].parameters(recurse=False)
            yield (
                name.removeprefix(PREFIX),
                module,
                max(originals, key=lambda p: p.numel()),
            )  # a gain has one value a row, the direction has them all
        elif (weight := dict(module.named_parameters(recurse=False)).get("weight")) is not None and weight.ndim >= 2:
            yield name.removeprefix(PREFIX), module, weight


def effective_weight(module: nn.Module) -> torch.Tensor:
    """The tensor that a layer multiplies with. Call it in eval mode: in training each look at a spectrally normalized
    weight advances its power iteration.
    """
    weight: torch.Tensor = module.weight  # type: ignore[assignment]
    return weight


def layer_of(parameter: str) -> str:
    """The layer's name in that of a parameter: of `layer1.conv1.parametrizations.weight.original1` it is
    `layer1.conv1`.
    """
    wrapped, found, _ = parameter.partition(".parametrizations.")
    return (wrapped if found else parameter.rpartition(".")[0]).removeprefix(PREFIX)
