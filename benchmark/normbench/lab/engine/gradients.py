"""The model whose gradients attacks climb: compiled, and in low precision where the trial trains in it. In an
evaluation, what an attack finds with it is only a proposal.

An attack needs thousands of gradients of an image and one verdict. The gradients may be computed as fast as the machine
can. The verdict is the model's own, eagerly and in float32 (`normbench.lab.evaluate`). If only the compiled search
calls an image fooled, the image is attacked again with the eager model. If the compiled search fails to fool an image,
it is not attacked again; so the gradients must be the model's own, up to `COARSE`. Attacks that ask for more than the
direction of a gradient (`Searches`) search in float32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from normbench.attacks._gradient import GradientAttack
from normbench.attacks.base import BALLS, Attack
from normbench.lab.engine.steps import AGREEMENT, MARGIN, REASON_LENGTH, Kind, autocast, line

#: A part of a batch that is at least this share is filled up to a whole one. A smaller part goes through the eager
#: model, which is then less work.
WORTH_FILLING = 1 / 2
#: Attacks climb gradients in low precision if these differ from those in float32 by at most this share of their norm.
COARSE = 0.2


class CompiledGradients:
    """Computes logits `(N, classes)`, with a gradient to the images `(N, C, H, W)`, of a model in eval mode with frozen
    parameters.

    engine: what computes them: `compile` after a `prepare` that worked, else `eager`.
    precision: `float32` or `bf16`; after `prepare`, what is good enough.
    reason: why it is not `compile`, or not the precision that was wanted; empty where it is both.
    compile_seconds: what preparing cost.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        self.model = model
        self.precision = precision
        self.engine: Kind = "eager"
        self.reason = ""
        self.compile_seconds = 0.0
        self._size = 0
        self._plain = False
        self._overflow: torch.Tensor | None = None
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None

    def prepare(self, images: torch.Tensor, labels: torch.Tensor, *, beside: bool = False, plain: bool = False) -> None:
        """Compile for batches like this one, and compare all gradients with the model's own. Code that fails is not
        used, and `reason` says why.

        images: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,). beside: code that was compiled before is still in
        use. plain: for calls without a gradient too, which else go through the eager model.
        """
        started = time.perf_counter()
        exact = _gradient(self._eager, images, labels)
        rounding = self._settle_precision(exact, images, labels)
        if not float(exact.norm()):
            self._note("compiled code cannot be held against gradients that are zero")
            return
        try:
            from normbench.lab.engine.compiling import alike, compiler

            name = alike(self.model, images, "gradients", self.precision)
            with compiler(name, images.device.type, beside=beside) as compiled:
                forward = compiled(self._eager)
                apart = _apart(_gradient(lambda x: self._run(forward, x), images, labels), exact)
                if plain:
                    with torch.no_grad():
                        logits, own = (self._run(f, images.contiguous()) for f in (forward, self._eager))
                        apart = max(apart, _apart(logits, own))
            if apart <= max(AGREEMENT, MARGIN * rounding):
                self._compiled, self._size, self.engine, self._plain = forward, len(images), "compile", plain
            else:
                self._note(f"its gradients are off by {apart:.1g} of their norm")
        # The compiler may raise anything: no C++ compiler, an operation that it does not know, a fault of its own.
        except Exception as error:
            self._note(f"{type(error).__name__}: {line(error)}")
        self.compile_seconds = time.perf_counter() - started

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        climbing = images.requires_grad and torch.is_grad_enabled()
        fits = WORTH_FILLING * self._size <= len(images) <= self._size
        if self._compiled is None or not fits or not (climbing or self._plain):
            logits = self._run(self._eager, images)
        elif climbing:
            logits = self._filled(images)
        else:
            with torch.no_grad():
                logits = self._filled(images.detach())
        finite = torch.isfinite(logits)
        self._overflow = ~finite.all() if self._overflow is None else self._overflow | ~finite.all()
        return torch.where(finite, logits, 0)

    def overflowed(self) -> bool:
        """Whether logits were not finite since this was asked last; they were taken as zeros. What was found with them
        means nothing. Asked once a batch, since the host waits for the answer.
        """
        found, self._overflow = self._overflow, None
        return found is not None and bool(found)

    def thinks_wrong(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Bool (N,): which images are classified wrongly by any of the codes that may have computed gradients."""
        wrong = torch.zeros_like(labels, dtype=torch.bool)
        size = self._size or len(images)
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            with torch.enable_grad():  # as in a search: without gradients, other code would run
                x = images[part].detach().requires_grad_()
                ways = [self._run(self._eager, x), *([self._filled(x)] if self._compiled else [])]
            if self._compiled and self._plain:
                with torch.no_grad():
                    ways.append(self._filled(images[part]))
            for logits in ways:
                wrong[part] |= logits.argmax(1) != labels[part]
        return wrong

    def _filled(self, images: torch.Tensor) -> torch.Tensor:
        """Run the compiled code, which takes batches of one size."""
        from normbench.lab.engine.compiling import CompileAgainError, once

        assert self._compiled is not None  # noqa: S101
        missing = self._size - len(images)
        whole = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images.contiguous()
        try:
            with once():
                return self._run(self._compiled, whole)[: len(images)]
        except CompileAgainError as error:
            self._compiled, self.engine = None, "eager"
            self._note(f"it would have to be compiled again: {line(error)}")
            return self._run(self._eager, images)

    def _settle_precision(self, exact: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Compare gradients in low precision with those in float32; where they differ too much, low precision is not
        used.
        """
        if self.precision == "float32":
            return 0.0
        rounding = _apart(_gradient(lambda x: self._run(self._eager, x), images, labels), exact)
        if rounding <= COARSE:
            return rounding
        self._note(f"{self.precision}: its gradients are off by {rounding:.1g} of their norm")
        self.precision = "float32"
        return 0.0

    def _note(self, reason: str) -> None:
        self.reason = "; ".join(filter(None, [self.reason, reason]))[:REASON_LENGTH]

    def _eager(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        return logits

    def _run(self, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        with autocast(images.device, self.precision):
            return forward(images).float()


class Searches:
    """The searches of an evaluation: those that climb a gradient's direction take `fast`, in the trial's precision; all
    others on a ball compare logits or take small steps, and take `exact`, in float32. Each is made when it is first
    asked for, with `images` and `labels` of a whole batch.
    """

    def __init__(self, model: nn.Module, precision: str, images: torch.Tensor, labels: torch.Tensor) -> None:
        self._model, self._precision, self._images, self._labels = model, precision, images, labels
        self.made: dict[str, CompiledGradients] = {}

    def of(self, method: Attack) -> CompiledGradients | None:
        """The search of one attack; None where it asks no model, as noise does. Called in an evaluation."""
        if method.threat not in BALLS:
            return None
        name = "fast" if isinstance(method, GradientAttack) else "exact"
        if name not in self.made:
            search = CompiledGradients(self._model, self._precision if name == "fast" else "float32")
            search.prepare(self._images, self._labels, beside=bool(self.made), plain=name == "exact")
            self.made[name] = search
        return self.made[name]

    @property
    def facts(self) -> dict[str, Any]:
        """For the provenance of a row."""
        keys = {
            "fast": ("search", "search_precision", "search_reason", "search_seconds"),
            "exact": ("exact_search", "exact_search_precision", "exact_search_reason", "exact_search_seconds"),
        }
        found: dict[str, Any] = {}
        for name, search in self.made.items():
            values = (search.engine, search.precision, search.reason, search.compile_seconds)
            found |= dict(zip(keys[name], values, strict=True))
        return found


def _apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Distance as a share of the norm of `exact`. It is infinite where either is not finite, so that code is not used
    which cannot be compared.
    """
    apart, size = float((found - exact).norm()), float(exact.norm())
    return apart / size if math.isfinite(apart) and math.isfinite(size) and size else math.inf


def _gradient(
    forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    x = images.detach().contiguous().requires_grad_()
    with torch.enable_grad():
        loss = functional.cross_entropy(forward(x), labels, reduction="sum")
        return torch.autograd.grad(loss, x)[0]
