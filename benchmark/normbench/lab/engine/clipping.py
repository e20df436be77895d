"""Clipping of gradients, between the backward pass and the update. Nothing here waits for the device, so that it may be
part of a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from timm.utils import adaptive_clip_grad
from torch import nn

from normbench.spec.trial import TrainSpec
from normbench.tensors.layers import WEIGHTED


def clipping(model: nn.Module, spec: TrainSpec) -> Callable[[], object]:
    """What clips the gradients of `model` as `spec` says: each unit's by the norm of its weights (`agc`, by timm), or
    all of them together (`clip_grad`).

    Source of `agc`: Brock et al., High-Performance Large-Scale Image Recognition Without Normalization, ICML 2021,
    section 4.1. As there, the classifier is left alone.
    """
    if spec.agc is not None:
        left_out = {id(p) for p in last_layer(model).parameters()}
        clipped = [p for p in model.parameters() if id(p) not in left_out]
        return partial(adaptive_clip_grad, clipped, clip_factor=spec.agc)
    if (most := spec.clip_grad) is not None:
        return lambda: nn.utils.clip_grad_norm_(model.parameters(), most)
    return lambda: None


def last_layer(model: nn.Module) -> nn.Module:
    """The classifier: of the layers with weights, the one that is defined last; a network without any is no network."""
    return [module for module in model.modules() if isinstance(module, WEIGHTED)][-1]
