"""Mixup and CutMix, by timm: a batch is mixed with itself in reverse order, and so are its labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from timm.data import Mixup

from normbench.spec.trial import TrainSpec


class Mixer:
    """Mixes batches as `spec` says; one share, or one window, for all images of a batch.

    classes: how many there are. Label smoothing is left to the loss, which takes it to mixed labels the same way.

    Sources: Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, arXiv:1710.09412; Yun et al., CutMix,
    ICCV 2019, arXiv:1905.04899.
    """

    def __init__(self, spec: TrainSpec, classes: int) -> None:
        self._mixup = Mixup(mixup_alpha=spec.mixup, cutmix_alpha=spec.cutmix, label_smoothing=0.0, num_classes=classes)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix `images`, float (B, C, H, W), in place. Returns them and the share of each class in each, float (B,
        classes). labels: int64 (B,); B is even. seed: of what is drawn, from 0 to 2**32 - 1.
        """
        with _drawing(seed):
            mixed: tuple[torch.Tensor, torch.Tensor] = self._mixup(images, labels)
        return mixed


def mixer(spec: TrainSpec, classes: int) -> Mixer | None:
    """What mixes the batches; None where nothing does."""
    return Mixer(spec, classes) if spec.mixup or spec.cutmix else None


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Inside, numpy's global stream, from which timm draws, starts at `seed`; afterwards it goes on as before."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
