"""Colours: the same in styles and charts, and told apart by everyone, in light and dark."""

from __future__ import annotations

import re

import pytest
from normbench.paths import shipped


def test_the_same_colour_for_a_family_in_styles_and_charts():
    from normbench.pages.charts import FAMILY, VARIABLES
    from normbench.pages.methods import FAMILIES

    style = shipped("site", "assets", "style.css").read_text()
    light = dict(re.findall(r"(--[a-z]+): (#[0-9a-f]{6})", style.split("}")[0]))
    for family, (css, shape) in FAMILIES.items():
        colour, drawn = FAMILY[family]
        assert light[f"--{css}"] == colour
        assert drawn == shape
    for literal, variable in VARIABLES.items():
        assert light[variable] == literal


def test_dark_colours_are_given_the_same_twice():
    style = shipped("site", "assets", "style.css").read_text()
    system, chosen = re.findall(r"color-scheme: dark;(.*?)\}", style, re.S)
    assert system.split() == chosen.split()


def palettes() -> dict[str, dict[str, str]]:
    style = shipped("site", "assets", "style.css").read_text()
    light, dark = (
        re.search(r":root \{(.*?)\}", style, re.S)[1],
        re.search(r'data-theme="dark"\] \{(.*?)\}', style, re.S)[1],
    )
    return {
        name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", text))
        for name, text in (("light", light), ("dark", dark))
    }


def linear(colour: str) -> list[float]:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]


def contrast(a: str, b: str) -> float:
    light, dark = sorted(
        (sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear(c), strict=True)) for c in (a, b)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


MARKS = ("batch", "sample", "weight", "whitening", "plain")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out(theme):
    palette = palettes()[theme]
    for paper in ("paper", "sheet"):
        for text in ("ink", "soft", "link", "warn"):
            assert contrast(palette[text], palette[paper]) >= 4.5, text
        for mark in MARKS:
            assert contrast(palette[mark], palette[paper]) >= 3, mark


#: Vienot, Brettel and Mollon (1999): what a dichromat sees, on linear RGB.
BLIND = {
    "protan": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deutan": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


def lab(rgb: list[float]) -> list[float]:
    m = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1.0, 1.089)
    x, y, z = (sum(a * b for a, b in zip(row, rgb, strict=True)) / w for row, w in zip(m, white, strict=True))
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sight", ["full", *BLIND])
def test_colours_of_families_can_be_told_apart(theme, sight):
    palette = palettes()[theme]

    def seen(colour: str) -> list[float]:
        rgb = linear(colour)
        if sight != "full":
            rgb = [max(0.0, sum(a * b for a, b in zip(row, rgb, strict=True))) for row in BLIND[sight]]
        return lab(rgb)

    for i, a in enumerate(MARKS):
        for b in MARKS[i + 1 :]:
            distance = sum((x - y) ** 2 for x, y in zip(seen(palette[a]), seen(palette[b]), strict=True)) ** 0.5
            assert distance > 10, (a, b, distance)
