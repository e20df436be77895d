"""HopSkipJump: decision-based."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from normbench.attacks._minimal import MinimalAttack
from normbench.attacks.base import Pool, Radii, Threat

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Test images among which starting points are looked for.
STARTS = 256


class HopSkipJump(MinimalAttack):
    """Walks along the decision boundary from an image of another class, estimating its normal from predicted classes
    alone.

    It starts at the first test image that the network puts into another class; where it puts all into one, nothing is
    perturbed. Source: Chen, Jordan and Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", 2020,
    algorithm 2.
    """

    name: ClassVar[str] = "hopskipjump"
    summary: ClassVar[str] = "HopSkipJump, minimal L2, black box (predicted classes only)"
    aliases: ClassVar[tuple[str, ...]] = ("hopskipjump-l2", "hsj")
    source: ClassVar[str] = "Chen et al., S&P 2020, algorithm 2"
    threat: ClassVar[Threat] = "l2"
    size_field: ClassVar[str] = "eps"
    one_by_one: ClassVar[bool] = True

    eps: Radii = (0.25, 0.5, 1.0)
    """Radii of the L2 ball in pixel space at which the distances are scored."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 10
    first_queries: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Predictions for the first estimate of the normal; the t-th takes sqrt(t) times as many."""
    most_queries: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Upper limit of that."""

    def foolbox(self) -> Any:
        import foolbox

        return foolbox.attacks.HopSkipJumpAttack(
            steps=self.steps, initial_gradient_eval_steps=self.first_queries, max_gradient_eval_steps=self.most_queries
        )

    def examples(
        self, model: nn.Module, pool: Pool, index: torch.Tensor, size: float, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        candidates, _ = pool.at(torch.arange(min(STARTS, len(pool.labels))))
        with torch.no_grad():
            classes = torch.cat([model(part).argmax(1) for part in torch.split(candidates, batch_size)])
        for chosen in torch.split(index, 1) if len(index) else ():
            image, label = pool.at(chosen)
            others = (classes != label).nonzero().flatten()
            if not len(others):
                yield chosen, image
                continue
            with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
                torch.manual_seed(pool.seed_of(self.name, int(chosen)))
                yield (
                    chosen,
                    self.search(model, image, label, starting_points=candidates[others[:1]]).detach().clamp(0, 1),
                )
