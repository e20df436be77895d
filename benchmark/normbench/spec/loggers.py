"""Loggers that people have beside this benchmark: their names, and the packages that they need."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class LoggerKind:
    """A kind of logger. `package`: what must be there to import, and `extra`: how it is installed."""

    package: str
    extra: str

    @property
    def lacks(self) -> str:
        """What is missing on this machine, and how to get it; empty where nothing is."""
        if find_spec(self.package) is not None:
            return ""
        return f"the package {self.package}: install normbench[{self.extra}]"


LOGGERS = {name: LoggerKind(package=name, extra=name) for name in ("tensorboard", "wandb", "mlflow")}
