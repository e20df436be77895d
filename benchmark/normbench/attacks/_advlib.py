"""Minimal attacks of adversarial-library, a second source beside foolbox; the package is called adv-lib."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from normbench.attacks._minimal import MinimalAttack

if TYPE_CHECKING:
    import torch
    from torch import nn

PACKAGE = "adv-lib"


class AdversarialLibraryAttack(MinimalAttack):
    """One run an image, by a function of `adv_lib.attacks`.

    package: what a result's identity has the version of. function: its name there.
    """

    package: ClassVar[str] = PACKAGE
    function: ClassVar[str]

    @abstractmethod
    def arguments(self) -> Mapping[str, Any]:
        """What the function is given besides the model, images and labels."""

    def foolbox(self) -> Any:
        raise NotImplementedError(f"{self.name} is run by {PACKAGE}")

    def lacks(self, data_dir: Path | None) -> str:
        # visdom, whose build fails with a new setuptools, may be missing beside it; it is imported with every attack.
        if all(map(find_spec, ("adv_lib", "visdom"))):
            return ""
        return f"{self.name} needs the package {PACKAGE}: install normbench[advlib]"

    def search(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, **starts: torch.Tensor
    ) -> torch.Tensor:
        """Run the function on one batch."""
        from normbench.errors import BenchError

        if lack := self.lacks(None):
            raise BenchError(lack)
        import adv_lib.attacks

        return cast("torch.Tensor", getattr(adv_lib.attacks, self.function)(model, images, labels, **self.arguments()))
