"""Normalization in networks of anybody's: `normbench.swap` and `normbench.layer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normbench.api._words import in_python
from normbench.errors import BenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normbench.lab.network.swap import Audit


class NetworkError(BenchError, ValueError):
    """A network cannot be changed or attacked as asked, or a layer cannot be built; the message names the place."""


@in_python()
def swap(model: nn.Module, norm: str, example: torch.Tensor) -> Audit:
    """Replace every normalization layer of a network, in place, and say what was done.

    model: any `nn.Module`, of torchvision, timm or your own; layers of torch and timm are known, by their class or one
    that they inherit from. norm: a method as a suite writes it, such as `"gn[groups=8]"`, `"ws+gn"`, `"none"`;
    `normbench.norms()` lists them. example: input as the network takes it, on its device, for images
    `(N, C, H, W)`. It runs through the network once, in eval mode, to show which weights feed which norms.

    New layers take over affine values, eps and momentum (unless the method sets them), mode, device and dtype. Weight
    methods (`ws`, `wn`, ...) are registered on the convolutions and linear layers that feed a norm directly.

    Returns what was replaced, which weights were reparametrized, and what was left alone and why. Printed, it is a
    summary. Raises `BenchError`: the network then is as it was.
    """
    import torch
    from torch import nn

    from normbench.lab.network.swap import swap as exchange
    from normbench.norms import resolve

    if not isinstance(model, nn.Module):
        raise NetworkError(f"swap: expected an nn.Module as the network, found {type(model).__name__}")
    if not isinstance(norm, str):
        raise NetworkError(f'swap: expected a method as text, such as "gn[groups=8]", found {type(norm).__name__}')
    if not isinstance(example, torch.Tensor) or not example.ndim or not len(example):
        found = f"one of shape {tuple(example.shape)}" if isinstance(example, torch.Tensor) else type(example).__name__
        raise NetworkError(
            "swap: expected a tensor as the example, input as the network takes it, such as "
            f"torch.zeros(2, 3, 32, 32); found {found}"
        )
    _, components = resolve(norm)
    try:
        return exchange(model, components, example)
    except ValueError as error:  # SwapError, FlowError, NormSiteError: each names the place
        raise NetworkError(str(error)) from error


@in_python()
def layer(norm: str, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> nn.Module:
    """One normalization layer. It maps `(N, C, *)` to the same shape, C = `channels` on axis 1.

    norm: an activation method as a suite writes it, with a modifier if wanted: `"gn[groups=8]"`, `"bn+noise"`. eps:
    added to the variance. momentum: weight of a new batch in running statistics (torch's convention). Where `affine`,
    the layer has `weight` and `bias` of shape `(C,)`, at 1 and 0.

    Raises `BenchError` for methods that are not one layer (weight methods), and where one cannot be built for so many
    channels.
    """
    from normbench.norms import Site, resolve, split

    if not isinstance(norm, str):
        raise NetworkError(f'layer: expected a method as text, such as "gn[groups=8]", found {type(norm).__name__}')
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise NetworkError(f"layer: expected a number of channels, 1 or more, found {channels!r}")
    methods = split(resolve(norm)[1])
    if methods.weight is not None:
        raise NetworkError(
            f"{norm}: {methods.weight.name} changes the weights of convolutions and linear layers and is no layer of "
            f"its own; normbench.swap(model, {norm!r}, example) applies it to a network"
        )
    try:
        built = methods.activation.layer(
            Site(name="layer", channels=channels, eps=eps, momentum=momentum, affine=affine)
        )
    except ValueError as error:
        raise NetworkError(str(error)) from error
    return methods.modifier.modify(built) if methods.modifier else built
