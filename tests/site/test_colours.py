"""Colours: the same in styles and charts, and told apart by everyone, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

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


def drawn(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Page, kind (`text` or `mark`) and colour of what charts in pages are drawn with."""
    for page in sorted(folder.glob("*.html")):
        for svg in re.findall(r'<div class="plot".*?(<svg .*?</svg>)', page.read_text(encoding="utf-8"), re.S):
            for tag in re.findall(r"<text\b[^>]*>", svg):
                yield from ((page.name, "text", c) for c in re.findall(r'fill="([^"]+)"', tag))
            for group in re.findall(r'<g [^>]*class="mark-symbol[^>]*>(.*?)</g>', svg, re.S):
                yield from ((page.name, "mark", c) for c in re.findall(r'(?:fill|stroke)="([^"]+)"', group))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_of_charts_stand_out_as_they_are_drawn(site: Path, theme: str) -> None:
    palette = palettes()[theme]
    seen = set()
    for page, kind, colour in drawn(site):
        if colour in {"none", "transparent", "var(--paper)"}:
            continue
        name = re.fullmatch(r"var\(--([a-z-]+)\)", colour)
        assert name or re.fullmatch(r"#[0-9a-f]{6}", colour), (page, colour)
        least = 4.5 if kind == "text" else 3
        assert contrast(palette[name[1]] if name else colour, palette["paper"]) >= least, (page, kind, colour)
        seen.add(kind)
    assert seen == {"text", "mark"}


def scales() -> dict[str, list[float]]:
    """Steps of the scales of type (`t`) and space (`s`), in rem."""
    style = shipped("site", "assets", "style.css").read_text(encoding="utf-8")
    return {s: [float(v) for v in re.findall(rf"--{s}-\d+: ([\d.]+)rem;", style)] for s in "ts"}


SHEETS = sorted(p.name for p in shipped("site", "assets").glob("*.css"))


@pytest.mark.parametrize("name", SHEETS)
def test_sizes_of_type_and_space_are_steps_of_one_scale(name: str) -> None:
    """In rem, from an eighth on: what is smaller sets a letter right, and what is negative takes a step back."""
    steps = scales()
    style = shipped("site", "assets", name).read_text(encoding="utf-8")
    kinds = {"t": r"font-size", "s": r"(?:margin|padding|(?:row-|column-)?gap)(?:-(?:top|bottom|left|right))?"}
    amiss = []
    for scale, properties in kinds.items():
        for declared in re.findall(rf"(?<![\w-]){properties}: ([^;}}]+)", style):
            for value in map(float, re.findall(r"(?<![-\w.])(\d*\.?\d+)rem", declared)):
                if value >= 0.125 and value not in steps[scale]:
                    near = min(steps[scale], key=lambda step: abs(step - value))
                    amiss.append(f"{value:g}rem in {declared!r}: the nearest step is {near:g}rem")
    assert amiss == []
