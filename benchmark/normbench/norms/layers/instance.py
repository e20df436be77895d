"""Instance normalization that says what it does on 1x1 maps."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

from normbench.norms.base import NormSiteError
from normbench.norms.layers.base import Layer


class InstanceNorm(Layer):
    """Each channel of each example over its positions. torch's layer raises on 1x1 maps and loses accuracy under
    autocast.
    """

    def __init__(
        self,
        channels: int,
        *,
        eps: float,
        affine: bool = True,
        one_position: Literal["pass", "error"] = "pass",
        site: str = "",
    ) -> None:
        super().__init__(channels, affine=affine)
        self.eps = eps
        self.one_position = one_position
        self.site = site

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 2 or x[0, 0].numel() == 1:
            if self.one_position == "error":
                raise NormSiteError(
                    f"{self.site or 'instance norm'}: a map with one position has no variance; use larger images or "
                    "one_position=pass"
                )
            return x
        if x.is_contiguous():
            return functional.group_norm(x, self.channels, eps=self.eps)  # one kernel instead of five operations
        # In channels_last that kernel takes the mean of squares less the square of the mean on a CPU: where a mean is
        # 100 deviations, 2 % are lost.
        var, mean = torch.var_mean(x, dim=list(range(2, x.ndim)), correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(var + self.eps)
