"""`bench data`: what a dataset holds, before anything is trained; and the way of other layouts to Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from normbench.cli.methods import Json, print_json
from normbench.cli.planned import Data
from normbench.cli.say import say, screen, shown, visible
from normbench.paths import data_dir as folder_of_data

if TYPE_CHECKING:
    from rich.console import Console

    from normbench.lab.data.look import Look
    from normbench.spec.trial import DataSpec


class _Shows(TyperGroup):
    """`bench data X` is `bench data show X`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Shows,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show what a dataset holds (bench data DATASET), or bring it into Parquet (bench data import DATASET OUT).",
)
Dataset = Annotated[
    str, typer.Argument(help="As in a suite: a name, hub:owner/name, or a path such as ./flowers.", metavar="DATASET")
]
Size = Annotated[
    int | None,
    typer.Option("--image-size", min=4, max=1024, help="Side in pixels to bring images to, as data.image_size."),
]
ImageColumn = Annotated[str | None, typer.Option("--image-column", help="As data.image_column.", metavar="NAME")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="As data.label_column.", metavar="NAME")]
TrainSplit = Annotated[str, typer.Option("--train-split", help="As data.train_split.", metavar="NAME")]
TestSplit = Annotated[str, typer.Option("--test-split", help="As data.test_split.", metavar="NAME")]
#: Classes that the terminal lists; JSON has all.
_LISTED = 40


@app.command()
def show(
    dataset: Dataset,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Also write a contact sheet, a PNG, to this file.", metavar="FILE")
    ] = None,
    image_size: Size = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    train_split: TrainSplit = "train",
    test_split: TestSplit = "test",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show what is read of a dataset: images, classes, pixels. `show` may be left out."""
    from normbench.errors import BenchError
    from normbench.lab.data import locate
    from normbench.lab.data.look import look

    spec = _spec(dataset, image_size, image_column, label_column, train_split, test_split)
    source = locate(spec, folder_of_data(data), download=True)
    assert source is not None  # noqa: S101 - a download was allowed
    found, images = look(spec, source)
    if sheet is not None:
        from normbench.lab.data.sheet import sheet as draw
        from normbench.store.files import write_named

        try:
            write_named(sheet, draw(images, [visible(name) for name in images.classes]))
        except OSError as error:
            raise BenchError(f"--sheet {sheet}: cannot write it: {error.strerror}") from error
    if as_json:
        return print_json(found.to_dict())
    _show(found, screen())
    return say(f"contact sheet: {sheet}") if sheet else None


@app.command("import")
def import_(
    dataset: Dataset,
    out: Annotated[Path, typer.Argument(help="Folder to write, which is missing or empty.", metavar="OUT")],
    test: Annotated[
        float | None,
        typer.Option(
            "--test", help="Of a dataset without a test part, the share of images that becomes one.", metavar="SHARE"
        ),
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    train_split: TrainSplit = "train",
    test_split: TestSplit = "test",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write any dataset that is read as Parquet: quicker to read, with the same fingerprint, so that results stay
    good.
    """
    from normbench.errors import BenchError
    from normbench.lab.data.importing import import_dataset

    if test is not None and not 0 < test < 1:
        raise BenchError(f"--test {test:g}: expected a share of the images above 0 and below 1, such as 0.2")
    spec = _spec(dataset, None, image_column, label_column, train_split, test_split)
    done = import_dataset(spec, folder_of_data(data), out, test_share=test)
    if as_json:
        return print_json(
            {
                "folder": str(done.folder),
                "fingerprint": done.fingerprint,
                "train": done.train,
                "test": done.test,
                "classes": list(done.classes),
                "files": list(done.files),
            }
        )
    named = str(out) if "/" in str(out) else f"./{out}"
    say(
        f"wrote {len(done.files)} files to {out}: {done.train:,} training images, {done.test:,} test images, "
        f"{len(done.classes)} classes"
    )
    return say(f"in a suite: data: {{dataset: {named}}}; look at it: bench data {named}")


def _spec(
    dataset: str, image_size: int | None, image: str | None, label: str | None, train: str, test: str
) -> DataSpec:
    from normbench.spec.trial import DataSpec

    return DataSpec(
        dataset=dataset,
        image_size=image_size,
        image_column=image,
        label_column=label,
        train_split=train,
        test_split=test,
    )


def _show(found: Look, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    def line(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    kind = "grey" if found.channels == 1 else "RGB"
    line(f"{found.dataset}: {found.layout}, {found.side}x{found.side} {kind}, {len(found.classes)} classes")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "train", "test"):
        table.add_column(column, justify="right" if column else "left")
    parts = (found.train, found.test)
    rows = {
        "read from": [_files(part.files) for part in parts],
        "images": [f"{part.images:,}" for part in parts],
        "pixel mean": [_channels(part.mean) for part in parts],
        "deviation": [_channels(part.std) for part in parts],
        "least and largest": [f"{part.least} {part.largest}" for part in parts],
        "grey levels": [f"{part.levels} of 256" for part in parts],
    }
    for what, values in rows.items():
        table.add_row(what, *map(shown, values))
    console.print(table)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("class", "train", "test"):
        table.add_column(column, justify="left" if column == "class" else "right")
    counts = list(zip(found.classes, found.train.counts, found.test.counts, strict=True))
    for name, train, test in counts[:_LISTED]:
        table.add_row(shown(name), f"{train:,}", f"{test:,}")
    console.print(table)
    if len(counts) > _LISTED:
        line(f"and {len(counts) - _LISTED} more classes: --json lists all")
    for note in found.notes:
        line(f"note: {note}")
    line(f"fingerprint: {found.fingerprint}")


def _files(paths: tuple[str, ...]) -> str:
    return Path(paths[0]).name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _channels(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
