"""Errors that a user can mend: shown as one message without a traceback, exit code 2."""

from __future__ import annotations


class BenchError(Exception):
    """Something given to the program is wrong or missing; the message says what, where and what was expected."""
