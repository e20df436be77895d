"""The loss of a probe as a function of the network's parameters: value, gradient, Hessian times a vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from normbench.tensors.private import weight_norm
from normbench.tensors.snapshot import Values

#: `train`: statistics of the batch, which couple its examples, and noise and drop-out as in a step; `eval`: running
#: statistics.
Mode = Literal["train", "eval"]


class TwiceDifferentiable(TorchFunctionMode):
    """Writes out what torch has a fused kernel for whose second derivative is missing or, with weight normalization in
    torch 2.15, wrong.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is weight_norm:
            v, g, dim = args
            axes = [axis for axis in range(v.ndim) if axis != dim]
            return v * (g / torch.linalg.vector_norm(v, dim=axes, keepdim=True))
        return func(*args, **(kwargs or {}))


class ProbeLoss:
    """Mean cross-entropy of `model` on `images` (N, C, H, W) and `labels` (N,), as a function of the parameters that
    are trained.

    Computed in the precision of the parameters. Every evaluation starts from the buffers and the random stream that the
    first one started from, so that noise, drop-out, power iterations and corrections by running statistics are the same
    at every point: the loss is a function. Vectors are flat, `(P,)`, with the parameters in the network's order.
    """

    def __init__(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, mode: Mode, seed: int) -> None:
        self.model = model.train(mode == "train")
        self.parameters: Sequence[nn.Parameter] = [p for p in model.parameters() if p.requires_grad]
        self.images = images.to(self.parameters[0].dtype)
        self.labels = labels
        self.seed = seed
        self._buffers = {name: b.clone() for name, b in model.named_buffers()}

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum(p.numel() for p in self.parameters)

    def loss(self) -> torch.Tensor:
        """The loss here, with its graph."""
        buffers = {name: b.clone() for name, b in self._buffers.items()}  # the graph of an earlier loss needs its own
        devices = [self.images.device] if self.images.is_cuda else []
        with torch.random.fork_rng(devices=devices), sdpa_kernel(SDPBackend.MATH), TwiceDifferentiable():
            torch.manual_seed(self.seed)
            logits = torch.func.functional_call(self.model, buffers, (self.images,))
            return functional.cross_entropy(logits, self.labels)

    def gradient(self) -> tuple[float, torch.Tensor]:
        """The loss here and its gradient."""
        loss = self.loss()
        return float(loss.detach()), flat(
            torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        )

    def hessian(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function v -> H v of the Hessian here, by a second backward pass through the graph of the gradient, which
        it keeps.
        """
        gradients = torch.autograd.grad(
            self.loss(), self.parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )

        return lambda vector: _through(gradients, self.parameters, vector)

    @contextmanager
    def moved(self, by: torch.Tensor) -> Iterator[None]:
        """The parameters plus `by` inside, and to the bit what they were afterwards."""
        before = Values(self.parameters)
        try:
            with torch.no_grad():
                for parameter, part in zip(self.parameters, self.split(by), strict=True):
                    parameter.add_(part)
            yield
        finally:
            before.restore()

    def split(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """A flat vector in the shapes of the parameters."""
        return _split(vector, self.parameters)


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All values in one vector, in order."""
    return torch.cat([t.reshape(-1) for t in tensors])


def _split(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    parts = torch.split(vector, [p.numel() for p in like])
    return [part.view_as(p) for part, p in zip(parts, like, strict=True)]


def _through(
    gradients: Sequence[torch.Tensor], parameters: Sequence[nn.Parameter], vector: torch.Tensor
) -> torch.Tensor:
    pairs = [(g, v) for g, v in zip(gradients, _split(vector, parameters), strict=True) if g.requires_grad]
    if not pairs:  # the loss is linear in the parameters
        return torch.zeros_like(vector)
    product = torch.autograd.grad(
        [g for g, _ in pairs],
        parameters,
        [v for _, v in pairs],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return flat(product).detach()
