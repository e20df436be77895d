"""What boards, entries and their settings are called: from the specification alone, and never two alike."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from normbench.board.words import describe
from normbench.spec.text import show
from normbench.spec.trial import EVALUATION_DATA, UNWRITTEN

#: Short names of settings, for labels and columns.
SHORT = {
    "train.weight_decay": "wd",
    "train.lr": "lr",
    "train.epochs": "epochs",
    "train.optimizer": "optimizer",
    "train.label_smoothing": "smoothing",
    "data.train_examples": "training images",
}

#: The setting that every board shows, whether its entries differ in it or not.
RATE = "train.lr"
DECAY = "train.weight_decay"

T = TypeVar("T")


def settings_of(spec: Mapping[str, Any], also: Collection[str] = ()) -> dict[str, str]:
    """Training settings by path, as text; `–` for what is not set. also: keys of `train` to name even where the
    specification leaves them to their defaults.
    """
    found = {f"data.{k}": _text(v) for k, v in spec["data"].items() if k not in EVALUATION_DATA}
    unwritten = {k: v for k, v in UNWRITTEN.items() if k in also}
    found |= {f"train.{k}": _text(v) for k, v in (unwritten | spec["train"]).items()}
    found["measures"] = "; ".join(describe(m) for m in spec["measures"]) or "–"
    if spec.get("statistics"):
        found["statistics"] = "; ".join(describe(s) for s in spec["statistics"])
    return found


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return show(value) or "–"


def short(path: str) -> str:
    """The name of a setting in labels and columns: `train.weight_decay` is `wd`."""
    return SHORT.get(path, path.rpartition(".")[2].replace("_", " "))


def label(
    entry: str, specs: Mapping[str, dict[str, Any]], settings: Mapping[str, dict[str, str]], varying: Sequence[str]
) -> str:
    """The method of an entry, and each setting in which entries of this very method differ."""
    norm = specs[entry]["norm_label"]
    same = [k for k in specs if specs[k]["norm_label"] == norm]
    parts = [
        f"{short(n)} {settings[entry].get(n, '–')}" for n in varying if len({settings[k].get(n) for k in same}) > 1
    ]
    text = " · ".join([norm, *parts])
    others = [k for k in same if k != entry and settings[k] == settings[entry]]
    return f"{text} · {entry}" if others else text  # same words, other specification: the id tells them apart


def set_up(spec: Mapping[str, Any]) -> str:
    """Images and architecture as specified, without the width: `cifar10 16×16 · resnet18, layers 1+1+1+1`."""
    data, model = spec["data"], spec["model"]
    side = data["image_size"]
    images = f"{data['dataset']} {side}×{side}" if side else data["dataset"]
    arguments = [f"{k.replace('_', ' ')} {_text(v).replace(';', '+')}" for k, v in model["kwargs"].items()]
    stem = [] if model["stem"] == "cifar" else [f"{model['stem']} stem"]
    return f"{images} · {', '.join([model['name'], *arguments, *stem])}"


def title(spec: Mapping[str, Any]) -> str:
    """Set-up, width and batch size: `cifar10 16×16 · resnet18, layers 1+1+1+1 · width ×0.25 · batch 128`."""
    width = spec["model"]["width"]
    return f"{set_up(spec)}{'' if width == 1 else f' · width ×{width:g}'} · batch {spec['batch_size']}"


def apart(items: Sequence[T], text: Callable[[T], str], tells: Sequence[Callable[[T], str]]) -> list[str]:
    """A text for each item, unique ignoring case: where several share one, what else differs among them is added to
    it, in the order of `tells`; the last of these tells any two apart.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        groups[text(item).lower()].append(i)
    texts = [text(item) for item in items]
    for group in groups.values():
        for tell in tells:
            if len({texts[i].lower() for i in group}) == len(group):
                break
            said = {i: tell(items[i]) for i in group}
            if len(set(said.values())) > 1:
                for i in group:
                    texts[i] += f" · {said[i]}"
    return texts


def slugify(text: str, limit: int = 80) -> str:
    """Lower-case letters, digits and hyphens of `text`, at most `limit`; `x` when nothing is left."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower().replace("×", "x")).strip("-")[:limit].strip("-")
    return slug or "x"
