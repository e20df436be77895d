"""What a board is about, in a few words each: from the specification, the rows, and what is known of its dataset. What
is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normbench.spec.about import Images

if TYPE_CHECKING:
    from normbench.board.types import Board, Entry


@dataclass(frozen=True)
class Badge:
    """One fact about a board. `note` says more than fits."""

    kind: str
    """`layers`, `parameters`, `side`, `test`, `train`, `epochs`, `seeds` or `device`."""
    text: str
    note: str = ""


def badges(board: Board) -> tuple[Badge, ...]:
    """Layers, parameters, side of the images, test and training images, epochs, seeds, device class."""
    spans = {
        "layers": Badge("layers", _span(board.layers, "weight layer"), "convolutions and linear layers, shortcuts too"),
        "parameters": Badge("parameters", _span(board.parameters, "parameter"), _with_methods(board)),
        "side": Badge("side", f"{board.side}×{board.side} pixels" if board.side else ""),
        "test": Badge("test", test_images(board)),
        "train": Badge("train", training_images(board.entries, board.images)),
        "epochs": Badge("epochs", _span([e.spec["train"]["epochs"] for e in board.entries], "epoch")),
        "seeds": Badge("seeds", _span([len({r.seed for r in e.runs}) for e in board.entries], "seed")),
        "device": Badge("device", board.placed),
    }
    return tuple(b for b in spans.values() if b.text)


def badge(board: Board, kind: str) -> str:
    """The text of one badge, or that it is not known."""
    return next((b.text for b in badges(board) if b.kind == kind), f"{kind} unknown")


def test_images(board: Board) -> str:
    """`all 360 test images`, `1,000 of 10,000 test images`, or `the first 1,000 test images` where it is not known of
    how many; empty where no trial was tested.
    """
    if board.test_total is None:
        return ""
    there = board.images.test if board.images else None
    whole = board.data["test_examples"] is None
    return _part([board.test_total], there=board.test_total if whole else there, of="test images")


def training_images(entries: Iterable[Entry], there: Images | None) -> str:
    """Likewise, of the images that were trained on: those held out are not among them. Empty where it is not known."""
    used = [images_trained(e.spec["data"], there) for e in entries]
    known = sorted({n for n in used if n is not None})
    return "" if None in used or not known else _part(known, there=there.train if there else None, of="training images")


def images_trained(data: dict[str, Any], there: Images | None) -> int | None:
    """How many images a trial with these settings of `data` trains on; None where it is not known."""
    count = data["train_examples"] or (there.train if there else None)
    if count is None or not data["validation"]:
        return count
    return int(count - max(1, round(count * data["validation"])))


def _part(counts: Sequence[int], *, there: int | None, of: str) -> str:
    if there is None:
        return f"{'the first ' if len(counts) == 1 else ''}{_numbers(counts)} {of}"
    return f"all {there:,} {of}" if set(counts) == {there} else f"{_numbers(counts)} of {there:,} {of}"


def _span(values: Sequence[int], unit: str) -> str:
    """`3 seeds`, `1 to 3 seeds`; empty without values."""
    return f"{_numbers(values)} {unit}{'' if set(values) == {1} else 's'}" if values else ""


def _numbers(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _with_methods(board: Board) -> str:
    """What the parameters of the methods add."""
    after = sorted({r.parameters[1] for e in board.entries for r in e.runs if r.parameters})
    return f"as built; {_numbers(after)} with the method in place" if after and after != list(board.parameters) else ""
