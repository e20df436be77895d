"""What a normalization layer does to a network: a benchmark.

`rank`: the rule that tells methods apart, for any table (see `normbench.board.tables.rank_table`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normbench.board.tables import rank_table as rank

__all__ = ["__version__", "rank"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The interface is imported when it is first used, so that `import normbench` takes no time."""
    if name == "rank":
        from normbench.board.tables import rank_table

        return rank_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
