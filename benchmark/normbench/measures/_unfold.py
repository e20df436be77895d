"""A convolution as a matrix product: its input unfolded into the windows that it multiplies with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normbench.measures._weights import effective_weight

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Examples that are unfolded at a time.
CHUNK = 16


def positions(module: nn.Conv2d | nn.Linear, made: torch.Tensor) -> int:
    """m, the examples times the positions of an output."""
    from torch import nn

    return made.numel() // made.shape[-1 if isinstance(module, nn.Linear) else 1]


def windows(module: nn.Conv2d | nn.Linear, given: torch.Tensor, made: torch.Tensor, every: int = 1) -> torch.Tensor:
    """What each output position multiplies with: (groups, m, n), m = examples times positions, n the fan-in. Of a
    linear layer there is one group.

    `given` and `made`: input and output of the layer. `windows @ weight_rows^T` is the output without bias. Of the
    flattened positions each `every`-th is returned, and no more is held in memory.
    """
    import torch
    from torch import nn

    if isinstance(module, nn.Linear):
        return given.flatten(0, -2)[::every].unsqueeze(0)
    if every == 1:
        return _unfold(module, given, made, slice(None))
    count = made[0, 0].numel()
    return torch.cat(
        [_unfold(module, given[i : i + 1], made, slice(-i * count % every, None, every)) for i in range(len(given))], 1
    )


def weight_rows(module: nn.Conv2d | nn.Linear) -> torch.Tensor:
    """The effective weight, a copy: (groups, rows, n), a row for each output channel."""
    from torch import nn

    training = module.training
    module.eval()
    weight = effective_weight(module).detach().clone().flatten(1)
    module.train(training)
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    return weight.view(groups, weight.shape[0] // groups, -1)


def products(module: nn.Conv2d | nn.Linear, given: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """The layer's output without bias, recomputed in float64: (channels, m)."""
    import torch

    rows = weight_rows(module).double()
    parts = zip(torch.split(given, CHUNK), torch.split(made, CHUNK), strict=True)
    return torch.cat([windows(module, x, y).double() @ rows.mT for x, y in parts], 1).transpose(1, 2).flatten(0, 1)


def _unfold(module: nn.Conv2d, given: torch.Tensor, made: torch.Tensor, chosen: slice) -> torch.Tensor:
    from torch.nn import functional

    padded = functional.pad(
        given, _padding(module, given, made), mode="constant" if module.padding_mode == "zeros" else module.padding_mode
    )
    columns = functional.unfold(padded, module.kernel_size, module.dilation, stride=module.stride)[..., chosen]
    examples, _, count = columns.shape
    return (
        columns.view(examples, module.groups, -1, count)
        .permute(1, 0, 3, 2)
        .reshape(module.groups, examples * count, -1)
    )


def _padding(module: nn.Conv2d, given: torch.Tensor, made: torch.Tensor) -> list[int]:
    """Left, right, top, bottom. Where the padding that the module states does not give the output's size (`same`, and
    layers that pad on their own), what does, the odd one behind.
    """
    sides: list[int] = []
    for axis in (1, 0):
        size, out = given.shape[2 + axis], made.shape[2 + axis]
        kernel, stride, dilation = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
        stated = 0 if isinstance(module.padding, str) else int(module.padding[axis])
        span = dilation * (kernel - 1) + 1
        if (size + 2 * stated - span) // stride + 1 == out:
            sides += [stated, stated]
        else:
            total = max((out - 1) * stride + span - size, 0)
            sides += [total // 2, total - total // 2]
    return sides
