"""Holds a normalization method's claims against measurements, in float64 and in seconds.

`measure` looks at a method without knowing its claims; `compare` sets the two side by side; `check` does both.
"""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass
from typing import Any

from normbench.norms._bench import Bench, sizes_of
from normbench.norms._measure import Measured, measure
from normbench.norms.base import Claims, Norm

__all__ = ["Measured", "Row", "check", "compare", "evaluate", "lacking", "measure", "sizes_of"]

#: bfloat16 has 8 bits: rounding the output costs 0.4 % of the largest one; statistics taken in bfloat16 cost several
#: percent.
HALF_ERROR = 1e-2
#: Running variances are unbiased: n / (n - 1) with 256 values, and half of that in the standard deviation.
AGREEMENT = 1e-2


@dataclass(frozen=True)
class Row:
    """One line of the table: a property, what is claimed, what was measured."""

    claim: str
    claimed: str
    measured: str

    @property
    def ok(self) -> bool:
        return self.claimed == self.measured


def check(method: Norm) -> list[Row]:
    """Claims of `method` against measurements."""
    return compare(type(method).claims, measure(method))


def compare(claims: Claims, found: Measured) -> list[Row]:
    """Claims against measurements, a row each, then what every method must do."""
    wanted = dataclasses.asdict(claims)
    wanted["orthogonal"] = claims.orthogonal or claims.weight_scale
    wanted["constraints"] = evaluate(claims.constraints, found.sizes)
    wanted["errors"] = tuple(sorted(claims.errors))
    rows = [Row(name, _text(value), _text(getattr(found, name))) for name, value in wanted.items()]
    gap = (
        "within 1 %"
        if found.train_eval_gap is None or found.train_eval_gap < AGREEMENT
        else f"{found.train_eval_gap:.1%} apart"
    )
    half = "within 1 %" if found.half_error < HALF_ERROR else f"{found.half_error:.1%} off"
    return [
        *rows,
        Row(
            "finite outputs and gradients otherwise",
            "yes",
            f"not with {', '.join(found.not_finite)}" if found.not_finite else "yes",
        ),
        Row("train and eval agree once settled", "within 1 %", gap),
        Row("bfloat16 autocast", "within 1 %", half),
        Row("input gradient in eval mode", "yes", _text(found.eval_gradient)),
        Row("reading changes nothing", "yes", _text(found.reading_is_free)),
    ]


def lacking(method: Norm) -> list[str]:
    """What the claims are evaluated with and the layer does not say, a sentence each."""
    names = {n.id for n in ast.walk(ast.parse(type(method).claims.constraints)) if isinstance(n, ast.Name)}
    layer = Bench(method, small=True, activated=False).module
    if "g" not in names or hasattr(layer, "num_groups") or hasattr(layer, "chunks"):
        return []
    return [
        f"constraints {type(method).claims.constraints!r}: g is the layer's attribute num_groups (or what its method "
        f"chunks(examples) gives), and {type(layer).__name__} has neither: 1 was taken"
    ]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "-" if value is None else str(value)


def evaluate(formula: str, sizes: dict[str, int]) -> int:
    """The value of `formula` (whole numbers, names, + - * / and brackets). Raises `ValueError` for anything else."""

    def value(node: ast.AST) -> float:
        match node:
            case ast.Expression(body=body):
                return value(body)
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name) if name in sizes:
                return sizes[name]
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op, right=right):
                a, b = value(left), value(right)
                return {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b, ast.Div: a / b if b else float("nan")}[
                    type(op)
                ]
        raise ValueError(
            f"constraints {formula!r}: expected a formula of numbers, {', '.join(sizes)}, + - * / and brackets"
        )

    try:
        return round(value(ast.parse(formula, mode="eval")))
    except SyntaxError as error:
        raise ValueError(f"constraints {formula!r}: {error.msg}") from error
