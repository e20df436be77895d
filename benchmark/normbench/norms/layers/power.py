"""Power normalization, whose state also moves in the backward pass."""

from __future__ import annotations

import torch

from normbench.norms.layers.base import Layer, others, per_channel


class PowerNorm(Layer):
    """Division by the running quadratic mean of each channel, behind a division by that of each position.

    running_square (C,): the running mean of squares. running_product (C,): the running mean of the product of output
    and gradient, which stands in the gradient for that of the batch.
    """

    running_square: torch.Tensor
    running_product: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, channels: int, *, warmup: int, eps: float, momentum: float, affine: bool = True) -> None:
        super().__init__(channels, affine=affine)
        self.warmup = warmup
        self.eps = eps
        self.momentum = momentum
        self.register_buffer("running_square", torch.ones(channels))
        self.register_buffer("running_product", torch.zeros(channels))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps)
        running = per_channel(self.running_square, x)
        if not self.training:
            return x * torch.rsqrt(running + self.eps)
        warm = self.num_batches_tracked < self.warmup
        square = x.square().mean(others(x), keepdim=True)
        y = x * torch.rsqrt(torch.where(warm, square, running) + self.eps)
        if y.requires_grad:
            self._correct(y, warm)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_square.lerp_(square.detach().to(running.dtype).view(-1), self.momentum)
        return y

    def _correct(self, y: torch.Tensor, warm: torch.Tensor) -> None:
        """Put the running product into the gradient of `y`, and move it by this gradient."""
        values = y.detach()
        product = per_channel(self.running_product.clone(), y)  # of the forward pass: the same in each backward pass

        def corrected(gradient: torch.Tensor | None) -> torch.Tensor | None:
            if gradient is None:  # nothing behind depends on the output
                return None
            found = gradient - product * values
            with torch.no_grad():
                moved = self.momentum * (found * values).mean(others(values))
                self.running_product.add_(moved.to(self.running_product.dtype))
            return torch.where(warm, gradient, found)

        y.register_hook(corrected)  # type: ignore[no-untyped-call]
