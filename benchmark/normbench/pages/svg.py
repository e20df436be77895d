"""Charts as files and in pages: SVG that follows a page's theme, SVG, PDF and PNG for download, their library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import vl_convert
from markupsafe import Markup

from normbench.pages import drawings
from normbench.pages.charts import VARIABLES
from normbench.pages.context import Context
from normbench.pages.methods import FAMILIES, UNKNOWN_STYLE
from normbench.pages.writer import printable


@dataclass(frozen=True)
class Chart:
    """A drawn chart as templates print it."""

    id: str
    title: str
    caption: str
    downloads: tuple[str, ...]
    size: str
    """`narrow`, `medium`, `wide` or `full`."""
    svg: Markup
    legend: tuple[tuple[str, str, str], ...]
    """Family, its class in the style sheet, its shape."""


def draw(
    context: Context,
    chart_id: str,
    title: str,
    caption: str,
    spec: dict[str, Any],
    families: Iterable[str] = (),
    *,
    png: bool = True,
) -> Chart:
    """Draw `spec` and write its downloads under `charts/`. A PNG takes three times as long as all the rest."""
    spec = printable(spec)  # one control character would abort the process inside vl-convert
    svg = _renumbered(drawings.svg(hovered(spec)))
    base = f"charts/{chart_id}"
    context.writer.text(f"{base}.svg", svg)
    context.writer.bytes(f"{base}.pdf", drawings.pdf(flattened(svg)))
    if png:
        context.press.draw(context.writer.folder / f"{base}.svg")
    text = json.dumps(spec, sort_keys=True, allow_nan=False).replace("</", "<\\/")
    context.writer.text(f"{base}.js", f'NB.chart("{chart_id}", {text});\n')
    return Chart(
        chart_id,
        title,
        caption,
        ("svg", "pdf", "png") if png else ("svg", "pdf"),
        size_of(svg),
        Markup(inline(svg, chart_id)),  # noqa: S704
        tuple(
            (f[:1].upper() + f[1:], FAMILIES.get(f, UNKNOWN_STYLE)[0], FAMILIES.get(f, UNKNOWN_STYLE)[1])
            for f in _ordered(families)
        ),
    )


def hovered(spec: dict[str, Any]) -> dict[str, Any]:
    """With what the tooltip of each point says as its description: in a page it becomes a title, which browsers show
    without a script. Other marks get none.
    """
    if "mark" not in spec:
        parts = {k: [hovered(s) for s in spec[k]] for k in ("layer", "hconcat", "vconcat") if k in spec}
        return spec | parts | ({"config": spec["config"] | {"aria": True}} if "config" in spec else {})
    mark, encoding, values = spec["mark"], spec.get("encoding", {}), spec.get("data", {}).get("values")
    if "tooltip" not in encoding or mark["type"] != "point" or values is None:
        return spec | {"mark": mark | {"aria": False}}
    told = [v | {"told": "; ".join(_said(v[f["field"]], f) for f in encoding["tooltip"])} for v in values]
    return spec | {"data": {"values": told}, "encoding": encoding | {"description": {"field": "told"}}}


def _said(value: Any, field: dict[str, str]) -> str:
    """A field of a tooltip. The method needs no title."""
    text = format(value, field.get("format", "")) if isinstance(value, float) else str(value)
    return text if field["title"] == "Method" else f"{field['title']}: {text}"


def _renumbered(svg: str) -> str:
    """Ids counted from 0: Vega counts them over all charts that a process draws."""
    ids = {
        name: f"{name.rstrip('0123456789')}{i}"
        for i, name in enumerate(dict.fromkeys(re.findall(r' id="([^"]+)"', svg)))
    }
    return re.sub(r'( id="|url\(#|href="#)([\w-]+)', lambda m: m[1] + ids.get(m[2], m[2]), svg)


def flattened(svg: str) -> str:
    """Without transparency and bold type, for PDF: svg2pdf writes several groups or fonts in an order that differs from
    call to call.

    A translucent colour becomes the one that it makes on paper.
    """

    def opaque(tag: re.Match[str]) -> str:
        share = float(tag[2])
        return re.sub(
            r'(fill|stroke)="(#[0-9a-f]{6})"',
            lambda m: f'{m[1]}="{mixed(m[2], share)}"',
            tag[0].replace(f' opacity="{tag[2]}"', ""),
        )

    return re.sub(r'<(\w+)[^<>]* opacity="(0\.\d+)"[^<>]*>', opaque, svg).replace(' font-weight="bold"', "")


def mixed(colour: str, share: float) -> str:
    """`share` of a colour on white paper."""
    return "#" + "".join(f"{round(255 + share * (int(colour[i : i + 2], 16) - 255)):02x}" for i in (1, 3, 5))


def inline(svg: str, chart_id: str) -> str:
    """An SVG to stand in a page: colours follow the page's theme, ids are its own, and it is one image to a screen
    reader. Descriptions of marks become their titles.
    """
    for literal, variable in VARIABLES.items():
        svg = svg.replace(f'"{literal}"', f'"var({variable})"')
    svg = svg.replace('fill="white"', 'fill="var(--paper)"')
    svg = re.sub(r'(id="|url\(#|href="#)([\w-]+)', rf"\1{chart_id}-\2", svg)
    svg = re.sub(r'<path aria-label="([^"]*)"([^>]*?)/?>(?:</path>)?', r"<path\2><title>\1</title></path>", svg)
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    width = _width(svg)
    return re.sub(
        r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>",
        rf'<svg class="{size_of(svg)}" width="{width:g}" \1 role="img" aria-labelledby="{chart_id}-title">',
        svg,
        count=1,
    )


def _width(svg: str) -> float:
    return float(re.search(r'width="([\d.]+)"', svg)[1])  # type: ignore[index]


def size_of(svg: str) -> str:
    """How much room a chart wants in a page."""
    width = _width(svg)
    return "narrow" if width < 480 else "medium" if width < 660 else "wide" if width < 880 else "full"


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed (all BSD-3-Clause, University of Washington Interactive Data Lab and contributors)
    as one script, from vl-convert.
    """
    versions = (
        f"Vega {vl_convert.get_vega_version()}, Vega-Lite {vl_convert.get_vegalite_versions()[-1]}, "
        f"Vega-Embed {vl_convert.get_vega_embed_version()}"
    )
    owner = "University of Washington Interactive Data Lab and contributors"
    head = f"/* {versions}. BSD-3-Clause, (c) {owner}; bundled by vl-convert {version('vl-convert-python')}. */"
    return f"{head}\n(function () {{\n{vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;')}\n}})();\n"


def colours_script() -> str:
    """Which literal colour of a specification is which of the style sheet."""
    return f"var NB = window.NB || {{}};\nNB.colours = {json.dumps(VARIABLES)};\n"


def _ordered(families: Iterable[str]) -> list[str]:
    present = set(families)
    return [f for f in FAMILIES if f in present] + sorted(present - FAMILIES.keys())
