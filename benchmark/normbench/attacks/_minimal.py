"""Attacks that look for the smallest perturbation that fools, through foolbox."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

from normbench.attacks.base import Attack, Pool, plain

if TYPE_CHECKING:
    import torch
    from torch import nn


class MinimalAttack(Attack):
    """One run an image; the harness scores what comes back, cut to [0, 1], by its distance against every size.

    one_by_one: True where an image's result depends on random draws or on the other images of its batch: images are
    then attacked alone, each with
        torch's global generator seeded by trial and image.
    """

    minimal: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = False

    @abstractmethod
    def foolbox(self) -> Any:
        """The foolbox attack that this is."""

    def examples(
        self, model: nn.Module, pool: Pool, index: torch.Tensor, size: float, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As those of other attacks. Where no image is attacked, as when all are wrong as they are, there is no batch:
        foolbox takes none that is empty.
        """
        if len(index):
            yield from super().examples(model, pool, index, size, batch_size)

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        import torch

        groups = torch.split(
            torch.arange(len(images), device=images.device), 1 if self.one_by_one else max(1, len(images))
        )
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            found = []
            for group in groups:
                torch.manual_seed(generators[int(group[0])].initial_seed() if generators else 0)
                found.append(self.search(model, images[group], labels[group]))
        return torch.cat(found).detach().clamp(0, 1)

    def search(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, **starts: torch.Tensor
    ) -> torch.Tensor:
        """Run the foolbox attack on one batch."""
        import foolbox

        attacked = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        return cast(
            "torch.Tensor",
            plain(self.foolbox().run(attacked, images, foolbox.criteria.Misclassification(labels), **starts)),
        )
