"""Replaces the normalization of a built network, module by module, and says what was done.

The class of a layer decides which axis holds the channels. Activations and drops that timm fuses into a norm stay. The
affine values stay, so residual branches that start at gamma = 0 still do. eps and momentum stay unless the method sets
them. Weight methods are registered on the convolutions and linear layers whose output goes directly into a norm; an
example that runs through the network once shows which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from normbench.lab.network.branches import rebuild, without_branches
from normbench.lab.network.flow import Flow, trace
from normbench.norms import ActivationNorm, NormModifier, Site, WeightNorm, split
from normbench.norms._branches import BranchModifier, WholeNetwork, needs_branches
from normbench.spec.trial import Component, Value
from normbench.tensors.layers import WEIGHTED

#: Classes of torch and timm by the axis that holds the channels. A layer is known by the name of its class, or of a
#: class that it inherits from.
CHANNELS_FIRST = frozenset(
    [
        *("_BatchNorm", "FrozenBatchNormAct2d", "GroupNorm", "InplaceAbn", "_InstanceNorm"),
        *("LayerNorm2d", "LayerNorm2dFp32", "LayerNormExp2d", "LayerNormAct2d", "LayerNormAct2dFp32"),
        *("RmsNorm2d", "RmsNorm2dFp32", "RmsNormAct2d", "RmsNormAct2dFp32", "SimpleNorm2d", "SimpleNorm2dFp32"),
        *("FilterResponseNormAct2d", "FilterResponseNormTlu2d"),
        *(
            "EvoNorm2dB0",
            "EvoNorm2dB1",
            "EvoNorm2dB2",
            "EvoNorm2dS0",
            "EvoNorm2dS0a",
            "EvoNorm2dS1",
            "EvoNorm2dS1a",
            "EvoNorm2dS2",
            "EvoNorm2dS2a",
        ),
    ]
)
CHANNELS_LAST = frozenset(
    [
        "LayerNorm",
        "LayerNormFp32",
        "LayerNormAct",
        "LayerNormActFp32",
        "RMSNorm",
        "RmsNorm",
        "RmsNormFp32",
        "RmsNormAct",
        "SimpleNorm",
        "SimpleNormFp32",
    ]
)

#: Norms that are an activation too, and the activation that takes over: max(y, tau) starts as ReLU, x sigmoid(v x)
#: starts as SiLU.
BUILT_IN_ACTIVATION: dict[str, type[nn.Module]] = {"FilterResponseNormTlu2d": nn.ReLU, "EvoNorm2d": nn.SiLU}

#: Modules with "norm" or "affine" in their name that stay, with the reason.
NOT_NORMS = {
    "GlobalResponseNorm": "competition between channels, not a normalization layer",
    "Affine": "no statistics",
    "LearnableAffineBlock": "no statistics",
}


class SwapError(ValueError):
    """A swap would replace nothing, or a method is impossible at a place."""


class Replaced(Value):
    """A norm that was replaced."""

    name: str
    before: str
    """Class of the layer that stood there."""
    after: str
    channels: int
    axis: int
    """Of the channels: 1 or -1."""
    positions: int
    """Values of a channel of an example at this image size (H*W or tokens); 0: the example does not reach it."""
    eps: float | None
    """Of the new layer; None where it has none."""
    momentum: float | None
    eps_before: float | None
    momentum_before: float | None
    activation: str
    """Class of the activation that is fused into the layer; empty where none is."""
    absorbed: str
    """Class of the activation whose place the method's own activation took; empty where it took none."""
    ends_branch: bool
    """The last norm of a residual branch."""


class Wrapped(Value):
    """A weight that was reparametrized."""

    name: str
    layer: str
    shape: tuple[int, ...]
    feeds: str
    """The norm that takes the output directly; empty where none does."""


class LeftAlone(Value):
    """What was left alone, and why."""

    name: str
    layer: str
    reason: str


class Audit(Value):
    """What a swap did."""

    replaced: tuple[Replaced, ...]
    wrapped: tuple[Wrapped, ...]
    kept: tuple[LeftAlone, ...]
    parameters_before: int
    parameters_after: int
    scale_invariant: tuple[str, ...] | None = None
    """Parameters w, convolutions and linear layers, with |cos(w, gradient)| < 1e-4 as measured at the start; None: not
    measured.
    """
    weights: int = 0
    """How many such parameters there are."""

    def __repr__(self) -> str:
        """A summary: what was left alone stands in it line by line."""
        return "\n".join([self.in_short, *(f"kept {k.name} ({k.layer}): {k.reason}" for k in self.kept)])

    __str__ = __repr__

    @property
    def in_short(self) -> str:
        """One line."""
        parts = [
            f"{len(self.replaced)} norms replaced, {len(self.wrapped)} weights reparametrized, "
            f"{len(self.kept)} left alone",
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,}",
        ]
        if self.scale_invariant is not None:
            parts.append(
                f"{len(self.scale_invariant)} of {self.weights} weight tensors are scale-invariant (measured: "
                "|cos(w, gradient)| < 1e-4)"
            )
        return "; ".join(parts)


