"""Messages that the command and the interface share name options as the command does; here they become arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from normbench.errors import BenchError

_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")


@contextmanager
def in_python() -> Iterator[None]:
    """Raise a `BenchError` from within on, with --only written as `only`. Also a decorator."""
    try:
        yield
    except BenchError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (_OPTION.sub(lambda m: f"`{m[1].replace('-', '_')}`", error.args[0]), *error.args[1:])
        raise
