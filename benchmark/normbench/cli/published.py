"""`bench published`: printed numbers, and our own beside them."""

from __future__ import annotations

from normbench.cli.methods import Json, print_json
from normbench.cli.results import Results, open_store
from normbench.cli.say import say, screen


def published(results: Results = None, as_json: Json = False) -> None:
    """Set printed tables beside what was run here: numbers, intervals, differences, what differs in the protocol."""
    from normbench.pages.results import load
    from normbench.published import beside

    found = beside(load(open_store(results, reads=True), None).boards)
    if as_json:
        return print_json([one.plain() for one in found])
    from normbench.runner.fitted import Column, Fitted

    for one in found:
        table = one.table
        say(f"\n{table.title} (suite {table.suite}: {one.run} of {len(one.lines)} numbers run)")
        say(f"printed: {table.source}")
        say(f"setting: {table.setting}")
        drawn = Fitted(
            [
                *(Column("network", key=True), Column("method", key=True), Column("accuracy, %", words=True)),
                *(Column("printed"), Column("here", words=True), Column("difference")),
            ]
        )
        for line in one.lines:
            drawn.add_row(
                line.row.model,
                line.row.norm,
                line.printed.what,
                line.printed.text,
                line.here + (f" ({line.status})" if line.own and line.status else ""),
                line.difference_text,
            )
        screen().print(drawn)
        if table.spread:
            say(f"± in print: {table.spread}")
        for text in table.differs:
            say(f"differs: {text}")
    return None
