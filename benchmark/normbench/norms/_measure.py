"""Measures what a normalization method does, whatever it claims.

Invariances are measured with eps at 1e-12, where one that holds up to eps holds to rounding.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from normbench.norms._bench import CHANNELS, EXAMPLES, SIDE, Bench, apart, scales, sizes_of, tiny
from normbench.norms.base import Norm
from normbench.tensors.seeding import seeded

#: An invariance holds where outputs differ by less than this share of the largest one (eps at TINY_EPS), and is exact
#: below the other with the default eps.
HOLDS, EXACT = 1e-6, 1e-9
#: Singular values below this share of the largest count as zero.
RANK = 1e-10


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


def measure(method: Norm) -> Measured:
    """What `method` does, at its parameters."""
    bench = Bench(tiny(method))
    weight_scale, factor = _weight_scale(bench)
    input_scale, input_shift = (
        max(apart(bench.layer(f(bench.x())), bench.layer(bench.x())) for f in fs) < HOLDS
        for fs in ((_triple, _fifth), (_shift,))
    )
    plain = Bench(method)
    errors = []
    if factor is not None:
        errors.append(apart(plain.run(raw=plain.raw * factor), plain.run()))
    if input_scale:
        errors.append(apart(plain.layer(3 * plain.x()), plain.layer(plain.x())))
    refused, not_finite = _situations(method)
    constraints, sizes = _constraints(method)
    settled = _statistics(plain)
    return Measured(
        weight_scale=weight_scale,
        orthogonal=_orthogonal(bench),
        input_scale=input_scale,
        input_shift=input_shift,
        exact=max(errors) < EXACT if errors else None,
        batch_dependent=_batch_dependent(plain) or _batch_dependent(Bench(method, settled=False)),
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


def _weight_scale(bench: Bench) -> tuple[str, torch.Tensor | None]:
    reference = bench.run()
    for name, factors in scales(bench).items():
        shaped = factors.view(-1, 1, 1, 1)
        if apart(bench.run(raw=bench.raw * shaped), reference) < HOLDS:
            return name.split()[0], shaped
    return "none", None


def _orthogonal(bench: Bench) -> str:
    raw = bench.raw.clone().requires_grad_()
    out = bench.run(raw=raw)
    (gradient,) = torch.autograd.grad((out * bench.normal(*out.shape)).sum(), raw)
    w, g = raw.detach().flatten(1), gradient.flatten(1)
    for name in scales(bench):
        groups = {"row": bench.channels, "tensor": 1}.get(name) or int(name.split()[1])
        a, b = w.reshape(groups, -1), g.reshape(groups, -1)
        cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-300)
        if float(cosine.abs().max()) < HOLDS:
            return name.split()[0]
    return "none"


def _batch_dependent(bench: Bench) -> bool:
    z = bench.z.clone()
    z[1:] = 2 * bench.normal(*z[1:].shape)
    return apart(bench.run(z=z)[:1], bench.run()[:1]) > HOLDS


def _statistics(bench: Bench) -> bool:
    outputs = []
    for scale in (1.0, 2.0):
        module = copy.deepcopy(bench.module).train()
        for _ in range(10):
            module(scale * bench.x() + scale)
        outputs.append(module.eval()(bench.x()))
    return apart(outputs[0], outputs[1]) > HOLDS


def _train_eval_gap(bench: Bench) -> float:
    """On a batch of two equal halves, so that statistics of chunks are those of the batch."""
    half = bench.x()[: EXAMPLES // 2]
    x = torch.cat([half, half])
    module = copy.deepcopy(bench.module).train()
    for _ in range(60):
        trained = module(x)
    return apart(module.eval()(x), trained)


def _buffers(module: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for b in module.buffers()]


def _stateful(bench: Bench) -> bool:
    module = copy.deepcopy(bench.module).train()
    before = _buffers(module)
    module(bench.x() + 1)
    return any(not torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True))


def _random(bench: Bench) -> bool:
    outputs = []
    for seed in (0, 1):
        module = copy.deepcopy(bench.module).train()
        with seeded(seed):
            outputs.append(module(bench.x()))
    return not torch.equal(outputs[0], outputs[1])


def _reading_is_free(bench: Bench) -> bool:
    module = copy.deepcopy(bench.module).train()
    before = _buffers(module)
    for _ in range(3):
        getattr(module, "weight", None)
    module.eval()(bench.x())
    return all(torch.equal(a, b) for a, b in zip(before, module.buffers(), strict=True))


def _sphere(method: Norm) -> str:
    bench = Bench(tiny(method), activated=False)
    if bench.weighted:
        norms = [bench.effective(raw).norm(dim=1) for raw in (bench.raw, bench.normal(*bench.raw.shape))]
        return "row" if apart(norms[0], norms[1]) < HOLDS else "none"
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
    bench = Bench(tiny(method), small=True, activated=False)
    sizes = sizes_of(bench.module, d=bench.channels, n=bench.examples, p=bench.side**2)
    at, function = (bench.raw, bench.effective) if bench.weighted else (bench.x(), bench.layer)
    jacobian = torch.autograd.functional.jacobian(function, at)  # type: ignore[no-untyped-call]
    values = torch.linalg.svdvals(jacobian.reshape(-1, at.numel()))
    return int((values < RANK * values[0]).sum()), sizes


def _true_gradient(method: Norm) -> bool:
    bench = Bench(method, small=True)
    if bench.weighted:
        inputs: tuple[torch.Tensor, ...] = (bench.raw.clone().requires_grad_(), bench.z.clone().requires_grad_())
        return torch.autograd.gradcheck(lambda raw, z: bench.run(raw=raw, z=z), inputs, raise_exception=False)
    return torch.autograd.gradcheck(bench.layer, (bench.x().requires_grad_(),), raise_exception=False)


def _situations(method: Norm) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In which situations, in float32, training raises ValueError, and in which numbers are not finite."""
    bench = Bench(method, settled=False, dtype=torch.float32)
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
    bench = Bench(method, settled=False, dtype=torch.float32)
    if bench.weighted:
        exact = bench.effective(bench.raw)
        with torch.autocast("cpu", torch.bfloat16):
            return apart(bench.effective(bench.raw).float(), exact)
    x = (bench.normal(EXAMPLES, CHANNELS, SIDE, SIDE) + 50).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = bench.layer(x).float()
    return apart(half, bench.layer(x.float()))


def _eval_gradient(bench: Bench) -> bool:
    x = bench.x().clone().requires_grad_()
    out = copy.deepcopy(bench.module).eval()(x)
    (out * bench.normal(*out.shape)).sum().backward()
    return x.grad is not None and bool(x.grad.isfinite().all()) and bool(x.grad.abs().max() > 0)
