"""What the pages say about methods: family, colour, card, page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache

from normbench.board import Entry, slugify
from normbench.norms import Norm, NormModifier, registry
from normbench.spec.plugins import PluginError
from normbench.spec.text import show

#: Family -> class in the style sheet, shape in charts. The colours stand in `site/assets/style.css` and
#: `benchmark/normbench/pages/charts.py`.
FAMILIES = {
    "batch statistics": ("batch", "circle"),
    "sample statistics": ("sample", "square"),
    "weight": ("weight", "triangle-up"),
    "whitening": ("whitening", "diamond"),
    "no statistics": ("plain", "cross"),
}
#: Full names of methods whose summary does not start with them.
FULL = {
    "batch-renorm": "Batch renormalization",
    "bcn": "Batch-channel normalization",
    "bw-cd": "Batch whitening, Cholesky",
    "bw-pca": "Batch whitening, PCA",
    "bw-zca": "Batch whitening, ZCA",
    "cwn": "Centred weight normalization",
    "evonorm-b0": "EvoNorm B0",
    "evonorm-s0": "EvoNorm S0",
    "frn": "Filter response normalization",
    "ghost-bn": "Ghost batch normalization",
    "gw": "Group whitening",
    "iternorm": "Iterative normalization",
    "ln-tok": "Layer normalization by position",
    "lp-bn": "Lp batch normalization",
    "none": "No normalization",
    "rms": "Root mean square normalization",
    "skipinit": "SkipInit",
    "switchnorm": "Switchable normalization",
    "sws": "Scaled weight standardization",
    "syncbn": "Synchronized batch normalization",
}
UNKNOWN = "unknown"
UNKNOWN_STYLE = ("plain", "triangle-down")


@dataclass(frozen=True)
class Method:
    """A method as results name it: one component, or a weight method, an activation method and a modifier."""

    key: str
    """Names of the components without parameters, as in `ws+gn`."""
    slug: str
    names: tuple[str, ...]
    cards: tuple[type[Norm], ...]
    """Of those components that are registered here."""
    family: str

    @property
    def css(self) -> str:
        return FAMILIES.get(self.family, UNKNOWN_STYLE)[0]

    @property
    def written(self) -> str:
        """As a suite names it: a modifier stands behind an activation method."""
        return (
            f"bn+{self.key}"
            if len(self.names) == 1 and any(issubclass(c, NormModifier) for c in self.cards)
            else self.key
        )

    @property
    def full(self) -> str:
        """`Weight standardization + Group normalization`; a component that is not registered here by its short name."""
        known = {c.name: FULL.get(c.name) or c.summary.partition(":")[0].partition(";")[0] for c in self.cards}
        return " + ".join(known.get(name, name) for name in self.names)

    @property
    def summary(self) -> str:
        return " + ".join(c.summary for c in self.cards)


@cache
def card(name: str) -> type[Norm] | None:
    """The class of a method, None where it is not registered here (results may come from elsewhere)."""
    try:
        return registry.get(name)
    except PluginError:
        return None


def key_of(entry: Entry) -> str:
    """The method of an entry without parameters; `none` behind a weight method goes without saying."""
    names = entry.methods or (entry.norm,)
    return "+".join(names[:-1] if len(names) > 1 and names[-1] == "none" else names)


def methods(entries: Iterable[Entry]) -> dict[str, Method]:
    """All methods that are registered or have results, by key, with slugs that are unique ignoring case."""
    keys: dict[str, tuple[str, ...]] = {name: (name,) for name in registry.names()}
    for entry in entries:
        key = key_of(entry)
        keys.setdefault(key, tuple(key.split("+")) if len(entry.methods) > 1 else (key,))
    found: dict[str, Method] = {}
    slugs: set[str] = set()
    for key in sorted(keys):
        slug = slugify(key.replace("+", "-"), 40)
        if slug in slugs:
            slug = f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        slugs.add(slug)
        cards = tuple(c for n in keys[key] if (c := card(n)))
        found[key] = Method(key, slug, keys[key], cards, cards[0].family if cards else UNKNOWN)
    return found


def claims(cls: type[Norm]) -> list[tuple[str, str]]:
    """A method's claims in words."""
    return [(f.name.replace("_", " "), show(getattr(cls.claims, f.name))) for f in fields(cls.claims)]


def invariance(cls: type[Norm]) -> str:
    """Where a method makes the weight before it scale-invariant, in a sentence."""
    exact = "" if cls.claims.exact else ", up to eps in the denominator"
    return {
        "row": f"Each output channel's weights may be rescaled by a factor of their own{exact}.",
        "block": f"Each group of channels may be rescaled by one factor{exact}.",
        "tensor": f"The whole weight tensor may be rescaled by one factor{exact}.",
        "none": "Nowhere: rescaling a weight changes the network.",
    }[cls.claims.weight_scale]


def parameters(cls: type[Norm]) -> list[tuple[str, str]]:
    """Parameters of a method with their defaults."""
    return [(name, show(f.get_default(call_default_factory=True))) for name, f in cls.model_fields.items()]


_ADDRESS = re.compile(r"https?://[^\s<>\"')\]]+[^\s<>\"')\].,;]")


def linked(text: str) -> list[tuple[str, str]]:
    """Text in pieces of (text, address); only http and https addresses become links, everything else stays text."""
    pieces, end = [], 0
    for match in _ADDRESS.finditer(text):
        pieces += [(text[end : match.start()], ""), (match[0], match[0])]
        end = match.end()
    return [p for p in [*pieces, (text[end:], "")] if p[0]]
