"""What a normalization layer does to a network: a benchmark. `docs/python.md` shows all that follows.

Networks:
    `swap` replaces the normalization of any network, `layer` makes one layer, `norms` lists the methods
    `evaluate` attacks any network that maps pixels to logits; `attacks` and `measures` list what there is

Trials:
    `run` runs a suite, `trial` one of its trials in this process
    `load` is the trained network of a trial whose weights were kept
    `results` reads what is stored, as tables; `board` makes the boards of a suite
    `rank` is the rule that tells methods apart, for any table

What a caller can mend raises `BenchError` with one message.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normbench.api.boards import board as board
    from normbench.api.evaluation import evaluate as evaluate
    from normbench.api.methods import attacks as attacks
    from normbench.api.methods import measures as measures
    from normbench.api.methods import norms as norms
    from normbench.api.networks import layer as layer
    from normbench.api.networks import swap as swap
    from normbench.api.runs import run as run
    from normbench.api.runs import trial as trial
    from normbench.api.stored import results as results
    from normbench.api.weights import load as load
    from normbench.board.tables import rank_table as rank
    from normbench.errors import BenchError as BenchError

__all__ = [
    "BenchError",
    "__version__",
    "attacks",
    "board",
    "evaluate",
    "layer",
    "load",
    "measures",
    "norms",
    "rank",
    "results",
    "run",
    "swap",
    "trial",
]
__version__ = "0.1.0"

#: The module of each name of the interface, and what it is called there. It is imported when the name is first used, so
#: that `import normbench` takes no time. Four names are those of rooms too: see `normbench.spec.rooms`.
PLACES = {
    "BenchError": ("normbench.errors", "BenchError"),
    "attacks": ("normbench.api.methods", "attacks"),
    "board": ("normbench.api.boards", "board"),
    "evaluate": ("normbench.api.evaluation", "evaluate"),
    "layer": ("normbench.api.networks", "layer"),
    "load": ("normbench.api.weights", "load"),
    "measures": ("normbench.api.methods", "measures"),
    "norms": ("normbench.api.methods", "norms"),
    "rank": ("normbench.board.tables", "rank_table"),
    "results": ("normbench.api.stored", "results"),
    "run": ("normbench.api.runs", "run"),
    "swap": ("normbench.api.networks", "swap"),
    "trial": ("normbench.api.runs", "trial"),
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in {"attacks", "board", "measures", "norms"}:
        return import_module(f"{__name__}.{name}")
    module, inner = PLACES[name]
    globals()[name] = found = getattr(import_module(module), inner)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
