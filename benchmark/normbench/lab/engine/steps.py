"""How a training step is computed: eagerly, by compiled code, or by replaying a CUDA graph.

All engines compute the step of `normbench.lab.train`: the loss of a batch, its gradients, clipping, the optimizer's
update.

    eager    op after op, as Python meets them; the arithmetic that the numeric protocol is recorded with
    compile  the model and its loss, forwards and backwards, through torch.compile; clipping and update eagerly
    graph    the whole step captured once and replayed (`normbench.lab.engine.cuda_graph`), on compiled code where the
             model compiles

Compiled code agrees with the eager step up to rounding, and draws the same random numbers. If an engine cannot be had,
the next takes its place, in the order graph, compile, eager, and the reason is noted. Code is compiled for one shape of
batches; others, such as the last and smaller batch of an epoch, run eagerly. A function around the model is compiled.
The model stays as it is, so parameters, hooks and `state_dict` keep their names.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from normbench.lab.engine.clipping import clipping
from normbench.lab.engine.cuda_graph import CAPTURES, Graph
from normbench.lab.engine.decompositions import Decomposed, decomposes
from normbench.spec.trial import TrainSpec
from normbench.tensors.operations import waiting
from normbench.tensors.snapshot import undisturbed

Kind = Literal["graph", "compile", "eager"]
Used = Kind | Literal["together", "together, compiled"]
Forward = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Images `(N, C, H, W)` and labels, int64 `(N,)` or shares of the classes `(N, classes)`, to logits `(N, classes)` and
the mean loss.
"""

#: How far the gradients of compiled code may be from those of the eager step, as a share of their norm. In a small
#: network, a single activation that rounding moved across a kink changed them by 0.4 %. Where moving the weights by
#: `SHAKE` (some roundings) changes the gradients by more than a third of this, `MARGIN` times that change is allowed.
#: `fine`: float32 on a CPU; `coarse`: bfloat16, and GPUs, whose float32 may be TF32.
AGREEMENT = 1e-2
SHAKE = {"fine": 1e-6, "coarse": 2.0**-9}
MARGIN = 3.0
#: Characters of the reason why an engine could not be had.
REASON_LENGTH = 300


def chosen(wanted: str, device: str) -> Kind:
    """The engine that `auto` stands for on `device` (`cuda...` or `cpu`); every other name stands for itself.

    On a CPU that is `eager`: trials there are short, and every shape costs seconds to compile (perf/README.md has the
    figures).
    """
    if wanted == "auto":
        return "graph" if device.startswith("cuda") else "eager"
    if wanted not in ("graph", "compile", "eager"):
        raise ValueError(f"expected the engine auto, graph, compile or eager, found {wanted!r}")
    return wanted  # type: ignore[return-value]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bf16 autocast where `precision` says so."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


