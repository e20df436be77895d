"""Operators as torch runs them: what is noted, and which of them make the host wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from normbench.tensors.operations import Call, Operations, waiting
from torch import nn

MATRIX = torch.eye(3)


def test_forward_backward_and_update_are_noted() -> None:
    layer, names = nn.Linear(2, 1), list[str]()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, foreach=False)
    with Operations(lambda call: names.append(call.name)):
        layer(torch.ones(3, 2)).sum().backward()
        optimizer.step()
    assert [n for n in names if n in ("addmm", "sum", "mm", "add_")] == ["addmm", "sum", "mm", "sum", "add_", "add_"]


def test_what_an_operator_took_gave_and_wrote() -> None:
    calls: list[Call] = []
    x = torch.ones(2)
    with Operations(calls.append):
        y = x + 1
        x.mul_(y)
    added, scaled = calls
    assert [added.writes, scaled.writes] == [False, True]
    assert added.taken[0] is x
    assert added.given[0] is y
    assert [t is s for t, s in zip(scaled.taken, (x, y), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (lambda: torch.linalg.eigh(MATRIX), ["_linalg_eigh"]),
        (lambda: torch.linalg.cholesky(MATRIX), ["_linalg_check_errors"]),
        (lambda: torch.linalg.cholesky_ex(MATRIX), []),
        (lambda: torch.linalg.inv(MATRIX), ["_linalg_check_errors"]),
        (lambda: torch.linalg.svd(MATRIX), ["_linalg_svd"]),
        (lambda: float(MATRIX.sum()), ["_local_scalar_dense"]),
        (lambda: MATRIX[MATRIX > 0], ["index"]),
        (lambda: MATRIX.clone().index_put_((MATRIX > 0,), torch.ones(())), ["index_put_"]),
        (lambda: MATRIX[torch.tensor([2, 0])], []),
        (lambda: torch.equal(MATRIX, MATRIX), ["equal"]),
        (lambda: bool((MATRIX > 0).any()) and MATRIX.nonzero(), ["_local_scalar_dense", "nonzero"]),
        (lambda: MATRIX.to("meta"), ["_to_copy"]),
        (lambda: nn.functional.batch_norm(MATRIX, None, None, training=True), []),
        (lambda: MATRIX.to(torch.bfloat16) @ MATRIX.bfloat16(), []),
    ],
)
def test_what_the_host_waits_for(run: Callable[[], object], found: list[str]) -> None:
    assert waiting(run) == found
