"""What is registered: `normbench.norms()`, `normbench.attacks()`, `normbench.measures()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from normbench.spec.plugins import Plugin
from normbench.spec.text import parameters

if TYPE_CHECKING:
    from normbench.attacks.base import Attack
    from normbench.measures.base import Measure
    from normbench.norms.base import Norm
    from normbench.spec.plugins import Registry

P = TypeVar("P", bound=Plugin)


class Listing(dict[str, type[P]]):
    """Plug-ins by name, each the class that says what it is: `summary`, `source`, and parameters with their defaults as
    pydantic's fields. Shown, it is a line for each.
    """

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:{width}}  {cls.summary}{_parameters(cls)}" for name, cls in self.items())


def norms() -> Listing[Norm]:
    """The normalization methods by name.

    Each is a class with `summary`, `source` (paper), `equation`, `family` and `claims`. Suites, `swap` and `layer` take
    a name with parameters in brackets, and `+` between a weight method, an activation method and a modifier:
    `"ws+gn[groups=8]"`. Methods that cannot be imported are left out; `bench norms` says why.
    """
    from normbench.norms import registry

    return _listing(registry)


def attacks() -> Listing[Attack]:
    """The attacks and noises by name.

    Each is a class with `summary`, `source` and `threat` (the ball that sizes are radii of). Sizes (`eps`, `std`) are
    in pixel space [0, 1].
    """
    from normbench.attacks import registry

    return _listing(registry)


def measures() -> Listing[Measure]:
    """The measures by name, each a class with `summary` and `source`. A suite lists them under `measures`."""
    from normbench.measures import registry

    return _listing(registry)


def _listing(registry: Registry[P]) -> Listing[P]:
    broken = registry.problems()
    return Listing({name: registry.get(name) for name in registry.names() if name not in broken})


def _parameters(cls: type[Plugin]) -> str:
    """Parameters with their defaults, as they are written in brackets."""
    told = parameters({k: f.get_default(call_default_factory=True) for k, f in cls.model_fields.items()})
    return f"  [{told}]" if told else ""
