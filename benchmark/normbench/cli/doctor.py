"""`bench doctor`: what this machine has, and what a suite would run on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import normbench
import normbench.attacks as attacks
import normbench.measures as measures
import normbench.norms as norms
from normbench.cli.say import shown
from normbench.lab.data import HUB, SHIPPED, folders
from normbench.paths import cache_dir, checkout, default_results

if TYPE_CHECKING:
    from rich.console import Console

_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "foolbox",
    "ray",
    "pyarrow",
    "numpy",
    "scipy",
    "pillow",
    "pydantic",
    "huggingface_hub",
    "altair",
    "vl-convert-python",
)


def examine(data_dir: Path | None) -> dict[str, Any]:
    """Versions, devices (this imports torch), datasets, folders and broken plug-ins, as plain values."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    broken = {
        f"{r.kind} {name}": problem
        for r in (norms.registry, attacks.registry, measures.registry)
        for name, problem in r.problems().items()
    }
    return {
        "normbench": normbench.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "bytecode": "not kept (PYTHONDONTWRITEBYTECODE): each process takes several times as long to start"
        if sys.dont_write_bytecode
        else "kept",
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "cpus": cores,
        "gpus": gpus,
        "trials_run_on": f"{len(gpus)} GPU(s), bf16 autocast" if gpus else f"{cores} CPU(s), float32",
        "engines": _engines(gpu=bool(gpus)),
        "checkout": str(checkout()) if checkout() else None,
        "results": str(default_results()),
        "cache": str(cache_dir()),
        "data_folder": str(data_dir) if data_dir else None,
        "datasets": {
            "shipped": list(SHIPPED),
            "in data folder": folders(data_dir) if data_dir else [],
            "from the hub": sorted(HUB),
        },
        "plugins": {
            "norms": norms.registry.names(),
            "attacks": attacks.registry.names(),
            "measures": measures.registry.names(),
        },
        "broken_plugins": broken,
    }


def _engines(*, gpu: bool) -> str:
    """What `auto` is here, and whether code can be compiled. On a GPU that is tried, since trials there compile."""
    from normbench.lab.engine.needs import lacking, tried

    auto = "graph, on compiled code" if gpu else "eager"
    lacks = "; ".join(lacking(gpu=gpu))
    problem = f"lacks {lacks}" if lacks else tried("cuda") if gpu else ""
    if problem:
        return f"auto is {auto}; code cannot be compiled: {problem}"
    return f"auto is {auto}; {'a function was compiled' if gpu else 'what compile needs is there'}"


def show(found: dict[str, Any], console: Console) -> None:
    """Print what `examine` found, a row each; of plug-ins how many there are, as `bench norms` lists them."""
    from normbench.runner.fitted import Column, Fitted

    table = Fitted([Column("", key=True), Column("", words=True)])
    for key, value in _told(found).items():
        table.add_row(shown(key.replace("_", " "), "bold"), ", ".join(value) if isinstance(value, list) else str(value))
    console.print(table)


def _told(found: dict[str, Any]) -> dict[str, str | list[str]]:
    """What stands beside each name."""
    counts = [f"{len(names)} {kind} (bench {kind})" for kind, names in found["plugins"].items()]
    broken = [f"{name}: {problem}" for name, problem in found["broken_plugins"].items()]
    told = found | {
        "libraries": [f"{name} {there}" for name, there in found["libraries"].items()],
        "plugins": counts,
        "broken_plugins": broken,
    }
    datasets = {f"datasets {where}": names for where, names in told.pop("datasets").items()}
    return {key: value or "none" for key, value in (told | datasets).items()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
