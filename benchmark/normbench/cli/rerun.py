"""`bench rerun`: one stored trial again, in this place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench.cli import completion
from normbench.cli.methods import Json, print_json
from normbench.cli.results import Results, open_store
from normbench.cli.say import screen, shown
from normbench.paths import data_dir as folder_of_data

if TYPE_CHECKING:
    from rich.console import Console

    from normbench.store.marks import Compared
    from normbench.trust.rerun import Checked

InSuite = Annotated[
    str | None,
    typer.Option(
        "--suite", help="Where several suites hold the trial: which.", metavar="SUITE", autocompletion=completion.suites
    ),
]


def rerun(
    trial: Annotated[
        str,
        typer.Argument(
            help="The id of a stored trial, or the first digits of it.",
            metavar="TRIAL",
            autocompletion=completion.trials,
        ),
    ],
    suite: InSuite = None,
    results: Results = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of datasets [default: BENCH_DATA].", metavar="DIR")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a stored trial again from its specification, all of it, and compare; nothing is stored. Exit code 1 where the
    numbers are not the same.
    """
    from normbench.plan.fingerprints import Fingerprints
    from normbench.store.find import find
    from normbench.trust.rerun import Rerun, Verdict

    store = open_store(results, must_exist=True)
    row = find(store, trial, suite=suite, columns=["suite", "trial_id"])
    data_dir, console = folder_of_data(data), screen()
    with console.status(f"running {row['trial_id']} again") as status:

        def report(progress: dict[str, object]) -> None:
            status.update(f"{progress['phase']}, epoch {progress['epoch']:.1f} of {progress['epochs']}")

        bench = Rerun(data_dir=data_dir, fingerprints=Fingerprints(data_dir, download=True), rerun=True, report=report)
        found = bench.again(store, row["suite"], row["trial_id"])
    if as_json:
        print_json(_as_json(row["suite"], row["trial_id"], found))
    else:
        _show(row["suite"], row["trial_id"], found, console)
    if found.verdict is not Verdict.HOLDS:
        raise typer.Exit(1)


def _as_json(suite: str, trial_id: str, found: Checked) -> dict[str, object]:
    return {
        "suite": suite,
        "trial_id": trial_id,
        "verdict": found.verdict.value,
        "reasons": found.reasons,
        "notes": found.notes,
        "compared": [c.model_dump() | {"holds": c.holds} for c in found.compared],
    }


def _show(suite: str, trial_id: str, found: Checked, console: Console) -> None:
    from rich.table import Table

    console.print(f"{suite}/{trial_id}  {found.title}", soft_wrap=True)
    for note in found.notes:
        console.print(f"  here: {note}", soft_wrap=True)
    if found.compared:
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        for name in ("", "stored", "here", "tolerance", ""):
            table.add_column(name, justify="right" if name else "left")
        for one in found.compared:
            table.add_row(shown(one.what), *_numbers(one), "" if one.holds else "differs")
        console.print(table)
    for reason in found.reasons:
        console.print(f"{found.verdict.value}: {reason}", soft_wrap=True)


def _numbers(one: Compared) -> tuple[str, str, str]:
    pair = ("none" if value is None else f"{value:.2%}" for value in (one.expected, one.found))
    return (*pair, f"{one.tolerance:.2%}")  # type: ignore[return-value]
