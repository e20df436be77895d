"""The moving average of a network in training, by timm."""

from __future__ import annotations

import torch
from timm.utils import ModelEmaV3
from torch import nn

from normbench.norms.layers.weights import Spectral
from normbench.spec.trial import TrainSpec


class Average:
    """An exponential moving average of all weights and buffers of `model`, running statistics too.

    The decay of step t is the smaller of `decay` and 1 - t^(-2/3), so that a short training does not end with what the
    weights were at its start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._ema = ModelEmaV3(model, decay=decay, use_warmup=True)

    @property
    def network(self) -> nn.Module:
        """The averaged network, in eval mode."""
        network: nn.Module = self._ema.module
        return network

    @torch.no_grad()
    def settle(self) -> None:
        """Make whole what an average of its values is not: vectors of spectral norm have the length 1."""
        for module in self.network.modules():
            if isinstance(module, Spectral):
                for vector in (module.u, module.v):
                    length = vector.norm()
                    # Of one network alone it is 1 but for rounding, and stays bit for bit.
                    vector.div_(torch.where((length - 1).abs() > 1e-6, length.clamp_min(module.eps), 1.0))

    def update(self, model: nn.Module, step: int) -> None:
        """Take in `model` after optimizer step `step`, counted from 1; the first is taken as it is."""
        self._ema.update(model, step)
        self.settle()

    def put_into(self, model: nn.Module) -> None:
        """Give `model` the averaged weights and buffers."""
        with torch.no_grad():
            model.load_state_dict(self.network.state_dict())


def average_of(model: nn.Module, spec: TrainSpec) -> Average | None:
    """The average that `spec` asks for, at its start; None where it asks for none."""
    return None if spec.ema is None else Average(model, spec.ema)
