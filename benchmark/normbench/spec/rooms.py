"""Rooms of the house that are functions of the interface too: `normbench.norms` holds the methods, `normbench.norms()`
lists them.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A package that can be called: as the function of its name in the interface (`normbench.PLACES`)."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    def __reduce__(self) -> tuple[Any, ...]:
        """As its name, which is how modules travel to Ray's workers; pickle knows only plain ones."""
        return import_module, (self.__name__,)

    @property
    def function(self) -> Any:
        """The function; its module is loaded now."""
        face, _, name = self.__name__.rpartition(".")
        module, inner = import_module(face).PLACES[name]
        return getattr(import_module(module), inner)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.function)


def callable_room(name: str) -> None:
    """Make the package `name` callable. Giving a module a class of one's own is what Python's data model offers for
    this.
    """
    sys.modules[name].__class__ = Room
