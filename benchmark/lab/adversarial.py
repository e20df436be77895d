"""Adversarial training: batches are replaced by what an attack makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from benchmark.attacks import Attack, registry
from benchmark.attacks._gradient import GradientAttack
from benchmark.lab.search import Search
from benchmark.trial import Component


class Adversary:
    """Perturbs training batches with the attack of `train.adversarial`, at its only size.

    The network is attacked in eval mode: crafting must not move running statistics, power iterations or drop-out, and the network that is attacked is the
    one that will be tested. The loss of the perturbed batch is then taken in training mode as ever.
    Source: Madry et al. 2018, equation 2.1; with one step from a random start: Wong, Rice and Kolter, "Fast is better than free", 2020.

    search: what the attack climbs the gradients of, after `prepare`; None: the network itself, in float32.
    """

    def __init__(self, component: Component) -> None:
        self.attack: Attack = registry.from_component(component)
        (self.size,) = self.attack.sizes
        self.search: Search | None = None

    def prepare(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, precision: str) -> None:
        """Climb gradients of compiled code from now on, for batches like this one, in low precision where the training is; see `benchmark.lab.search`.

        Nothing verifies the perturbed images: they are training data, and what they do to the network is measured in the end. Attacks that climb no
        gradient, and foolbox's own, stay as they are.
        """
        if isinstance(self.attack, GradientAttack) and self.attack.engine != "foolbox":
            search = Search(model, precision)
            with _attacked(model):
                search.prepare(images, labels, beside=True)
            self.search = search

    def __call__(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Perturbed `images`, float (N, C, H, W) in [0, 1], no early exit. Seeds are drawn from `generator`, one an image."""
        seeds = torch.randint(0, 2**62, (len(images),), generator=generator).tolist()
        climbed = _Climbed(self.search) if self.search else model
        with _attacked(model):
            return self.attack.perturb(climbed, images, labels, self.size, [torch.Generator().manual_seed(seed) for seed in seeds]).detach()


class _Climbed(nn.Module):
    """A search as the module that attacks expect."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._search(images)


@contextmanager
def _attacked(model: nn.Module) -> Iterator[None]:
    """Eval mode and parameters without gradients for a while."""
    modes = [(module, module.training) for module in model.modules()]
    needs = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    model.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, needed in needs:
            parameter.requires_grad_(needed)
