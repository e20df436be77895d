"""Is a method possible at every place of a network? Found from shapes, without training anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from normbench.lab.network import ModelError, Request, construct
from normbench.lab.network.branches import without_branches
from normbench.lab.network.flow import Flow, FlowError, trace
from normbench.lab.network.swap import SwapError, axis_of, kind, site_of
from normbench.norms import NormSiteError, split
from normbench.spec.trial import Component

#: A norm as plain values, and the batch that it is trained with.
Asked = Mapping[str, Any]


def answer(asked: Sequence[Mapping[str, Any]], report: Callable[[Any], None]) -> None:
    """Report `(number, problem)` of each pair of a network and a method, the problem empty where there is none. Pairs
    of one network stand together in `asked`: `network` are fields of a `Request`, `norm` components, `batch` examples.
    Nothing is reported of a pair that breaks otherwise: that may be the machine's doing.
    """
    torch.set_num_threads(1)
    network, found = None, None
    for number, pair in enumerate(asked):
        if pair["network"] != network:
            network, found = pair["network"], _traced(Request(**pair["network"]))
        if isinstance(found, str):
            report((number, found))
        elif found is not None:
            with suppress(Exception):  # what else a method of others raises says nothing of the next one
                report((number, problem(*found, [Component(**c) for c in pair["norm"]], pair["batch"])))


def _traced(request: Request) -> tuple[nn.Module, Flow] | str:
    """The network and what flows where, or why there is none. Without memory for its weights where that works: some
    networks ask for values while they are built or run.
    """
    told = ""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                network = construct(request)
                norms = {name: axis_of(module) for name, module in network.named_modules() if kind(module)}
                return network, trace(
                    network, norms, torch.zeros(2, request.channels, request.image_size, request.image_size)
                )
        except (ModelError, FlowError) as error:
            told = str(error)
    return told


def _map(positions: int, module: nn.Module) -> tuple[int, ...]:
    """A map of so many positions, of as many dimensions as the layer that is replaced takes."""
    if isinstance(module, nn.BatchNorm1d | nn.InstanceNorm1d):
        return (positions,)
    side = math.isqrt(positions)
    return (side, side) if side * side == positions else (positions, 1)


def problem(network: nn.Module, flow: Flow, norm: Iterable[Component], batch: int) -> str:
    """Why a method cannot be trained in a network on batches of so many examples; empty where nothing is known to be in
    its way. Each layer is built for its place and takes a batch of zeros in training.
    """
    weight, activation, modifier = split(tuple(norm))
    sites = {name: module for name, module in network.named_modules() if kind(module)}
    if not sites and (weight is None or weight.where == "fed"):
        return f"{type(network).__name__}: there is no normalization layer to replace"
    if missing := without_branches(network, flow, activation, modifier):
        return missing
    seen = set()
    for name, module in sites.items():
        try:
            site, _ = site_of(name, module, network, activation, flow)
            shape = (site.channels, site.positions, site.affine, site.activated, site.ends_branch)
            if shape not in seen:
                layer = activation.layer(site).train()
                if site.positions:
                    layer(torch.zeros(min(batch, 2), site.channels, *_map(site.positions, module)))
            seen.add(shape)
        except (NormSiteError, SwapError) as error:
            return str(error)
        except ValueError as error:  # torch's own layers tell so of one value a channel
            return f"{name}: {error}"
    return ""