class ChannelsLast(nn.Module):
    """Applies a layer for `(N, C, *)` to `(N, *, C)`."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x.movedim(-1, 1)).movedim(1, -1)
        return y


class NormAct(nn.Module):
    """A norm with the drop and the activation that were fused into the one it replaces."""

    def __init__(self, norm: nn.Module, drop: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.drop = drop
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act(self.drop(self.norm(x)))
        return y


def kind(module: nn.Module) -> str | None:
    """The class name by which `module` is known as a norm, or None where it is none."""
    return next(
        (c.__name__ for c in type(module).__mro__ if c.__name__ in CHANNELS_FIRST or c.__name__ in CHANNELS_LAST), None
    )


def swap(model: nn.Module, norm: Sequence[Component], example: torch.Tensor) -> Audit:
    """Replace every norm of `model` in place by the activation method of `norm`, which its modifier changes, and
    reparametrize weights by its weight method.

    `example`: images `(N, C, H, W)` as the network takes them. They run through it once, in eval mode, to show what
    feeds what. Raises `SwapError` where nothing would be replaced, `FlowError` where the network cannot run the
    example, `NormSiteError` where a method is impossible at a place.
    """
    weight, activation, modifier = split(tuple(norm))
    before = sum(p.numel() for p in model.parameters())
    sites = {name: module for name, module in model.named_modules() if kind(module)}
    if "" in sites:
        raise SwapError(
            f"the network is itself one {type(model).__name__}: there is none around it to put another into"
        )
    if not sites and weight is None:
        raise SwapError(f"{type(model).__name__}: there is no normalization layer to replace")
    flow = trace(model, {name: axis_of(module) for name, module in sites.items()}, example)
    named = [(name, type(module).__name__) for name, module in model.named_modules()]
    others = tuple(
        LeftAlone(name=name, layer=layer, reason=NOT_NORMS[layer]) for name, layer in named if layer in NOT_NORMS
    )
    if sites and (problem := without_branches(model, flow, activation, modifier)):
        raise SwapError(problem)
    new: dict[int, nn.Module] = {}
    replaced = [
        _replace(name, old, model=model, activation=activation, modifier=modifier, flow=flow, new=new)
        for name, old in sites.items()
    ]
    # From here on the network changes. Whatever may be impossible at a place has been built.
    if isinstance(activation, WholeNetwork):
        rebuild(model, activation, flow)
    wrapped, kept = _wrap(model, weight, flow) if weight else ((), ())
    if not sites and not wrapped:
        raise SwapError(
            f"{type(model).__name__}: no weight feeds a normalization layer, and there is none to replace; "
            "where=all would wrap every weight"
        )
    _put(model, new)
    return Audit(
        replaced=tuple(replaced),
        wrapped=wrapped,
        kept=kept + others,
        parameters_before=before,
        parameters_after=sum(p.numel() for p in model.parameters()),
    )


def _replace(
    name: str,
    old: nn.Module,
    *,
    model: nn.Module,
    activation: ActivationNorm,
    modifier: NormModifier | None,
    flow: Flow,
    new: dict[int, nn.Module],
) -> Replaced:
    """Build the layer for the place of the norm `old`. Note new modules in `new`, by the id of the module that they
    replace: the layer, and an identity where the method brings its own activation.
    """
    fused = _fused(old)
    site, absorbed = site_of(name, old, model, activation, flow)
    layer = _placed(activation.layer(site), old, model)
    if isinstance(modifier, BranchModifier) and not site.ends_branch:
        modifier = None
    _copy_affine(old, layer, one=site.ends_branch and needs_branches(activation, modifier) is not None)
    if absorbed is not None and not fused:
        new[id(absorbed)] = nn.Identity()
    placed = modifier.modify(layer) if modifier else layer
    new[id(old)] = _dress(old, placed, None if absorbed is not None else fused).train(old.training)
    return Replaced(
        name=name,
        before=type(old).__name__,
        after=type(layer).__name__ + (f" + {type(placed).__name__}" if modifier else ""),
        channels=site.channels,
        axis=axis_of(old),
        positions=flow.positions.get(name, 0),
        eps=getattr(layer, "eps", None),
        momentum=getattr(layer, "momentum", None),
        eps_before=getattr(old, "eps", None),
        momentum_before=getattr(old, "momentum", None),
        activation="" if absorbed is not None or fused is None else type(fused).__name__,
        absorbed="" if absorbed is None else type(absorbed).__name__,
        ends_branch=site.ends_branch,
    )


def _placed(layer: nn.Module, old: nn.Module, model: nn.Module) -> nn.Module:
    """The layer on the device and in the dtype of the one that it replaces."""
    tensors = (t for source in (old, model) for t in (*source.parameters(), *source.buffers()))
    like = next((t for t in tensors if t.is_floating_point()), None)
    return layer if like is None else layer.to(like)


def site_of(
    name: str, old: nn.Module, model: nn.Module, activation: ActivationNorm, flow: Flow
) -> tuple[Site, nn.Module | None]:
    """The place of the norm `old`, and the activation there whose place the method's own takes, if any."""
    follower = flow.activations.get(name)
    own = activation.own_activation
    absorbed = (_fused(old) or (model.get_submodule(follower) if follower else None)) if own else None
    site = Site(
        name=name,
        channels=_channels(old),
        eps=float(getattr(old, "eps", None) or 1e-5),
        momentum=float(getattr(old, "momentum", None) or 0.1),
        affine=getattr(old, "weight", None) is not None,
        positions=flow.positions.get(name),
        activated=absorbed is not None,
        ends_branch=name in flow.branch_ends,
    )
    return site, absorbed


