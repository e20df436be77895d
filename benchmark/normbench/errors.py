"""Errors that a user can mend: shown as one message without a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class BenchError(Exception):
    """Something given to the program is wrong or missing; the message says what, where and what was expected."""

    exit_code = 2
    """That of the command `bench`."""
    at_once = False
    """Libraries are not to be closed: one of them would wait for what is not there."""


@contextlib.contextmanager
def on_disk(what: str, kind: type[BenchError] = BenchError, advice: str = "") -> Iterator[None]:
    """What the system refuses within the block (a full or read-only disk, a folder that vanished) becomes one message
    that begins with `what`.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {refusal(error)}{advice}") from error


def refusal(error: OSError) -> str:
    """What the system said, and of which file."""
    said = error.strerror or " ".join(str(error).split())[:300] or type(error).__name__
    return f"{said} ({error.filename})" if error.filename is not None else said
