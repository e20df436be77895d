"""Measures what a normalization method does, whatever it claims.

Invariances are measured with eps at 1e-12, where one that holds up to eps holds to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from normbench.norms.base import ActivationNorm, Norm, NormModifier, Site, WeightNorm
from normbench.norms.layers.base import Affine

#: Stands for eps -> 0; torch's batch norm refuses 0.
TINY_EPS = 1e-12
#: An invariance holds where outputs differ by less than this share of the largest one (eps at TINY_EPS), and is exact
#: below the other with the default eps.
HOLDS, EXACT = 1e-6, 1e-9
#: Singular values below this share of the largest count as zero.
RANK = 1e-10
#: Examples, channels, and side of the maps that most claims are measured on; of the Jacobian's.
EXAMPLES, CHANNELS, SIDE = 32, 32, 4
SMALL_EXAMPLES, SMALL_CHANNELS, SMALL_SIDE = 3, 4, 3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a method was seen doing. The fields of `Claims`, `constraints` as a number, and what every method must
    do.
    """

    weight_scale: str
    orthogonal: str
    input_scale: bool
    input_shift: bool
    exact: bool | None
    batch_dependent: bool
    running_statistics: bool
    stateful: bool
    sphere: str
    constraints: int
    random: bool
    sizes: dict[str, int]
    """What d, n, p and g were when the constraints were counted."""
    true_gradient: bool
    errors: tuple[str, ...]
    not_finite: tuple[str, ...]
    """Situations with outputs or gradients that are not finite."""
    train_eval_gap: float | None
    """Between train and eval mode after the running statistics settled, as a share of the largest output; None: no such
    statistics.
    """
    half_error: float
    """Of bfloat16 autocast, on an input of mean 50 and standard deviation 1."""
    eval_gradient: bool
    """In eval mode the input has a finite gradient that is not zero."""
    reading_is_free: bool
    """Reading the weight of a wrapped layer, and eval mode, change no buffer."""


def sizes_of(module: nn.Module, *, d: int, n: int, p: int) -> dict[str, int]:
    """What the names in a formula of `Claims.constraints` are for `module`, a layer or a module with a wrapped
    weight.
    """
    chunks: Callable[[int], int] | None = getattr(module, "chunks", None)
    return {"d": d, "n": n, "p": p, "g": chunks(n) if chunks else getattr(module, "num_groups", 1)}


class _Bench:
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
            with torch.no_grad():
                for parameter in self.module.parameters():
                    parameter.add_(0.3 * self.normal(*parameter.shape).abs() + 0.1)
        if settled:
            self.module.train()
            for _ in range(40):
                self.forward(self.module, self.raw, 1.3 * self.normal(*self.z.shape) + 0.1)
            counter = getattr(self.module, "num_batches_tracked", None)
            if isinstance(counter, torch.Tensor):
                counter.fill_(10**6)

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
                ends_branch=True,
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


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """torch's global stream starts at `seed`, and goes on afterwards as if nothing had been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def raw_name(module: nn.Module) -> str:
    """The parameter that holds the raw weight of a wrapped module, the one with the weight's shape."""
    chain: Any = module.parametrizations["weight"]  # type: ignore[index]
    shape = chain.original1.shape if hasattr(chain, "original1") else chain.original.shape
    return next(
        f"parametrizations.weight.{n}"
        for n, p in reversed(list(chain.named_parameters(recurse=False)))
        if p.shape == shape
    )


