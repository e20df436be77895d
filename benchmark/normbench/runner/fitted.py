"""Tables that fit a terminal without cutting anything: columns that do not fit stand below, beside the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from normbench.spec.shown import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

#: Characters between two columns.
GAP = 1
#: Columns of words are made no narrower than this, or than their longest word.
WORDS = 24


@dataclass(frozen=True)
class Column:
    """Of a `Fitted` table. A name may have several lines."""

    name: str
    justify: Literal["left", "right"] = "left"
    words: bool = False
    """Whether its cells are sentences, which may go on in the next line."""
    key: bool = False
    """Whether it names the rows: such columns stand in every part of the table."""


def number(name: str) -> Column:
    """A column of numbers: never cut, never broken."""
    return Column(name, justify="right")


@dataclass
class Fitted:
    """A table that is as wide as what it is printed on. Where its columns do not fit side by side, it comes in parts,
    one below the other; with `drop`, in its first part alone, and a line says which columns are not shown.
    """

    columns: Sequence[Column]
    rows: list[tuple[Text, ...]] = field(default_factory=list)
    drop: bool = False
    header_style: str = "bold"

    def add_row(self, *cells: str | Text) -> None:
        self.rows.append(tuple(c if isinstance(c, Text) else Text(visible(c)) for c in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least, natural = self._widths(options.max_width)
        parts = list(self._parts(least, options.max_width))
        for number, part in enumerate(parts):
            if number and self.drop:
                rest = (self.columns[i].name.replace("\n", " ") for p in parts[1:] for i in p if not self._key(i))
                yield Text(f"too narrow for: {', '.join(rest)}", style="dim")
                return
            if number:
                yield Text("the same rows, further columns:", style="dim")
            yield self._table(part, least, natural, options.max_width)

    def _key(self, i: int) -> bool:
        return self.columns[i].key

    def _widths(self, width: int) -> tuple[list[int], list[int]]:
        """Of each column, the width that it needs, and the one that shows every cell on one line."""
        least, natural = [], []
        for i, column in enumerate(self.columns):
            lines = [line for text in (column.name, *(r[i].plain for r in self.rows)) for line in text.split("\n")]
            full = max(map(cell_len, lines))
            word = max((cell_len(word) for line in lines for word in line.split()), default=0)
            need = min(full, max(word, WORDS)) if column.words else full
            need = min(full, max(word, width // 2)) if column.key else need
            least.append(max(1, min(need, width // 2 if column.key else width)))
            natural.append(max(1, full))
        return least, natural

    def _parts(self, least: Sequence[int], width: int) -> Iterator[list[int]]:
        """The columns of each part, by their places."""
        keys = [i for i in range(len(self.columns)) if self._key(i)]
        keyed = sum(least[i] + GAP for i in keys)
        part: list[int] = []
        used = keyed - GAP
        for i in (i for i in range(len(self.columns)) if not self._key(i)):
            if part and used + GAP + least[i] > width:
                yield sorted(keys + part)
                part, used = [], keyed - GAP
            part.append(i)
            used += GAP + least[i]
        yield sorted(keys + part)

    def _table(self, part: Sequence[int], least: Sequence[int], natural: Sequence[int], width: int) -> Table:
        widths = {i: least[i] for i in part}
        free = width - sum(widths.values()) - GAP * (len(part) - 1)
        widest = max(part, key=lambda i: widths[i])
        widths[widest] += min(free, 0)  # one that is wider than the terminal goes on in the next line
        for i in part:
            more = max(0, min(free, natural[i] - least[i]))
            widths[i], free = widths[i] + more, free - more
        headed = any(column.name for column in self.columns)
        table = Table(
            box=None, show_header=headed, header_style=self.header_style, pad_edge=False, padding=(0, GAP, 0, 0)
        )
        for i in part:
            column = self.columns[i]
            table.add_column(
                Text(visible(column.name)),
                justify=column.justify,
                width=max(1, widths[i]),
                overflow="fold",
                no_wrap=False,
            )
        for row in self.rows:
            table.add_row(*(row[i] for i in part))
        return table
