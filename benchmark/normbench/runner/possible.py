"""Methods that are impossible at a place of a network, found before anything is trained.

A plan alone loads no torch. It does where a pair of a network and a method is in doubt: the method has parameters of
its own, starts residual branches at zero, or is given single examples. What was found once is kept in the cache.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import normbench.norms as norms
from normbench.paths import cache_dir
from normbench.plan.digests import closure, source_digest
from normbench.plan.identity import CONSTRUCTION, library_versions
from normbench.plan.plan import Plan
from normbench.runner import spawn
from normbench.spec.architectures import builder
from normbench.spec.trial import Trial, digest

#: Seconds of looking, once torch is loaded. What is left then is said to be not looked at.
LIMIT = 60.0
_TARGET = "normbench.lab.network.possible:answer"
#: The code that decides, beside that of the method and of the network.
_DECIDING = ("normbench.lab.network.possible", "normbench.lab.network.swap", "normbench.lab.network.flow", CONSTRUCTION)


def looked_at(plan: Plan, address: str | None = None) -> Plan:
    """The plan with what is impossible. address: of a server that has torch loaded."""
    pairs: dict[str, dict[str, Any]] = {}
    trials: Counter[str] = Counter()
    names: dict[str, str] = {}
    for trial in plan.ahead:
        side = trial.data.image_size or plan.sides.get(trial.data.dataset)
        if side and in_doubt(trial):
            pair = _pair(trial, side)
            key = digest([pair, _code(trial), library_versions()])[:32]
            pairs[key] = pair
            trials[key] += 1
            names[key] = f"{trial.norm_label} on {trial.model.name}"
    known = {key: told for key in pairs if (told := _kept(key)) is not None}
    new = sorted((key for key in pairs if key not in known), key=lambda key: json.dumps(pairs[key]["network"]))
    found = _ask([pairs[key] for key in new], address) if new else {}
    for number, told in found.items():
        known[new[number]] = told
        _keep(new[number], told)
    texts: Counter[str] = Counter()
    for key, told in known.items():
        if told:
            texts[f"{names[key]}: {told}"] += trials[key]
    impossible = tuple(f"{text} ({n} trial{'s' * (n != 1)})" for text, n in sorted(texts.items()))
    return replace(plan, impossible=impossible, unseen=len(pairs) - len(known))


def in_doubt(trial: Trial) -> bool:
    """Whether the method of a trial may be impossible at a place, as far as can be told without torch."""
    _, activation, _ = norms.split(trial.norm)
    defaults = type(activation)()
    chosen = any(
        getattr(activation, key) != getattr(defaults, key)
        for key in type(activation).model_fields
        if key not in {"eps", "momentum"}
    )
    return chosen or activation.own_branch_start or (trial.batch_size == 1 and bool(activation.claims.errors))


def _pair(trial: Trial, side: int) -> dict[str, Any]:
    model = trial.model
    network = {"name": model.name, "stem": model.stem, "width": model.width, "image_size": side, "kwargs": model.kwargs}
    return {
        "network": network,
        "norm": [c.model_dump(mode="json") for c in trial.norm],
        "batch": min(trial.batch_size, 2),
    }


def _code(trial: Trial) -> dict[str, str]:
    methods = [norms.registry.get(c.name).__module__ for c in trial.norm]
    model = trial.model
    modules = closure(frozenset({*_DECIDING, *methods, builder(model.name, model.stem, model.width)}))
    return {name: source_digest(name) for name in sorted(modules)}


def _ask(pairs: list[dict[str, Any]], address: str | None) -> dict[int, str]:
    """Problems by the number of the pair, of all that were looked at in time."""
    found: dict[int, str] = {}
    with (
        suppress(spawn.SpawnError),
        tempfile.TemporaryFile() as log,
        spawn.start(_TARGET, pairs, log, address, name="bench-plan") as process,
    ):
        deadline = time.monotonic() + LIMIT
        while not process.ended and (left := deadline - time.monotonic()) > 0:
            found.update(process.receive(left))
    return found


def _file(key: str) -> Path:
    return cache_dir() / "possible" / f"{key}.json"


def _kept(key: str) -> str | None:
    with suppress(OSError, ValueError):
        told = json.loads(_file(key).read_text(encoding="utf-8"))
        return told if isinstance(told, str) else None
    return None


def _keep(key: str, told: str) -> None:
    """Write what was found. A cache that cannot be written to costs the next plan some seconds, and nothing else."""
    with suppress(OSError):
        path = _file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(told), encoding="utf-8")
        new.replace(path)
