"""Every claim of every method is measured, and a claim that is changed is caught."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, get_args, get_type_hints

import pytest
from normbench.norms import Claims, registry
from normbench.norms.base import Situation
from normbench.norms.check import Measured, compare, evaluate, measure

from tests.matrix import sample

NAMES = registry.names()
#: One of each kind: statistics of the batch, of the example, of the weight; whitening; none; drawn at random; moved in
#: the backward pass.
KINDS = ("bn", "gn", "ws", "sn", "bw-zca", "none", "noise", "powernorm")

FROM_THE_LITERATURE = """bn ln in gn wn cwn ws sn lp-bn bw-pca bw-zca bw-cd gw none ln-tok rms dyt derf frn evonorm-b0
    evonorm-s0 sws bcn ghost-bn batch-renorm iternorm switchnorm syncbn skipinit seednorm scalenorm simplenorm
    mean-only-bn robustnorm ema-bn ibn-a bin powernorm sphere bjorck cayley fixup rezero layerscale"""


@cache
def measured(name: str) -> Measured:
    return measure(registry.make(name))


def test_every_method_is_there() -> None:
    assert not registry.problems()
    assert set(FROM_THE_LITERATURE.split()) <= set(NAMES)
    assert len(NAMES) >= 36


@pytest.mark.parametrize("name", sample(NAMES, KINDS))
def test_claims_are_what_is_measured(name: str) -> None:
    rows = compare(registry.get(name).claims, measured(name))
    assert [(r.claim, r.claimed, r.measured) for r in rows if not r.ok] == []
    assert len(rows) == len(dataclasses.fields(Claims)) + 5


def other_values(field: str, claims: Claims) -> list[Any]:
    """What a claim could be instead."""
    value = getattr(claims, field)
    hint = get_type_hints(Claims)[field]
    if field == "constraints":
        return [f"{value}+1", "0" if value != "0" else "d"]
    if field == "errors":
        return [tuple(s for s in get_args(Situation) if s not in value), (*value, "dead channels")]
    if field == "orthogonal":
        return [v for v in ("row", "block", "tensor", "none") if v != (value or claims.weight_scale)]
    options = [True, False, None] if field == "exact" else [True, False] if hint is bool else list(get_args(hint))
    return [v for v in options if v != value]


@pytest.mark.parametrize("name", sample(NAMES, KINDS))
@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Claims)])
def test_a_changed_claim_is_caught(name: str, field: str) -> None:
    claims = registry.get(name).claims
    for value in other_values(field, claims):
        wrong = [r.claim for r in compare(dataclasses.replace(claims, **{field: value}), measured(name)) if not r.ok]
        assert field in wrong, f"{field} claimed as {value!r} goes unnoticed"


def test_methods_describe_themselves() -> None:
    for name in NAMES:
        card = registry.get(name)
        assert card.summary
        assert card.source
        assert "=" in card.equation


@pytest.mark.parametrize(
    ("formula", "value"), [("0", 0), ("2*d", 8), ("d*(d/g+3)/2", 10), ("n*g*(g+3)/2", 15), ("d+n-p", -2)]
)
def test_formula(formula: str, value: int) -> None:
    assert evaluate(formula, {"d": 4, "n": 3, "p": 9, "g": 2}) == value


@pytest.mark.parametrize("formula", ["q", "d**2", "__import__('os')", "d d", "f(d)", "1.5*d"])
def test_formula_errors(formula: str) -> None:
    with pytest.raises(ValueError, match="constraints"):
        evaluate(formula, {"d": 4})
