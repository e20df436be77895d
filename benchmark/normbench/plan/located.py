"""What is wrong with the data of a suite, with the place in its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from normbench.plan.fingerprints import UnusableDataError
from normbench.suite import Problem, Suite, SuiteError, place_of


@contextmanager
def located(suite: Suite) -> Iterator[None]:
    """Turns an `UnusableDataError` into a `SuiteError` that names file and line, or the change that is to blame."""
    try:
        yield
    except UnusableDataError as error:
        # The message names the key that is wrong, where it is not the dataset's name.
        keys = (k for k in ("train_split", "test_split", "image_column", "label_column") if k in str(error))
        where = place_of(suite, "data", next(keys, "dataset"), error.dataset)
        raise SuiteError([Problem(*where, str(error))]) from error
