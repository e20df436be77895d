"""Which architectures there are, and which stems and widths they take; known without importing torch or timm."""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

_ENTRY = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_WIDE_RESNET = re.compile(r"wrn-(\d{1,4})-(\d{1,3})")

#: The residual networks of He et al. 2016 for CIFAR, which timm lacks, by name; each with its depth.
CIFAR_RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}

#: Files of `timm.models` whose networks take a stem for small images and a width, with the file of
#: `normbench.lab.network.families` that builds them.
FAMILIES = {
    "convnext": "convnext",
    "deit": "patches",
    "densenet": "densenet",
    "efficientnet": "mobile",
    "mlp_mixer": "patches",
    "mobilenetv3": "mobile",
    "regnet": "regnet",
    "res2net": "resnet",
    "resnest": "resnet",
    "resnet": "resnet",
    "resnetv2": "resnetv2",
    "sknet": "resnet",
    "swin_transformer": "swin",
    "vgg": "vgg",
    "vision_transformer": "patches",
}


@cache
def architectures() -> dict[str, str]:
    """Every model name of the installed timm, to the file of `timm.models` that defines it: `resnet18` to `resnet`."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("timm is not installed")
    found = {}
    for path in sorted((Path(spec.origin).parent / "models").glob("*.py")):
        found.update(dict.fromkeys(_ENTRY.findall(path.read_text(encoding="utf-8")), path.stem))
    return found


def file_of(name: str) -> str:
    """The file of `timm.models` that defines `name`, or that of `normbench.lab.network.families` for one of our own."""
    return own_family(name) or architectures()[name]


def own_family(name: str) -> str | None:
    """The file of `normbench.lab.network.families` that defines a network of our own; None for timm's."""
    return "cifar_resnet" if name in CIFAR_RESNETS else "wrn" if wide_resnet(name) else None


def listed() -> list[dict[str, Any]]:
    """Every architecture: its name, whose it is, its family, and whether it takes a stem for small images (`cifar`) and
    a `width`. Wide residual networks stand there once, as `wrn-DEPTH-FACTOR`.
    """
    own = {**dict.fromkeys(CIFAR_RESNETS, "cifar_resnet"), "wrn-DEPTH-FACTOR": "wrn"}
    rows = [{"name": n, "from": "normbench", "family": f, "cifar": True, "width": True} for n, f in own.items()]
    for name, file in architectures().items():
        adaptable = _adaptable(name)
        rows.append({"name": name, "from": "timm", "family": file, "cifar": adaptable, "width": adaptable})
    return rows


def builder(name: str, stem: str, width: float) -> str:
    """The module that builds the network: the file of its family, or, for one of timm's as it is, `family`."""
    network = "normbench.lab.network"
    if own := own_family(name):
        return f"{network}.families.{own}"
    if stem == "native" and width == 1:
        return f"{network}.family"
    return f"{network}.families.{FAMILIES[file_of(name)]}"


def wide_resnet(name: str) -> tuple[int, int] | None:
    """Depth and widening factor of `wrn-28-10`; None where `name` is no wide residual network or has a depth that no
    such network has.
    """
    match = _WIDE_RESNET.fullmatch(name)
    if match is None:
        return None
    depth, factor = int(match[1]), int(match[2])
    return (depth, factor) if depth >= 10 and depth % 6 == 4 and factor >= 1 else None


def unknown(name: str) -> str | None:
    """The message where no architecture is called `name`."""
    if name in architectures() or own_family(name):
        return None
    if match := _WIDE_RESNET.fullmatch(name):
        depth = max(10, round((int(match[1]) - 4) / 6) * 6 + 4)
        return (
            f"no wide residual network is {match[1]} deep: the depth is 6 n + 4 and the factor at least 1, as in "
            f"'wrn-{depth}-{max(1, int(match[2]))}'"
        )
    near = difflib.get_close_matches(name, [*architectures(), *CIFAR_RESNETS], 1)
    hint = (
        f"; did you mean {near[0]!r}?"
        if near
        else f"; there are timm's (timm.list_models()), {', '.join(CIFAR_RESNETS)} and wrn-DEPTH-FACTOR, as in "
        "'wrn-28-10'"
    )
    return f"no architecture is called {name!r}{hint}"


def stem_problem(name: str, stem: str) -> str | None:
    """Why the architecture `name` cannot have the stem `cifar` or `native`; None where it can."""
    if stem == "native" or _adaptable(name):
        return None
    if file_of(name) in FAMILIES:
        return f"{name} has no stem for small images, unlike others of its family; write `stem: native`"
    return (
        f"{name} ({_family(name)}) has no stem for small images; write `stem: native`. Families that have one: "
        f"{_listed()}"
    )


def width_problem(name: str, width: float) -> str | None:
    """Why the architecture `name` cannot have its channels multiplied by `width`; None where it can."""
    if width == 1 or _adaptable(name):
        return None
    if file_of(name) in FAMILIES:
        return f"{name} takes no width, unlike others of its family; write `widths: [1]`"
    return f"{name} ({_family(name)}) takes no width; write `widths: [1]`. Families that do: {_listed()}"


def norm_problem(name: str, method: str | None = None) -> str | None:
    """Why there is nothing to compare on the architecture `name`, or nothing with the activation method `method`; None
    where there is.
    """
    if method in ("none", "skipinit") and re.fullmatch(NEEDS_A_NORM, name):
        return f"{name}: its convolutions have rows of unit variance, which without a norm (here {method!r}) overflow"
    reason = next((why for pattern, why in REFUSED.items() if re.fullmatch(pattern, name)), None)
    return f"{name}: {reason.format(name=name)}" if reason else None


def problem_with(name: str, stem: str, width: float) -> str | None:
    """The first of `unknown`, `stem_problem`, `width_problem`."""
    return unknown(name) or stem_problem(name, stem) or width_problem(name, width)


def _adaptable(name: str) -> bool:
    return own_family(name) is not None or (file_of(name) in FAMILIES and not any(re.fullmatch(p, name) for p in FIXED))


def _family(name: str) -> str:
    return f"timm.models.{file_of(name)}"


def _listed() -> str:
    return ", ".join(["wrn", "cifar_resnet", *FAMILIES])


#: Networks of the families above whose shape is fixed, as patterns of names.
FIXED = (r"efficientnet_[hx]_b\d", r"mobilenet_edgetpu_v2_.*")

#: Networks on which no norm can be compared, as patterns of names, with the reason.
REFUSED: dict[str, str] = {
    r"vgg1[1369]": "it has no normalization layer; its twin with batch norm is called {name}_bn",
    r"(dm_|eca_|test_)?nfnet.*|nf_.*": "it is built to do without normalization layers (scaled weight "
    "standardization, scaled branches)",
    r"gemma4_vit_.*_enc": "it is an encoder without a classifier",
    r"resmlp_.*": "it has no normalization layer, only scales and shifts of each channel",
}

#: Networks of weight-standardized convolutions that only their norms keep finite, as a pattern of names.
NEEDS_A_NORM = r"resnetv2_\d+x\d_bit"
