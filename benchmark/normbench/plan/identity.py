"""When is a stored result still good? Identity in parts, so that a stale result can say what changed.

parts:
    spec              the resolved trial
    data              fingerprint of the dataset's content, number of classes included
    code              digest of the source of every plug-in that the trial names, of the code that builds its network,
                      and of what these import from their own package
    protocol          version of the numeric protocol (`normbench.spec.trial.PROTOCOL`): the lab, all of it
    versions          of the libraries that decide numbers
    device_class      what computed it: `cpu`, or the name of a GPU. Known once the trial is placed; a result of any
                      class is good, and boards keep them apart
    precision         of training: `float32` or `bf16`, likewise
    no_choice         of a final trial that is not run, as tuning could choose nothing for it: why; else left out

What a digest is of: see `normbench.plan.digests`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import normbench.attacks as attacks
import normbench.measures as measures
import normbench.norms as norms
import normbench.statistics as statistics
from normbench.plan.digests import closure, source_digest
from normbench.spec.architectures import builder, unknown
from normbench.spec.outcome import Outcome
from normbench.spec.trial import PROTOCOL, Trial, digest

#: The module that builds every network, together with the file of its family.
CONSTRUCTION = "normbench.lab.network.construct"
LIBRARIES = ("torch", "timm", "foolbox", "numpy", "pillow")


@dataclass(frozen=True)
class Identity:
    """The parts of a trial's identity; equal parts, equal result."""

    spec: str
    data: str | None
    code: dict[str, str]
    protocol: int
    versions: dict[str, str]
    device_class: str | None = None
    precision: str | None = None
    no_choice: str = ""

    @property
    def hash(self) -> str:
        return digest(self.parts())[:32]

    def parts(self) -> dict[str, Any]:
        """As the store keeps them."""
        parts = {
            "spec": self.spec,
            "data": self.data,
            "code": self.code,
            "protocol": self.protocol,
            "versions": self.versions,
            "device_class": self.device_class,
            "precision": self.precision,
        }
        return parts | ({"no_choice": self.no_choice} if self.no_choice else {})

    def to_dict(self) -> dict[str, Any]:
        """The parts and their hash."""
        return {"hash": self.hash, **self.parts()}

    def placed(self, outcome: Outcome) -> Identity:
        """This identity with what is known once the trial has its place: device class and precision."""
        facts = outcome.provenance
        return replace(self, device_class=facts.get("device"), precision=facts.get("precision"))

    def changes_since(self, stored: Mapping[str, Any], *, accept_versions: bool = False) -> list[str]:
        """Why a result stored with these parts is stale: a line for each cause, none when the result is good.

        A dataset that is not on this machine yet (`data` is None) counts as unchanged. accept_versions: a library of
        another version is no cause.
        """
        reasons = []
        if self.no_choice != stored.get("no_choice", ""):
            reasons.append("tuning ended otherwise: " + (self.no_choice or "now its settings are chosen"))
        if self.data is not None and stored.get("data") != self.data:
            reasons.append(f"the dataset's content changed ({str(stored.get('data'))[:8]} -> {self.data[:8]})")
        if stored.get("protocol") != self.protocol:
            reasons.append(f"the numeric protocol changed ({stored.get('protocol')} -> {self.protocol})")
        reasons += _differences("source", stored.get("code") or {}, self.code)
        if not accept_versions:
            reasons += _differences("version", stored.get("versions") or {}, self.versions)
        return reasons


def _differences(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for each name whose source or version is new, gone or another."""
    lines = []
    for name in sorted({*before, *now}):
        if before.get(name) == now.get(name):
            continue
        if name in before and name in now:
            how = f"changed ({before[name]} -> {now[name]})" if what == "version" else "changed"
        else:
            how = f"is {'new' if name in now else 'gone'}"
        lines.append(f"{name}: {what} {how}")
    return lines


def identity(trial: Trial, fingerprint: str | None) -> Identity:
    """The identity that `trial` has now, on data of this content (None: not known yet)."""
    libraries = library_versions()
    if any(c.name.startswith("autoattack") for c in trial.attacks):
        libraries = libraries | {"pyautoattack": _version("pyautoattack")}
    packages = {getattr(attacks.registry.get(c.name), "package", "") for c in trial.attacks} - {""}
    libraries = libraries | {package: _version(package) for package in packages}
    return Identity(
        spec=trial.trial_id,
        data=fingerprint,
        code={name: source_digest(name) for name in sorted(closure(modules_of(trial)))},
        protocol=PROTOCOL,
        versions=libraries,
    )


def modules_of(trial: Trial) -> frozenset[str]:
    """The modules of the plug-ins that `trial` names, and those that build its network."""
    model = trial.model
    modules = {CONSTRUCTION} | (set() if unknown(model.name) else {builder(model.name, model.stem, model.width)})
    for registry, components in (
        (norms.registry, trial.norm),
        (attacks.registry, (*trial.attacks, *filter(None, [trial.train.adversarial]))),
        (measures.registry, trial.measures),
        (statistics.registry, trial.statistics),
    ):
        modules |= {registry.get(c.name).__module__ for c in components}
    return frozenset(modules)


@cache
def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that decide numbers, without importing them; a build tag (`+cpu`) is left
    out.
    """
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "absent"
