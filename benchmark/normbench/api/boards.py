"""Boards of a suite: `normbench.board`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, overload

from normbench.api._suites import Only, SuiteLike, filters, suite_of
from normbench.api._words import in_python
from normbench.api.stored import Kind, converted

if TYPE_CHECKING:
    from normbench.board.tuning import Sweep
    from normbench.board.types import Board

#: The columns that say which board a row is of.
_BOARD = ("board", "title", "dataset", "model", "stem", "width", "batch_size", "device_class", "precision")
_NUMBERS = ("value", "low", "high", "n")


@dataclass(frozen=True, repr=False)
class Boards(Sequence["Board"]):
    """The boards of a suite, in the order of `bench board`. Printed, they are its tables."""

    boards: tuple[Board, ...]
    tuning: tuple[Sweep, ...]
    """What was tried where the suite tunes."""

    @overload
    def __getitem__(self, index: int) -> Board: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Board]: ...
    def __getitem__(self, index: int | slice) -> Board | Sequence[Board]:
        return self.boards[index]

    def __len__(self) -> int:
        return len(self.boards)

    def __iter__(self) -> Iterator[Board]:
        return iter(self.boards)

    def table(self, to: Kind = "arrow") -> Any:
        """A row for each board, entry (method and settings) and metric: `value` is the mean over `n` seeds, `low` and
        `high` the interval by which methods are told apart, `best` and `worst` the rank; null where there is none.
        Accuracies are shares in [0, 1].
        """
        import pyarrow as pa

        from normbench.board import boards_json

        rows = [
            {k: board[k] for k in _BOARD}
            | {k: entry[k] for k in ("entry", "norm", "label", "status")}
            | {"metric": key, "metric_label": cell["label"]}
            | {k: cell[k] for k in _NUMBERS}
            | dict(zip(("best", "worst"), cell["rank"] or (None, None), strict=True))
            for board in boards_json(self.boards)
            for entry in board["entries"]
            for key, cell in entry["metrics"].items()
        ]
        return converted(pa.Table.from_pylist(rows), to)

    def __str__(self) -> str:
        from normbench.cli.say import screen
        from normbench.cli.terminal import render_all

        console = screen()
        console.record, console.file = True, StringIO()
        console.print(render_all(self.boards, self.tuning))
        return "\n".join(line.rstrip() for line in console.export_text().strip("\n").splitlines())

    __repr__ = __str__


@in_python()
def board(
    suite: SuiteLike,
    *,
    only: Only = (),
    results: str | PathLike[str] | None = None,
    together: bool = False,
) -> Boards:
    """The boards of a suite from what is stored; nothing is run.

    suite, only, results: as in `normbench.run`. together: average over classes of devices and precisions, which stand
    apart without it. Raises `BenchError`.
    """
    from normbench.cli.boards import boards_of
    from normbench.cli.results import open_store
    from normbench.plan.plan import known
    from normbench.suite.only import chosen

    loaded = suite_of(suite)
    trials, searches = chosen(loaded, filters(only))
    store = open_store(None if results is None else fspath(results))
    made, tried = boards_of(loaded, store, known(loaded.name, trials, searches, store), together=together)
    return Boards(tuple(made), tuple(tried))
