"""The model as attacks climb its loss: compiled, in low precision where the trial trains in it. What it finds is only ever a proposal.

An attack needs thousands of gradients and one verdict an image. Gradients may be computed as fast as the machine can; whether an image has fallen is asked of
the model itself, eagerly and in float32 (`benchmark.lab.evaluate`), and an image of which only this model thinks so is attacked again without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmark.lab.engine import AGREEMENT, MARGIN, REASON_LENGTH, Kind, autocast, line

#: From this share of a whole batch on, fewer images are filled up to one; below it they go through the model as it is, which is then less work.
WORTH_FILLING = 1 / 2


class Search:
    """Logits `(N, classes)` of images `(N, C, H, W)` with a gradient to them, of a model in eval mode with frozen parameters.

    engine: what computes them: `compile` after a `prepare` that worked, else `eager`.
    reason: why it is not `compile`; empty where it is.
    compile_seconds: what preparing cost.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        self.model = model
        self.precision = precision
        self.engine: Kind = "eager"
        self.reason = ""
        self.compile_seconds = 0.0
        self._size = 0
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None

    def prepare(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Compile for batches like this one, and hold the gradients against those of the model itself. Never raises: without compiled code it stays eager.

        images: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,).
        """
        started = time.perf_counter()
        try:
            from benchmark.lab.compiling import compiler

            with compiler() as compiled:
                forward = compiled(self._eager)
                self.reason = self._differs(forward, images, labels)
        except Exception as error:  # whatever the compiler may raise: no C++ compiler, an operation that it does not know, a fault of its own
            self.reason = f"{type(error).__name__}: {line(error)}"[:REASON_LENGTH]
        if not self.reason:
            self._compiled, self._size, self.engine = forward, len(images), "compile"
        self.compile_seconds = time.perf_counter() - started

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self._compiled is None or not WORTH_FILLING * self._size <= len(images) <= self._size:
            return self._run(self._eager, images)
        from torch._dynamo.exc import RecompileError

        from benchmark.lab.compiling import once

        missing = self._size - len(images)
        whole = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images.contiguous()
        try:
            with once():
                return self._run(self._compiled, whole)[: len(images)]
        except RecompileError as error:
            self._compiled, self.engine, self.reason = None, "eager", f"it would have to be compiled again: {line(error)}"[:REASON_LENGTH]
            return self._run(self._eager, images)

    def thinks_wrong(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Bool (N,): which images this model classifies wrongly."""
        with torch.enable_grad():  # as in a search: without, it would be other code
            return self(images.detach().requires_grad_()).argmax(1) != labels

    def _eager(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        return logits

    def _run(self, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        with autocast(images.device, self.precision):
            return forward(images).float()

    def _differs(self, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> str:
        """Why `forward` must not be used; empty where it computes the model's gradients, as far as its precision lets it."""
        exact = _gradient(self._eager, images, labels)
        rounded = _gradient(lambda x: self._run(self._eager, x), images, labels)
        found = _gradient(lambda x: self._run(forward, x), images, labels)
        size, rounding, apart = (float(g.norm()) for g in (exact, rounded - exact, found - exact))
        if not math.isfinite(size + rounding) or apart <= max(AGREEMENT * size, MARGIN * rounding):
            return ""  # where the model itself overflows there is nothing to compare
        return f"its gradients are off by {apart / size if size else math.inf:.1g} of their norm"


def _gradient(forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    x = images.detach().contiguous().requires_grad_()
    with torch.enable_grad():
        loss = functional.cross_entropy(forward(x), labels, reduction="sum")
        return torch.autograd.grad(loss, x)[0]
