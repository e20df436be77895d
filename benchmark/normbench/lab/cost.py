"""What a method costs beside batch norm, on one device, measured in turns.

The layer alone is one layer on a random input. Of a weight method it is the weight of a 3x3 convolution, computed from
its raw weight; of a composition, all of it. The network is a ResNet-18 of a quarter of the width, whose training step
is forward, backward and SGD with momentum. One thread works. On a CPU its time on the processor
counts, so that other work beside it matters less; on a GPU what it takes until the GPU is done.
"""

from __future__ import annotations

import os
import statistics
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from scipy.stats import quantile_test
from torch import nn
from torch.nn import functional

import normbench.norms as norms
from normbench.lab.machine import memory_of
from normbench.lab.network.build import swapped
from normbench.norms.base import Site
from normbench.norms.layers.manifolds import hold
from normbench.plan.digests import closure, source_digest
from normbench.spec.cost import REFERENCE, Cost, Kept, Timing
from normbench.spec.text import said
from normbench.spec.trial import Component, DataSpec, ModelSpec, TrainSpec, Trial, digest
from normbench.tensors.seeding import seeded

#: (N, C, H, W) of inputs to a layer: many positions, some of both, many channels.
LAYERS = ((64, 32, 32, 32), (64, 128, 16, 16), (64, 512, 4, 4))
#: Images of a batch for the network, and their side.
BATCHES, SIDE = (16, 64), 32
NETWORK = ModelSpec(name="resnet18", width=0.25)
#: Odd; with nine, the interval of the median is from the second smallest to the second largest.
ROUNDS = 9
#: Seconds that one timing of the reference should take, so that the clock's grain does not matter.
LEAST = 0.01

Step = Literal["forward", "backward", "inference", "training"]


class Layer(nn.Module):
    """The layer of a method for one shape."""

    def __init__(self, components: tuple[Component, ...], shape: tuple[int, ...]) -> None:
        super().__init__()
        methods = norms.split(components)
        channels = shape[1]
        site = Site(name="layer", channels=channels, eps=1e-5, positions=shape[2] * shape[3])
        layer = methods.activation.layer(site)
        self.layer = methods.modifier.modify(layer) if methods.modifier else layer
        self.conv = nn.Conv2d(channels, channels, 3, bias=False) if methods.weight else None
        if methods.weight and self.conv is not None:
            methods.weight.wrap(self.conv)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y: torch.Tensor = self.layer(x)
        return (y,) if self.conv is None else (y, self.conv.weight)


class Work(NamedTuple):
    """What is timed of one method at one shape, and the bytes that it keeps for the backward pass."""

    steps: dict[Step, Callable[[], object]]
    kept: int


@dataclass(frozen=True)
class Case:
    """One shape: of a layer, or of a network."""

    what: Literal["layer", "network"]
    shape: tuple[int, ...]

    @property
    def text(self) -> str:
        return "x".join(map(str, self.shape))

    def work(self, components: tuple[Component, ...], device: torch.device) -> Work:
        with seeded(0):
            x = torch.randn(self.shape).to(device)
            if self.what == "layer":
                return _layer(Layer(components, self.shape).to(device), x)
            return _network(_build(components, self.shape).to(device), x)


CASES = (*(Case("layer", s) for s in LAYERS), *(Case("network", (n, 3, SIDE, SIDE)) for n in BATCHES))


def _layer(layer: Layer, x: torch.Tensor) -> Work:
    x.requires_grad_()
    layer.train()
    with _counting() as count:
        outputs = layer(x)
    inputs = [x, *layer.parameters()]
    gradients = [torch.ones_like(y) for y in outputs]

    def backward() -> object:
        return torch.autograd.grad(outputs, inputs, gradients, retain_graph=True, allow_unused=True)

    steps: dict[Step, Callable[[], object]] = {"forward": lambda: layer(x), "inference": _inference(layer, x)}
    if any(y.requires_grad for y in outputs):
        steps["backward"] = backward
    return Work(steps, count(layer))


def _network(model: nn.Module, x: torch.Tensor) -> Work:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    hold(model, optimizer)
    labels = torch.arange(len(x), device=x.device) % 10
    with _counting() as count:
        model(x)

    def training() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return Work({"training": training, "inference": _inference(model, x)}, count(model))


