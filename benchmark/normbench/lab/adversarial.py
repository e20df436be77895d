"""Adversarial training: batches are replaced by what an attack makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from normbench.attacks import Attack, registry
from normbench.attacks._gradient import GradientAttack
from normbench.lab.engine.gradients import CompiledGradients
from normbench.lab.engine.steps import age
from normbench.spec.trial import Component
from normbench.tensors.snapshot import unchanging, undisturbed


class Adversary:
    """Perturbs training batches with the attack of `train.adversarial`, at its only size.

    The network is attacked in eval mode: the attack must not move running statistics, power iterations or drop-out, and
    the tested network is in eval mode too. The loss of the perturbed batch is then taken in training mode. Source:
    Madry et al. 2018, equation 2.1; with one step from a random start: Wong, Rice and Kolter, "Fast is better than
    free", 2020.

    search: after `prepare`, the model whose gradients the attack climbs; None: the network itself.
    """

    def __init__(self, component: Component) -> None:
        self.attack: Attack = registry.from_component(component)
        (self.size,) = self.attack.sizes
        self.search: CompiledGradients | None = None

    def prepare(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
        """From now on, climb gradients of compiled code for batches like this one. An attack that climbs no gradient
        stays as it is.

        The code always computes in float32: nothing verifies the perturbed images, so low precision would change the
        training. It is compared with the network (see `normbench.lab.engine.gradients`) as that might be late in
        training: at the start, running statistics show nothing, and a head of zeros has no gradient.
        """
        if not isinstance(self.attack, GradientAttack):
            return
        search = CompiledGradients(model, "float32")
        with undisturbed(model):
            age(model)
            model.requires_grad_(False)
            search.prepare(images, labels, beside=True)
        self.search = search

    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        """Perturb `images`, float (N, C, H, W) in [0, 1], without early exit. `seeds`: of the draws for each image."""
        with unchanging(model):
            if self.search:
                found = self._perturbed(_Climbed(model, self.search).eval(), images, labels, seeds)
                if not self.search.overflowed():
                    return found
            return self._perturbed(model, images, labels, seeds)

    def _perturbed(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return self.attack.perturb(model, images, labels, self.size, generators).detach()


class _Climbed(nn.Module):
    """The network as attacks see it: where they ask for a gradient, the search answers."""

    def __init__(self, model: nn.Module, search: CompiledGradients) -> None:
        super().__init__()
        self.model = model
        self._search = search

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._search(images) if images.requires_grad else self.model(images)
        return logits
