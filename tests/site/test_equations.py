"""Equations as MathML: well formed, nothing left out, and as they stand where they are not understood."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.norms import registry
from normbench.pages.equations import mathml

GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "eps", "η": "eta", "λ": "lambda", "μ": "mu"} | {
    "σ": "sigma",
    "τ": "tau",
    "ρ": "rho",
}
#: How many children an element has.
CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "msubsup": 3}


def letters(text: str) -> str:
    """Letters and digits in order, without the root, which MathML draws, in alphabetical order: scripts may swap."""
    for sign, name in GREEK.items():
        text = text.replace(sign, f" {name} ")
    return "".join(sorted("".join(re.findall(r"[A-Za-z0-9]", re.sub(r"\bsqrt\b", "", text)))))


def whole(made: str) -> ET.Element:
    tree = ET.fromstring(f"<math>{made}</math>")
    for element in tree.iter():
        if element.tag in CHILDREN:
            assert len(element) == CHILDREN[element.tag], made
    return tree


@pytest.mark.parametrize("name", registry.names())
def test_every_equation_is_drawn_whole(name: str) -> None:
    text = registry.get(name).equation
    made = mathml(text)
    if made is not None:  # one that a plug-in writes otherwise stands as it is
        assert letters("".join(whole(made).itertext())) == letters(text)


def test_most_equations_of_this_package_are_understood() -> None:
    found = [mathml(registry.get(name).equation) is not None for name in registry.names()]
    assert sum(found) >= 0.9 * len(found)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("y = x / sqrt(v + eps)", "<mfrac><mi>x</mi><msqrt>"),
        ("w_i = v_i / ||v_i||", "<mfrac><msub><mi>v</mi><mi>i</mi></msub><mrow><mo>‖</mo>"),
        ("(x - mu) / 2", "<mfrac><mrow><mi>x</mi><mo>−</mo><mi>μ</mi></mrow><mn>2</mn></mfrac>"),
        ("S / tr S", "<mi>S</mi><mo>/</mo><mrow><mtext>tr</mtext>"),
        ("L^(-1/2)", "<msup><mi>L</mi><mrow><mo>−</mo><mfrac><mn>1</mn><mn>2</mn></mfrac></mrow></msup>"),
        ("C_p^p", "<msubsup><mi>C</mi><mi>p</mi><mi>p</mi></msubsup>"),
        ("a < b", "<mo>&lt;</mo>"),
    ],
)
def test_by_hand(text: str, part: str) -> None:
    made = mathml(text)
    assert made is not None
    assert part in made
    whole(made)


@pytest.mark.parametrize("text", ["y = <script>", "a & b", "sqrt(x", "x /", "x_", "é", "y = (x))"])
def test_what_is_not_understood_stands_as_it_is(text: str) -> None:
    made = mathml(text)
    assert made is None or "<script" not in made


@given(st.text("xyγ mu_^/()|+-<>&sqrt12 ", max_size=30))
def test_any_text_gives_well_formed_markup_or_none(text: str) -> None:
    made = mathml(text)
    if made is not None:
        whole(made)