def _inference(model: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def inference() -> object:
        model.eval()
        with torch.no_grad():
            found = model(x)
        model.train()
        return found

    return inference


def _build(components: tuple[Component, ...], shape: tuple[int, ...]) -> nn.Module:
    trial = Trial(
        data=DataSpec(dataset="none"),
        model=NETWORK,
        norm=components,
        norm_label="",
        batch_size=shape[0],
        seed=0,
        train=TrainSpec(),
    )
    return swapped(trial, channels=shape[1], image_size=shape[2], classes=10)[0]


@contextmanager
def _counting() -> Iterator[Callable[[nn.Module], int]]:
    """Yields a function of how many bytes were kept for the backward pass inside, without a module's own tensors. What
    shares memory counts once.
    """
    seen: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen.setdefault(storage.data_ptr(), storage)
        return tensor

    def count(module: nn.Module) -> int:
        own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
        return sum(storage.nbytes() for pointer, storage in seen.items() if pointer not in own)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield count


def code_of(components: tuple[Component, ...]) -> str:
    """A digest of what decides a method's cost: its sources, those of this file, and the version of torch."""
    modules = closure(frozenset({__name__, *(norms.registry.get(c.name).__module__ for c in components)}))
    own = {m: source_digest(m) for m in sorted(modules) if m == __name__ or m.startswith("normbench.norms.")}
    return digest([own, [c.model_dump() for c in components], torch.__version__.partition("+")[0]])[:16]


def measure(method: str, device: torch.device, *, rounds: int = ROUNDS, cases: tuple[Case, ...] = CASES) -> Cost:
    """Time `method` and `bn` in turns at every shape. A shape that the method or the memory refuses is named with the
    reason. Raises `PluginError` for what is no method.
    """
    label, components = norms.resolve(method)
    _, reference = norms.resolve(REFERENCE)
    torch.set_num_threads(1)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    timings: list[Timing] = []
    kept: list[Kept] = []
    failed: dict[str, str] = {}
    for case in cases:
        try:
            ours, theirs = case.work(components, device), case.work(reference, device)
            timed = [_timed(case, step, ours, theirs, rounds, device) for step in ours.steps if step in theirs.steps]
        except (ValueError, RuntimeError) as error:
            failed[f"{case.what} {case.text}"] = f"out of {out}" if (out := memory_of(error)) else said(error)[:300]
            continue
        timings += timed
        kept.append(Kept(what=case.what, shape=case.text, bytes=ours.kept, reference=theirs.kept))
    return Cost(
        method=label,
        family=norms.registry.get(components[0].name).family,
        code=code_of(components),
        rounds=rounds,
        timings=tuple(timings),
        kept=tuple(kept),
        failed=failed,
        load=load,
    )


def _clock(device: torch.device) -> Callable[[], float]:
    def when_done() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return time.process_time if device.type == "cpu" else when_done


def _timed(case: Case, step: Step, ours: Work, theirs: Work, rounds: int, device: torch.device) -> Timing:
    timers = [timeit.Timer(w.steps[step], timer=_clock(device)) for w in (theirs, ours)]
    for each in timers:
        each.timeit(1)  # warms up
    number = max(1, round(LEAST / max(timers[0].timeit(1), 1e-9)))
    pairs = []
    for i in range(rounds):
        found = [each.timeit(number) / number for each in (timers if i % 2 else timers[::-1])]
        pairs.append(found if i % 2 else found[::-1])
    ratios = [b / a for a, b in pairs]
    # `q` does not enter the interval, which is made of the order of the ratios alone.
    interval = quantile_test(ratios, q=1.0, p=0.5).confidence_interval(0.95)
    low, high = (e if e == e else end for e, end in zip(interval, (min(ratios), max(ratios)), strict=True))
    return Timing(
        what=case.what,
        shape=case.text,
        step=step,
        seconds=statistics.median(b for _, b in pairs),
        reference=statistics.median(a for a, _ in pairs),
        ratio=statistics.median(ratios),
        low=float(low),
        high=float(high),
    )
