"""Verdicts as pages show them: numbers in words, axes, colours that everyone tells apart."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.claims._listed import chosen
from normbench.claims.base import EQUAL, THEMES, Part, exact, vanishes
from normbench.pages.axes import CHARACTER, Axis
from normbench.pages.callouts import callouts
from normbench.pages.charts import LINE, Mark, place, short
from normbench.pages.verdicts import EVERY, claimed, far, forests, mark, number, shares, span, typeset, written
from normbench.paths import shipped
from normbench.studies._judged import Judged
from normbench.studies._stats import Estimate

from tests.site.test_colours import BLIND, contrast, lab, linear


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-2.0, "−2"),
        (1.234, "1.23"),
        (1130.4, "1,130"),
        (-1234567.0, "−1,230,000"),
        (0.00012, "0.00012"),
        (5.13e-16, "5.13 × 10⁻¹⁶"),
        (1e-7, "10⁻⁷"),
        (-5e-9, "−5 × 10⁻⁹"),
        (math.inf, "∞"),
    ],
)
def test_numbers_are_written_as_people_do(value: float, text: str) -> None:
    assert written(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_any_number_is_written_without_an_e(value: float) -> None:
    assert "e" not in written(value)
    assert "-" not in written(value)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (exact("x", 1.0, at_least=0.0), "claimed: at least 0"),
        (exact("x", 1.0, at_most=2.0), "claimed: at most 2"),
        (exact("x", 1.0, at_least=-3.0, at_most=3.0), "claimed: −3 to 3"),
        (exact("x", 1.0, equal=1.0), "claimed: 1, but for rounding"),
        (vanishes("x", 0.0), "zero but for rounding, up to 10⁻⁷"),
        (Part("x", 0.0, 0.0, 0.0, (-math.inf, EQUAL)), "zero but for rounding, up to 10⁻⁷"),
    ],
)
def test_what_is_claimed_is_said_in_words(part: Part, text: str) -> None:
    assert claimed(part) == text


def test_a_number_of_chance_has_its_interval() -> None:
    assert number(Part("x", 1.5, -0.25, 3.0, (0, math.inf), n=3)) == "1.5 [−0.25, 3]"
    assert number(Part("x", 1.5, 1.5, 1.5, (0, math.inf))) == "1.5"


@pytest.mark.parametrize(
    ("text", "set_"),
    [
        ("|gamma^2 - sigma^2| and |beta - mu|", "|γ² − σ²| and |β − μ|"),
        ("sqrt(2 eta lambda / (1 + momentum))", "√(2 η λ / (1 + momentum))"),
        ("m >= 2, up to 1e-07", "m ≥ 2, up to 10⁻⁷"),
        ("difference at a = -2, t = 5", "difference at a = −2, t = 5"),
        ("the alphabet of a bw-zca[group=16]", "the alphabet of a bw-zca[group=16]"),
    ],
)
def test_formulas_are_typeset(text: str, set_: str) -> None:
    assert typeset(text) == set_


def test_shares_fill_the_bar_and_count_every_verdict() -> None:
    said = ["holds", "undecided", "holds", "refuted", "no", "holds in part", "what nobody knows"]
    found = shares(said)
    assert sum(s.count for s in found) == len(said)
    assert sum(s.length for s in found) == pytest.approx(100, abs=0.01)
    assert [s.text for s in found][:2] == ["2 hold", "1 holds in part"]
    assert all(b.start == pytest.approx(a.start + a.length, abs=0.01) for a, b in itertools.pairwise(found))
    assert mark("what nobody knows").css == "untested"


def test_an_axis_is_zoomed_to_most_values_and_what_is_far_is_an_arrow() -> None:
    rows = [(50.0 + i, 49.0 + i, 51.0 + i) for i in range(8)] + [(10.0, 5.0, 15.0)]
    assert far([r[0] for r in rows]) == [False] * 8 + [True]
    axis = span(rows)
    assert axis.low > 40
    assert axis.strip(*rows[-1]).beyond == "left"
    assert not any(axis.strip(*r).beyond for r in rows[:-1])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_places_on_an_axis_lie_within_it(values: list[float]) -> None:
    axis = span([(v, v - 1, v + 1) for v in values])
    for v in values:
        strip = axis.strip(v, v - 1, v + 1)
        assert 0 <= strip.low <= strip.mean <= strip.high <= 100


def test_findings_of_one_unit_share_an_axis_that_holds_zero() -> None:
    rows = [
        Judged("a", "x", "points", Estimate(1.0, 0.5, 1.5), n=3),
        Judged("a", "y", "points", Estimate(0.5, -0.5, 1.5), n=3),
        Judged("b", "x", "points", Estimate(-2.0, -3.0, -1.0), n=3),
        Judged("b", "y", "points", None, "not tested: 2 seeds, 3 needed"),
        Judged("c", "x", "octaves", Estimate(9.0), n=2),
    ]
    first, second, third = forests(rows)
    assert [r.mark.word for f in (first, second, third) for r in f.rows] == [
        *("holds", "undecided", "contradicted", "not tested", "not tested"),
    ]
    assert first.axis == second.axis != third.axis
    assert first.axis.low <= -3 < 0 < 1.5 <= first.axis.high
    assert first.rows[1].needed > 3
    assert second.rows[1].text == "not tested: 2 seeds, 3 needed"


def test_every_claim_has_a_theme_and_every_theme_a_claim_that_speaks_for_it() -> None:
    claims = {c.name: c for c in chosen()}
    assert {c.theme for c in claims.values()} == set(THEMES) - {"other"}
    for key, theme in THEMES.items():
        assert all(claims[name].theme == key for name in theme.leads)
        assert theme.leads or key == "other"


def colours() -> dict[str, dict[str, str]]:
    text = shipped("site", "assets", "findings.css").read_text(encoding="utf-8")
    light, dark, again = (
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root[^{]*\{([^}]*)\}", text)
    )
    assert dark == again, "dark colours are given the same twice"
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sight", ["full", *BLIND])
def test_verdicts_are_told_apart_by_everyone(theme: str, sight: str) -> None:
    palette, paper = colours()[theme], {"light": "#ffffff", "dark": "#0f1318"}[theme]

    def seen(colour: str) -> list[float]:
        rgb = linear(colour)
        if sight != "full":
            rgb = [max(0.0, sum(a * b for a, b in zip(row, rgb, strict=True))) for row in BLIND[sight]]
        return lab(rgb)

    for one, other in itertools.combinations([m.css for m in EVERY], 2):
        assert math.dist(seen(palette[one]), seen(palette[other])) > 14, (one, other)
    assert all(contrast(palette[m.css], paper) >= 3 for m in EVERY)


NAMED = st.tuples(st.floats(0, 100), st.floats(0, 100), st.sampled_from(["bn", "ws+gn · wd 0.0005", "ln"]))


def meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] - 1e-6 and b[0] < a[2] - 1e-6 and a[1] < b[3] - 1e-6 and b[1] < a[3] - 1e-6


@given(st.lists(NAMED, max_size=12))
def test_every_named_point_has_a_label_that_meets_no_point_and_no_other_label(points) -> None:
    marks = [Mark(f"{i} {name}", "weight", x, y) for i, (x, y, name) in enumerate(points)]
    axis = Axis("", -5.0, 105.0)
    placed = place(marks, axis, axis, 400, 400)
    called = callouts(marks, axis, axis, 400, 400, placed, frozenset(m.label for m in marks))
    boxes = []
    for label in [*placed, *called]:
        left, middle = axis.pixel(label["x"], 400), axis.pixel(label["y"], 400)
        boxes.append((left, middle - LINE / 2, left + len(label["label"]) * CHARACTER, middle + LINE / 2))
    dots = [(axis.pixel(m.x, 400), axis.pixel(m.y, 400)) for m in marks]
    assert all(box[0] >= -1 and box[2] <= 401 for box in boxes)
    assert not any(box[0] < x < box[2] and box[1] < y < box[3] for box in boxes for x, y in dots)
    assert not any(meet(a, b) for a, b in itertools.combinations(boxes, 2))
    assert {p["label"] for p in (*placed, *called)} == {short(m.label) for m in marks}
