"""A normalization method at work on a bench, for what measures it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from normbench.norms.base import ActivationNorm, Norm, NormModifier, Site, WeightNorm
from normbench.norms.layers.base import Affine
from normbench.tensors.seeding import seeded

#: Stands for eps -> 0; torch's batch norm refuses 0.
TINY_EPS = 1e-12
#: Examples, channels, and side of the maps that most claims are measured on; of the Jacobian's.
EXAMPLES, CHANNELS, SIDE = 32, 32, 4
SMALL_EXAMPLES, SMALL_CHANNELS, SMALL_SIDE = 3, 4, 3


def sizes_of(module: nn.Module, *, d: int, n: int, p: int) -> dict[str, int]:
    """What the names in a formula of `Claims.constraints` are for `module`, a layer or a module with a wrapped
    weight.
    """
    chunks: Callable[[int], int] | None = getattr(module, "chunks", None)
    return {"d": d, "n": n, "p": p, "g": chunks(n) if chunks else getattr(module, "num_groups", 1)}


class Bench:
    """A method at work: `run` maps a raw weight and an input to outputs, with the same state and random stream before
    every call.

    For an activation method the input `z` goes through a 3x3 convolution with the raw weight and then the layer; for a
    weight method, through a convolution with the wrapped weight; for a modifier, through a convolution and then the
    modified `none`.

    activated: methods with an activation of their own have it. spread: parameters are moved off the values that they
    start at, which hide what they do. settled: the layer has trained on other data before, long enough for schedules to
    be over.
    """

    def __init__(
        self,
        method: Norm,
        *,
        small: bool = False,
        activated: bool = True,
        spread: bool = True,
        settled: bool = True,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.weighted = isinstance(method, WeightNorm)
        self.generator = torch.Generator().manual_seed(0)
        self.examples, self.channels, self.side = (
            (SMALL_EXAMPLES, SMALL_CHANNELS, SMALL_SIDE) if small else (EXAMPLES, CHANNELS, SIDE)
        )
        self.dtype = dtype
        self.raw = self.normal(self.channels, 6, 3, 3) / 7
        self.z = self.normal(self.examples, 6, self.side, self.side)
        with seeded():
            self.module = self._build(method, activated)
        if spread and not self.weighted:
            self._spread()
        if settled:
            self.module.train()
            raw = self.raw.clone().requires_grad_()
            for _ in range(40):
                out = self.forward(self.module, raw, 1.3 * self.normal(*self.z.shape) + 0.1)
            if out.requires_grad:  # some layers learn of their data in the backward pass, too
                torch.autograd.grad(out.square().sum(), raw, allow_unused=True)
            counter = getattr(self.module, "num_batches_tracked", None)
            if isinstance(counter, torch.Tensor):
                counter.fill_(10**6)

    @torch.no_grad()
    def _spread(self) -> None:
        """Move parameters up, or, where the layer keeps them in `bounds`, to places between."""
        bounds: dict[str, tuple[float, float]] = getattr(self.module, "bounds", {})
        for name, parameter in self.module.named_parameters():
            moved = 0.3 * self.normal(*parameter.shape).abs() + 0.1
            low, high = bounds.get(name, (0, 0))
            parameter.copy_(low + (high - low) * moved.clamp(max=0.9) if name in bounds else parameter + moved)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def _build(self, method: Norm, activated: bool) -> nn.Module:
        if isinstance(method, ActivationNorm):
            activated = activated and method.own_activation
            site = Site(
                name="check",
                channels=self.channels,
                eps=1e-5,
                momentum=0.5,
                positions=self.side**2,
                activated=activated,
                ends_branch=method.own_branch_start,
            )
            return method.layer(site).to(self.dtype)
        if isinstance(method, NormModifier):
            return method.modify(Affine(self.channels)).to(self.dtype)
        conv = nn.Conv2d(6, self.channels, 3, padding=1, bias=False, dtype=self.dtype)
        conv.weight.data.copy_(self.raw)
        if isinstance(method, WeightNorm):
            method.wrap(conv)
        return conv

    def x(self) -> torch.Tensor:
        """What reaches the layer."""
        return self.z if self.weighted else nn.functional.conv2d(self.z, self.raw, padding=1) + 0.2

    def forward(self, module: nn.Module, raw: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        if self.weighted:
            return torch.func.functional_call(module, {raw_name(module): raw}, (z,))  # type: ignore[no-any-return]
        return module(nn.functional.conv2d(z, raw, padding=1))  # type: ignore[no-any-return]

    def run(self, raw: torch.Tensor | None = None, z: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs in training, from the same state each time."""
        module = copy.deepcopy(self.module).train()
        with seeded():
            return self.forward(module, self.raw if raw is None else raw, self.z if z is None else z)

    def layer(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of the layer alone in training, from the same state each time."""
        with seeded():
            return copy.deepcopy(self.module).train()(x)  # type: ignore[no-any-return]

    def effective(self, raw: torch.Tensor) -> torch.Tensor:
        """The weight that a wrapped convolution uses, from the same state each time."""
        module = copy.deepcopy(self.module).eval()
        if raw.requires_grad:
            window = torch.eye(raw[0].numel(), dtype=self.dtype).view(-1, *raw.shape[1:])
            module.padding = (0, 0)  # type: ignore[assignment]
            return self.forward(module, raw, window).flatten(1).mT
        module.get_parameter(raw_name(module)).data.copy_(raw)
        return module.weight.detach().flatten(1)  # type: ignore[operator]


def raw_name(module: nn.Module) -> str:
    """The parameter that holds the raw weight of a wrapped module, the one with the weight's shape."""
    chain: Any = module.parametrizations["weight"]  # type: ignore[index]
    shape = chain.original1.shape if hasattr(chain, "original1") else chain.original.shape
    return next(
        f"parametrizations.weight.{n}"
        for n, p in reversed(list(chain.named_parameters(recurse=False)))
        if p.shape == shape
    )


def tiny(method: Norm) -> Norm:
    """The method with an eps of nearly nothing, where it has one."""
    return method.model_copy(update={"eps": TINY_EPS}) if "eps" in type(method).model_fields else method


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value of b."""
    return float(((a - b).abs().max() / b.abs().max().clamp_min(1e-300)).detach())


def scales(bench: Bench) -> dict[str, torch.Tensor]:
    """Factors a row, from the strongest property to the weakest."""
    d = bench.channels
    factors = torch.exp(bench.normal(d)).clamp(0.2, 5)
    blocks = {f"block {g}": factors[:g].repeat_interleave(d // g) for g in range(d // 2, 1, -1) if d % g == 0}
    return {"row": factors, **blocks, "tensor": torch.full((d,), 3.0, dtype=bench.dtype)}