def _put(model: nn.Module, new: dict[int, nn.Module]) -> None:
    """Put each module of `new` wherever the one with that id stands, a shared one at each of its places."""
    for name, child in list(model.named_modules(remove_duplicate=False)):
        if name and id(child) in new:
            parent, _, key = name.rpartition(".")
            setattr(model.get_submodule(parent), key, new[id(child)])


def axis_of(norm: nn.Module) -> int:
    """The axis of a norm's input that holds the channels: 1 or -1."""
    return -1 if kind(norm) in CHANNELS_LAST else 1


def _channels(old: nn.Module) -> int:
    for attribute in ("num_features", "num_channels", "normalized_shape"):
        value: Any = getattr(old, attribute, None)
        if value is not None:
            return int(value[-1]) if isinstance(value, tuple | list | torch.Size) else int(value)
    weight = getattr(old, "weight", None)
    if weight is None:
        raise SwapError(f"{type(old).__name__} does not say how many channels it has")
    return int(weight.numel())


@torch.no_grad()
def _copy_affine(old: nn.Module, layer: nn.Module, *, one: bool) -> None:
    """`one`: a gamma that is zero everywhere becomes one."""
    for attribute in ("weight", "bias"):
        source, target = getattr(old, attribute, None), getattr(layer, attribute, None)
        if source is not None and target is not None:
            target.copy_(source.view_as(target))
            if isinstance(source, nn.Parameter) and isinstance(target, nn.Parameter):
                target.requires_grad_(source.requires_grad)
            if one and attribute == "weight" and not target.any():
                target.fill_(1)


def _fused(old: nn.Module) -> nn.Module | None:
    """The activation that is part of `old`, or a module that takes over where it has none of its own."""
    act = getattr(old, "act", None)
    if isinstance(act, nn.Module):
        return None if isinstance(act, nn.Identity) else act
    built_in = next((a for prefix, a in BUILT_IN_ACTIVATION.items() if type(old).__name__.startswith(prefix)), None)
    return built_in() if built_in and getattr(old, "apply_act", True) else None


def _dress(old: nn.Module, layer: nn.Module, act: nn.Module | None) -> nn.Module:
    """The layer on the axis of the old one, with the old one's drop and the activation."""
    if axis_of(old) == -1:
        layer = ChannelsLast(layer)
    drop = getattr(old, "drop", None)
    dropping = isinstance(drop, nn.Module) and not isinstance(drop, nn.Identity)
    if act is None and not dropping:
        return layer
    return NormAct(layer, drop if isinstance(drop, nn.Module) and dropping else nn.Identity(), act or nn.Identity())


def _wrap(model: nn.Module, method: WeightNorm, flow: Flow) -> tuple[tuple[Wrapped, ...], tuple[LeftAlone, ...]]:
    """Reparametrize the weights that `method` is for."""
    wrapped, kept = [], []
    for name, module in list(model.named_modules()):
        weight = getattr(module, "weight", None)
        if not isinstance(module, WEIGHTED) or not isinstance(weight, nn.Parameter):
            continue
        reason = None
        if method.where == "fed" and name not in flow.feeds:
            reason = "its output goes into no norm"
        elif weight[0].numel() == 1:
            reason = "one value a row"
        elif not weight.detach().flatten(1).any(1).all():
            reason = "a row of zeros has no direction"
        if reason:
            kept.append(LeftAlone(name=name, layer=type(module).__name__, reason=reason))
            continue
        wrapped.append(
            Wrapped(name=name, layer=type(module).__name__, shape=tuple(weight.shape), feeds=flow.feeds.get(name, ""))
        )
        method.wrap(module)  # type: ignore[arg-type]
    return tuple(wrapped), tuple(kept)
