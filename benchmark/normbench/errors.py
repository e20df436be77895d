"""Errors that a user can mend: shown as one message without a traceback."""

from __future__ import annotations


class BenchError(Exception):
    """Something given to the program is wrong or missing; the message says what, where and what was expected."""

    exit_code = 2
    """That of the command `bench`."""
    at_once = False
    """Libraries are not to be closed: one of them would wait for what is not there."""