def _tiny(method: Norm) -> Norm:
    return method.model_copy(update={"eps": TINY_EPS}) if "eps" in type(method).model_fields else method


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value of b."""
    return float(((a - b).abs().max() / b.abs().max().clamp_min(1e-300)).detach())


def _scales(bench: _Bench) -> dict[str, torch.Tensor]:
    """Factors a row, from the strongest property to the weakest."""
    d = bench.channels
    factors = torch.exp(bench.normal(d)).clamp(0.2, 5)
    blocks = {f"block {g}": factors[:g].repeat_interleave(d // g) for g in range(d // 2, 1, -1) if d % g == 0}
    return {"row": factors, **blocks, "tensor": torch.full((d,), 3.0, dtype=bench.dtype)}


def measure(method: Norm) -> Measured:
    """What `method` does, at its parameters."""
    bench = _Bench(_tiny(method))
    weight_scale, factor = _weight_scale(bench)
    input_scale, input_shift = (
        max(_apart(bench.layer(f(bench.x())), bench.layer(bench.x())) for f in fs) < HOLDS
        for fs in ((_triple, _fifth), (_shift,))
    )
    plain = _Bench(method)
    errors = []
    if factor is not None:
        errors.append(_apart(plain.run(raw=plain.raw * factor), plain.run()))
    if input_scale:
        errors.append(_apart(plain.layer(3 * plain.x()), plain.layer(plain.x())))
    refused, not_finite = _situations(method)
    constraints, sizes = _constraints(method)
    settled = _statistics(plain)
    return Measured(
        weight_scale=weight_scale,
        orthogonal=_orthogonal(bench),
        input_scale=input_scale,
        input_shift=input_shift,
        exact=max(errors) < EXACT if errors else None,
        batch_dependent=_batch_dependent(plain) or _batch_dependent(_Bench(method, settled=False)),
        running_statistics=settled,
        stateful=_stateful(plain),
        sphere=_sphere(method),
        constraints=constraints,
        random=_random(plain),
        sizes=sizes,
        true_gradient=_true_gradient(method),
        errors=refused,
        not_finite=not_finite,
        train_eval_gap=_train_eval_gap(plain) if settled else None,
        half_error=_half_error(method),
        eval_gradient=_eval_gradient(plain),
        reading_is_free=_reading_is_free(plain),
    )


def _triple(x: torch.Tensor) -> torch.Tensor:
    return 3 * x


def _fifth(x: torch.Tensor) -> torch.Tensor:
    return x / 5


def _shift(x: torch.Tensor) -> torch.Tensor:
    return x + 2.5


def _weight_scale(bench: _Bench) -> tuple[str, torch.Tensor | None]:
    reference = bench.run()
    for name, factors in _scales(bench).items():
        shaped = factors.view(-1, 1, 1, 1)
        if _apart(bench.run(raw=bench.raw * shaped), reference) < HOLDS:
            return name.split()[0], shaped
    return "none", None


def _orthogonal(bench: _Bench) -> str:
    raw = bench.raw.clone().requires_grad_()
    out = bench.run(raw=raw)
    (gradient,) = torch.autograd.grad((out * bench.normal(*out.shape)).sum(), raw)
    w, g = raw.detach().flatten(1), gradient.flatten(1)
    for name in _scales(bench):
        groups = {"row": bench.channels, "tensor": 1}.get(name) or int(name.split()[1])
        a, b = w.reshape(groups, -1), g.reshape(groups, -1)
        cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-300)
        if float(cosine.abs().max()) < HOLDS:
            return name.split()[0]
    return "none"


def _batch_dependent(bench: _Bench) -> bool:
    z = bench.z.clone()
    z[1:] = 2 * bench.normal(*z[1:].shape)
    return _apart(bench.run(z=z)[:1], bench.run()[:1]) > HOLDS


def _statistics(bench: _Bench) -> bool:
    outputs = []
    for scale in (1.0, 2.0):
        module = copy.deepcopy(bench.module).train()
        for _ in range(10):
            module(scale * bench.x() + scale)
        outputs.append(module.eval()(bench.x()))
    return _apart(outputs[0], outputs[1]) > HOLDS


def _train_eval_gap(bench: _Bench) -> float:
    """On a batch of two equal halves, so that statistics of chunks are those of the batch."""
    half = bench.x()[: EXAMPLES // 2]
    x = torch.cat([half, half])
    module = copy.deepcopy(bench.module).train()
    for _ in range(60):
        trained = module(x)
    return _apart(module.eval()(x), trained)


def _buffers(module: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for b in module.buffers()]


def _stateful(bench: _Bench) -> bool:
    module = copy.deepcopy(bench.module).train()
    before = _buffers(module)
    module(bench.x() + 1)
    return any(not torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True))


def _random(bench: _Bench) -> bool:
    outputs = []
    for seed in (0, 1):
        module = copy.deepcopy(bench.module).train()
        with seeded(seed):
            outputs.append(module(bench.x()))
    return not torch.equal(outputs[0], outputs[1])


def _reading_is_free(bench: _Bench) -> bool:
    module = copy.deepcopy(bench.module).train()
    before = _buffers(module)
    for _ in range(3):
        getattr(module, "weight", None)
    module.eval()(bench.x())
    return all(torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True))


def _sphere(method: Norm) -> str:
    bench = _Bench(_tiny(method), activated=False)
    if bench.weighted:
        norms = [bench.effective(raw).norm(dim=1) for raw in (bench.raw, bench.normal(*bench.raw.shape))]
        return "row" if _apart(norms[0], norms[1]) < HOLDS else "none"
    for name, value in (("weight", 1.0), ("bias", 0.0)):
        if (parameter := getattr(bench.module, name, None)) is not None:
            parameter.data.fill_(value)
    groups = getattr(bench.module, "num_groups", 1)
    squares = bench.layer(bench.x() + bench.normal(1, bench.channels, 1, 1)).detach().square()
    units = {
        "instance": squares.mean((2, 3)),
        "position": squares.mean(1),
        "group": squares.reshape(bench.examples, groups, -1).mean(2),
        "channel": squares.mean((0, 2, 3)),
        "sample": squares.mean((1, 2, 3)),
    }
    return next(
        (
            name
            for name, value in units.items()
            if float((value - 1).abs().max()) < HOLDS and (name != "group" or groups > 1)
        ),
        "none",
    )


def _constraints(method: Norm) -> tuple[int, dict[str, int]]:
    bench = _Bench(_tiny(method), small=True, activated=False)
    sizes = sizes_of(bench.module, d=bench.channels, n=bench.examples, p=bench.side**2)
    at, function = (bench.raw, bench.effective) if bench.weighted else (bench.x(), bench.layer)
    jacobian = torch.autograd.functional.jacobian(function, at)  # type: ignore[no-untyped-call]
    values = torch.linalg.svdvals(jacobian.reshape(-1, at.numel()))
    return int((values < RANK * values[0]).sum()), sizes


def _true_gradient(method: Norm) -> bool:
    bench = _Bench(method, small=True)
    if bench.weighted:
        inputs: tuple[torch.Tensor, ...] = (bench.raw.clone().requires_grad_(), bench.z.clone().requires_grad_())
        return torch.autograd.gradcheck(lambda raw, z: bench.run(raw=raw, z=z), inputs, raise_exception=False)
    return torch.autograd.gradcheck(bench.layer, (bench.x().requires_grad_(),), raise_exception=False)


def _situations(method: Norm) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In which situations, in float32, training raises ValueError, and in which numbers are not finite."""
    bench = _Bench(method, settled=False, dtype=torch.float32)
    x = bench.x()
    dead = x.clone()
    dead[:, : dead.shape[1] // 4] = 0
    cases = {
        "one example": x[:1],
        "one position": x[:, :, :1, :1],
        "one value": x[:1, :, :1, :1],
        "constant input": torch.full_like(x, 0.7),
        "dead channels": dead,
    }
    refused, not_finite = [], []
    for name, case in cases.items():
        module = copy.deepcopy(bench.module).train()
        given = case.clone().requires_grad_()
        try:
            out = module(given)
        except ValueError:
            refused.append(name)
            continue
        (out * bench.normal(*out.shape)).sum().backward()
        tensors = [out, given.grad, *(p.grad for p in module.parameters())]
        if not all(t is None or bool(t.isfinite().all()) for t in tensors):
            not_finite.append(name)
    return tuple(sorted(refused)), tuple(not_finite)


def _half_error(method: Norm) -> float:
    bench = _Bench(method, settled=False, dtype=torch.float32)
    if bench.weighted:
        exact = bench.effective(bench.raw)
        with torch.autocast("cpu", torch.bfloat16):
            return _apart(bench.effective(bench.raw).float(), exact)
    x = (bench.normal(EXAMPLES, CHANNELS, SIDE, SIDE) + 50).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = bench.layer(x).float()
    return _apart(half, bench.layer(x.float()))


def _eval_gradient(bench: _Bench) -> bool:
    x = bench.x().clone().requires_grad_()
    out = copy.deepcopy(bench.module).eval()(x)
    (out * bench.normal(*out.shape)).sum().backward()
    return x.grad is not None and bool(x.grad.isfinite().all()) and bool(x.grad.abs().max() > 0)
