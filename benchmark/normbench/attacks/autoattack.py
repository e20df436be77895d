"""AutoAttack in L-infinity."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import Field

from normbench.attacks.base import Attack, Pool, Sizes, Threat
from normbench.errors import BenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

TIERS = {"fast": ("apgd-ce", "apgd-t"), "standard": ("apgd-ce", "apgd-t", "fab-t", "square")}
#: Targeted DLR compares with the fourth largest logit.
FEWEST_CLASSES = 4
NO_PACKAGE = "autoattack needs the package pyautoattack: install normbench[autoattack]"


class AutoAttack(Attack):
    """Parameter-free ensemble; an image falls when one of its attacks fools it.

    All images are handed over at once and cut into batches of `batch`, which decide its random starts, so that results
    do not depend on the batches of the evaluation. Runs pyautoattack, which gives the reference implementation's
    results bit by bit. Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", 2020.
    """

    name: ClassVar[str] = "autoattack"
    summary: ClassVar[str] = "AutoAttack, L-infinity (needs the extra normbench[autoattack])"
    aliases: ClassVar[tuple[str, ...]] = ("autoattack-linf", "aa")
    source: ClassVar[str] = "Croce and Hein, ICML 2020"
    threat: ClassVar[Threat] = "linf"
    size_field: ClassVar[str] = "eps"

    eps: Sizes = (8 / 255,)
    """Radii of the L-infinity ball in pixel space."""
    tier: Literal["fast", "standard"] = "fast"
    """`fast`: APGD-CE and targeted APGD; `standard`: FAB-T and Square too, as leaderboards ask for."""
    batch: Annotated[int, Field(ge=1, le=100_000)] = 250
    """Images in work at once; part of the setting, since random starts are drawn batch by batch."""

    def lacks(self, data_dir: Path | None) -> str:
        return "" if find_spec("pyautoattack") else NO_PACKAGE

    def perturb(
        self,
        model: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        size: float,
        generators: list[torch.Generator],
    ) -> torch.Tensor:
        return self.run(model, images, labels, size, generators[0].initial_seed() if generators else 0)

    def examples(
        self, model: nn.Module, pool: Pool, index: torch.Tensor, size: float, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if len(index):
            images, labels = pool.at(index)
            yield index, self.run(model, images, labels, size, pool.seed)

    def run(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, size: float, seed: int) -> torch.Tensor:
        """What pyautoattack makes of `images`: fooling ones where it found them, the others as they were."""
        import torch

        try:
            import pyautoattack
        except ModuleNotFoundError as error:
            raise BenchError(NO_PACKAGE) from error
        with torch.no_grad():
            classes = model(images[:2]).shape[1]
        if classes < FEWEST_CLASSES:
            raise BenchError(
                f"autoattack needs at least {FEWEST_CLASSES} classes (targeted DLR), found {classes}; use bim or "
                "pgd with loss: dlr"
            )
        norm = {"linf": "Linf", "l2": "L2"}[self.threat]
        attack = pyautoattack.AutoAttack(
            model,
            attacks=list(TIERS[self.tier]),
            device=images.device,
            eps=size,
            norm=norm,
            seed=seed,
            version="custom",
        )
        # As `version="standard"` sets them; targets only as many as there are.
        attack.apgd.n_restarts = attack.fab.n_restarts = attack.apgd_targeted.n_restarts = 1
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, classes - 1)
        trace = sys.gettrace()
        try:
            with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
                found, _ = attack.run_standard_evaluation(images, labels, batch_size=self.batch)
        finally:
            sys.settrace(trace)  # one of its checks switches tracing off, and with it coverage and debuggers
        return cast("torch.Tensor", found)