class Engine:
    """Training steps of one model.

    used: what computes them; until `prepare`, and for batches of other shapes, that is `eager`. `together`: the first
        half of each step as one with those of other trials, see `normbench.lab.engine.stack`.
    reason: why it is not the engine that was wanted, in a line; empty where it is.
    compile_seconds: what preparing cost: loading the compiler, compiling, warming up, capturing.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        spec: TrainSpec,
        *,
        precision: str,
        wanted: Kind = "eager",
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.spec = spec
        self.precision = precision
        self.wanted = wanted
        self.used: Used = "eager"
        self.reason = ""
        self.compile_seconds = 0.0
        self._clip = clipping(model, spec)
        self._decomposes = decomposes(model)
        self._format = memory_format(model)
        self._criterion = nn.CrossEntropyLoss(label_smoothing=spec.label_smoothing)
        self._shape: torch.Size | None = None
        self._compiled: Forward | None = None
        self._graph: Graph | None = None

    def prepare(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Compile and capture for batches like this one, as the wanted engine needs it. Afterwards model, optimizer and
        random streams are as before.

        images: float (N, C, H, W); labels: int64 (N,), or float (N, classes) where images are mixed; on the device of
        the model.
        """
        if self.wanted == "eager":
            return
        started = time.perf_counter()
        images = images.contiguous(memory_format=self._format)
        self._shape = images.shape
        failed = [self._compile(images, labels)]
        if self.wanted == "graph":
            failed.append(self._capture(images, labels))
        self.reason = "; ".join(filter(None, failed))[:REASON_LENGTH]
        if images.is_cuda:
            torch.cuda.synchronize()  # the time of what is still being computed belongs to the preparation
        self.compile_seconds += time.perf_counter() - started

    def rate(self, value: float) -> None:
        """Set the learning rate of the step that comes; a group may have a share of it."""
        for group in self.optimizer.param_groups:
            rate = value * group.get("lr_scale", 1.0)
            if isinstance(group["lr"], torch.Tensor):  # a captured update reads the rate at this address
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A whole step. Returns logits (N, classes), good until the next step, and the loss before the update."""
        if self._graph and images.shape == self._shape:
            return self._graph.replay(images, labels)  # which copies them into its own, laid out as `prepare` did
        found = self.gradients(images, labels)
        self.update()
        return found

    def gradients(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first half of a step: logits and loss. Afterwards the parameters have fresh gradients, which measures may
        look at.
        """
        images = images.contiguous(memory_format=self._format)  # as the weights, so that no layer lays them out anew
        with self._decomposed(images):
            logits, loss = self._loss(images, labels)
            self.optimizer.zero_grad(set_to_none=True)
            # As `loss.backward()`, for which torch would leave `Decomposed`.
            torch.autograd.backward(get_gradient_edge(loss), torch.ones_like(loss))
        return logits.detach(), loss.detach()

    def update(self) -> None:
        """The second half: clip the gradients and move the parameters."""
        self._clip()
        self.optimizer.step()
        if self._graph:
            self._graph.left()

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._compiled and images.shape == self._shape:
            from normbench.lab.engine.compiling import CompileAgainError, once

            try:
                with once():  # more than one compilation is a sign of state that the first one has not seen
                    return self._run(self._compiled, images, labels)
            except CompileAgainError as error:
                self._fall(f"compile: it would have to be compiled again: {line(error)}")
        return self._run(self._eager, images, labels)

    def _decomposed(self, images: torch.Tensor) -> AbstractContextManager[object]:
        """Where whitening layers run eagerly; the compiler sees by itself what is computed twice."""
        if not self._decomposes or (self._compiled and images.shape == self._shape):
            return nullcontext()
        return Decomposed(unchecked=images.is_cuda)

    def _run(self, forward: Forward, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with autocast(images.device, self.precision):
            return forward(images, labels)

    def _eager(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(images)
        return logits, self._criterion(logits.float(), labels)

    def _compile(self, images: torch.Tensor, labels: torch.Tensor) -> str:
        """Compile, and compare the gradients with the eager ones. Returns why the code cannot be used; empty where it
        can.
        """
        try:
            from normbench.lab.engine.compiling import alike, compiler

            name = alike(self.model, images, "step", self.precision)
            with compiler(name, images.device.type) as compiled:
                forward = compiled(self._eager)
                if problem := self._differs(forward, images, labels):
                    return problem
        # The compiler may raise anything: no C++ compiler, an operation that it does not know, a fault of its own.
        except Exception as error:
            return f"compile: {type(error).__name__}: {line(error)}"
        self._compiled, self.used = forward, "compile"
        return ""

    def _differs(self, forward: Forward, images: torch.Tensor, labels: torch.Tensor) -> str:
        """Why `forward` must not be used: its gradients are not those of the eager step. Empty where they are.

        Compiled code may be wrong without a word: see `normbench.lab.engine.compiling.KeepReads`.
        """
        grain = "fine" if images.device.type == "cpu" and self.precision == "float32" else "coarse"
        eager, shaken = (self._gradient(self._eager, images, labels, shake) for shake in (0.0, SHAKE[grain]))
        found = self._gradient(forward, images, labels)
        size = float(eager.norm())
        rounding, apart = (float((other - eager).norm()) for other in (shaken, found))
        if not math.isfinite(size + rounding) or apart <= max(AGREEMENT * size, MARGIN * rounding):
            return ""  # where the eager step itself overflows, nothing can be compared
        return f"compile: its gradients are off by {apart / size if size else math.inf:.1g} of their norm"

    def _gradient(
        self, forward: Forward, images: torch.Tensor, labels: torch.Tensor, shake: float = 0.0
    ) -> torch.Tensor:
        """All gradients of a batch in one vector. The weights are as they are; the buffers are as they might be late in
        training, since what depends on running statistics or on the number of steps shows nothing at the start.
        """
        with undisturbed(self.model):
            self.model.train()
            age(self.model, shake)
            _, loss = self._run(forward, images, labels)
            loss.backward(torch.ones_like(loss))  # type: ignore[no-untyped-call]
            return torch.cat([p.grad.float().flatten() for p in self.model.parameters() if p.grad is not None])

    def _capture(self, images: torch.Tensor, labels: torch.Tensor) -> str:
        """As `_compile`, for the graph."""
        capture = CAPTURES.get(images.device.type)
        if capture is None:
            return "graph: a CUDA graph needs a GPU"
        if self.spec.adversarial:
            return "graph: batches of adversarial training are made between the steps"
        forward = self._unchecked if self._decomposes else self._compiled or self._eager
        try:
            if waits := self._waits(images, labels):
                return f"graph: no graph can hold what the host waits for: {', '.join(waits)}"
            self._graph = Graph(
                self.model, lambda i, t: self._run(forward, i, t), self.optimizer, self.spec, images, labels, capture()
            )
        except Exception as error:  # as above
            return f"graph: {type(error).__name__}: {line(error)}"
        self.used = "graph"
        return ""

    def _waits(self, images: torch.Tensor, labels: torch.Tensor) -> list[str]:
        """Operators of a step, up to its update, that no graph can hold. Capturing them would fail, which older torch
        does not survive whole; so it is not tried.
        """
        with undisturbed(self.model):
            self.model.train()

            def step() -> None:
                _, loss = self._run(self._unchecked if self._decomposes else self._eager, images, labels)
                loss.backward()  # type: ignore[no-untyped-call]
                self._clip()

            return waiting(step)

    def _unchecked(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `_eager`, without a question to the host."""
        with Decomposed(unchecked=True):
            return self._eager(images, labels)

    def note(self, reason: str) -> None:
        """Add to `reason`."""
        self.reason = "; ".join(filter(None, [self.reason, reason]))[:REASON_LENGTH]

    def _fall(self, reason: str) -> None:
        self._compiled = None
        self.note(reason)
        if self.used == "compile":
            self.used = "eager"


def memory_format(model: nn.Module) -> torch.memory_format:
    """How the weights of convolutions lie in memory, and so the images should."""
    weights = [p for p in model.parameters() if p.ndim == 4 and not p.is_contiguous()]
    last = any(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    return torch.channels_last if last else torch.contiguous_format


@torch.no_grad()
def age(model: nn.Module, shake: float = 0.0) -> None:
    """Move the buffers to where they might be late in training, and every parameter by about the share `shake` of
    itself, one of zeros to small numbers: a head of zeros has no gradient, and hides those of all before it. Each call
    draws the same numbers.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
        parameter.copy_(parameter * (1 + shake * drawn) if parameter.any() else drawn * (1 + shake) / 10)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.mul_(10 ** (torch.rand(buffer.shape, generator=generator).to(buffer) * 1.8 - 1.5))
        elif buffer.ndim == 0:
            buffer.add_(1_000_000)


def line(error: Exception) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())
