"""Matrices of tests: a sample with every run of the tests, the whole with `tox -e matrix`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sample(values: Iterable[Any], kept: Collection[Any]) -> list[Any]:
    """Parameters of which those not in `kept` wait for `-m matrix`. One kept that is not among them is an error, so
    that a renamed method does not leave the sample unseen.
    """
    values = list(values)
    assert all(k in values for k in kept), f"of the sample {kept}, not all are in {values}"
    return [v if v in kept else _waiting(*v) if isinstance(v, tuple) else _waiting(v) for v in values]


def _waiting(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.matrix)
