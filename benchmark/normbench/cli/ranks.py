"""`bench rank`: anybody's table by the rule of boards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from normbench.cli.methods import Json, print_json


def rank(
    table: Annotated[Path, typer.Argument(help="A Parquet or CSV file, a row for each run.", metavar="TABLE")],
    value: Annotated[str, typer.Option(help="Column of the numbers, of which more is better.")] = "accuracy",
    method: Annotated[str, typer.Option(help="Column that names methods.")] = "method",
    seed: Annotated[
        str, typer.Option(help="Column of the seeds (or folds): what methods share under one of them pairs their runs.")
    ] = "seed",
    board: Annotated[str | None, typer.Option(help="Column that keeps several boards apart.", metavar="COLUMN")] = None,
    as_json: Json = False,
) -> None:
    """Rank the methods of any table: mean, interval and rank interval of each."""
    from normbench.board.tables import rank_table, read

    found = rank_table(read(table), value=value, method=method, seed=seed, board=board)
    if as_json:
        return print_json(found)
    from normbench.cli.planned import new_console
    from normbench.cli.terminal import render_ranks

    new_console().print(render_ranks(found, value))
    return None
