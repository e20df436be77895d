"""Labels that a network can be trained on: whole numbers from 0 on, of which most occur, in training and test alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from normbench.lab.data._source import DataError

#: A network has an output for each number up to the highest label. More than so many outputs for each label that occurs
#: are a mistake (an identifier was taken for a class), and could take all memory.
SPARSEST = 10


class Labels:
    """The different labels of one split, gathered a batch at a time."""

    def __init__(self) -> None:
        self._seen: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, labels: npt.NDArray[np.int64]) -> None:
        self._seen = np.union1d(self._seen, labels)

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """Ascending."""
        return self._seen

    @property
    def highest(self) -> int:
        """-1 where there is none."""
        return int(self._seen[-1]) if len(self._seen) else -1


def classes_of(dataset: str, train: Labels, test: Labels | None, names: Sequence[str]) -> list[str]:
    """The names of the classes: those that the files name, where these are enough, else numbers. Raises `DataError`
    where the labels cannot be those of classes.
    """
    for part, labels in (("training", train), ("test", test)):
        if labels and len(labels.seen) and labels.seen[0] < 0:
            raise DataError(
                f"dataset {dataset!r}: {part} images have the label {labels.seen[0]}; labels are numbered from 0"
            )
    highest = max(train.highest, test.highest if test else -1)
    count = highest + 1
    if len(names) > highest:
        count = len(names)
    elif count > SPARSEST * (seen := len(np.union1d(train.seen, test.seen if test else train.seen))):
        shown = _listed([int(label) for label in np.union1d(train.seen, test.seen if test else train.seen)])
        raise DataError(
            f"dataset {dataset!r}: the labels {shown} would need {count:,} classes, and {seen:,} occur; number the "
            f"classes from 0 to {seen - 1}"
        )
    if count < 2:
        raise DataError(f"dataset {dataset!r} has one class, {(*names, '0')[0]!r}: there is nothing to classify")
    if test and len(new := np.setdiff1d(test.seen, train.seen)):
        raise DataError(
            f"dataset {dataset!r}: test images have labels that no training image has: "
            f"{_listed([int(label) for label in new])}; train and test must have the same classes"
        )
    return list(names) if len(names) > highest else [str(i) for i in range(count)]


def _listed(values: Sequence[int]) -> str:
    """`0, 3, 7`, or the first and the last of many."""
    return ", ".join(map(str, values)) if len(values) <= 6 else f"{', '.join(map(str, values[:3]))}, ... {values[-1]}"
