"""An upper bound of a network's Lipschitz constant in eval mode, from one example that runs through it."""

# ruff: noqa: ARG001 - some functions here have the arguments of torch's, of which a bound needs a part
from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from normbench.tensors.private import tensors_in

#: The largest slope of functions of single values.
_SLOPES = {
    **dict.fromkeys(["relu", "relu_", "relu6", "hardtanh", "hardtanh_", "tanh", "abs"], 1.0),
    **dict.fromkeys(["maximum", "clamp", "clamp_min"], 1.0),
    "sigmoid": 0.25,
    "erf": 2 / math.sqrt(math.pi),
    "silu": 1.1,
    "gelu": 1.13,
}
#: Functions that move values, or leave some out.
_MOVES = frozenset(
    [
        *(
            "view",
            "view_as",
            "reshape",
            "flatten",
            "permute",
            "transpose",
            "movedim",
            "unsqueeze",
            "squeeze",
            "__get__",
        ),
        *("contiguous", "clone", "detach", "to", "float", "double", "bfloat16", "type_as", "dropout", "dropout2d"),
    ]
)


class Bound(TorchFunctionMode):
    """Follows `_bound` through the functions of torch: a tensor with this attribute is a function of the image whose
    Lipschitz constant, from the L2 norm of the image to that of the tensor, is at most so large. It is inf behind a
    function that has no bound here. A tensor that needs a gradient and has no such attribute depends on the image by
    ways that were not seen.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [t for t in tensors_in((args, kwargs)) if hasattr(t, "_bound") or t.requires_grad]
        out = func(*args, **kwargs)
        if given:
            made = tensors_in(out)
            bound = _bound(getattr(func, "__name__", ""), given, made, args, kwargs)
            for tensor in made:
                tensor._bound = bound  # type: ignore[attr-defined]
        return out


def lipschitz(model: nn.Module, image: torch.Tensor) -> float:
    """Of `model` in eval mode on images like `image`, `(1, C, H, W)`, L2 to L2; inf where no bound is known."""
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad = False
        with torch.enable_grad(), Bound():
            image = image.detach().clone().requires_grad_()
            image._bound = 1.0  # type: ignore[attr-defined]
            return float(getattr(model(image), "_bound", math.inf))
    finally:
        for parameter in trained:
            parameter.requires_grad_()


def _bound(name: str, given: list[Any], made: list[torch.Tensor], args: Any, kwargs: Any) -> float:
    bounds = [getattr(t, "_bound", math.inf) for t in given]
    largest = max(bounds)
    if name in _SLOPES and len(given) == 1:
        return float(largest * _SLOPES[name])
    if name in _MOVES and len(given) == 1:
        return float(largest)
    if name.endswith("_") and not name.startswith("__") and args[0]._is_view():
        return math.inf  # the tensor that it is a view of changes too, and keeps its bound
    match name.strip("_"):
        case "leaky_relu" if len(given) == 1:
            slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)
            return float(largest * max(1.0, abs(slope)))
        case "getitem" if len(given) == 1 and not _picks(args[1]):
            return float(largest)
        case "pad" if len(given) == 1 and (args[2] if len(args) > 2 else kwargs.get("mode", "constant")) == "constant":
            return float(largest)
        case "add" | "iadd" | "radd" | "sub" | "isub" | "rsub" if not kwargs and _alike(given, made):
            return float(sum(bounds))
        case "mul" | "imul" | "rmul" if _alike(given, made) and len(given) == 1:
            return float(largest * _size(next(a for a in args if a is not given[0])))
        case "truediv" | "div" | "itruediv" if not kwargs and _alike(given, made) and args[0] is given[0]:
            divisor = args[1] if isinstance(args[1], torch.Tensor) else torch.tensor(float(args[1]))
            return float(largest / float(divisor.abs().min())) if len(given) == 1 else math.inf
        case "cat" | "concat" if len(given) == len(args[0]):
            return math.hypot(*bounds)
        case "linear" if len(given) == 1:
            return float(largest * torch.linalg.matrix_norm(args[1].double(), 2))
        case "conv2d" if len(given) == 1:
            return float(largest * _convolution(*args, **kwargs))
        case "batch_norm" if len(given) == 1:
            return float(largest * _batch_norm(*args, **kwargs))
        case "mean" if not kwargs.get("dtype"):
            return float(largest * math.sqrt(made[0].numel() / given[0].numel()))
        case "adaptive_avg_pool2d" if all(
            n % m == 0 for n, m in zip(given[0].shape[-2:], made[0].shape[-2:], strict=True)
        ):
            return float(largest * math.sqrt(made[0].numel() / given[0].numel()))
        case "max_pool2d" | "boolean_dispatch" if made[0].ndim == 4:
            return float(largest * _max_pool(*args, **kwargs))
    return math.inf


def _picks(index: Any) -> bool:
    """Whether an index may name a value twice, as lists and tensors of numbers do."""
    return any(isinstance(i, torch.Tensor | list) for i in (index if isinstance(index, tuple) else (index,)))


def _alike(given: list[torch.Tensor], made: list[torch.Tensor]) -> bool:
    """Nothing is repeated by broadcasting."""
    return all(t.shape == made[0].shape for t in given)


def _size(factor: Any) -> float:
    return float(factor.abs().max()) if isinstance(factor, torch.Tensor) else abs(float(factor))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _windows(kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> int:
    """At how many positions of the kernel a value of the input is read, at most."""
    return math.prod(math.ceil(k / (s // math.gcd(s, d))) for k, s, d in zip(kernel, stride, dilation, strict=True))


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> float:
    """The smaller of two bounds of a convolution with zeros around its input: the norm of its matrix of rows times the
    root of the number of positions at which a value is read; and the largest singular value over the frequencies of a
    circle that is long enough for the whole convolution, of which padding and stride leave out a part.
    """
    dilated, size = _pair(dilation), x.shape[-2:]
    kernel = (weight.shape[2], weight.shape[3])
    each = weight.double().reshape(groups, -1, *weight.shape[1:])
    rows = torch.linalg.matrix_norm(each.flatten(2), 2).max() * math.sqrt(_windows(kernel, _pair(stride), dilated))
    if kernel == (1, 1):
        return float(rows)
    spread = each.new_zeros(*each.shape[:3], *(d * (k - 1) + 1 for d, k in zip(dilated, kernel, strict=True)))
    spread[..., :: dilated[0], :: dilated[1]] = each
    circle = [n + k - 1 for n, k in zip(size, spread.shape[-2:], strict=True)]
    frequencies = torch.fft.rfft2(spread, s=circle).movedim((-2, -1), (0, 1))
    return float(torch.minimum(rows, torch.linalg.matrix_norm(frequencies, 2).max()))


def _batch_norm(
    x: torch.Tensor,
    mean: torch.Tensor | None,
    var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> float:
    """In eval mode it is a factor of each channel."""
    if training or var is None:
        return math.inf
    factors = torch.rsqrt(var.double() + eps) * (1.0 if weight is None else weight.double())
    return float(factors.abs().max())


def _max_pool(
    x: torch.Tensor, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *_: Any, **__: Any
) -> float:
    return math.sqrt(_windows(_pair(kernel), _pair(stride or kernel), _pair(dilation)))
