"""When is a stored result still good? Identity in parts, so that a stale result can say what changed.

parts:
    spec      the resolved trial
    data      fingerprint of the dataset's content
    code      digest of the source of every plug-in that the trial names and of what these import from their own package
    protocol  version of the numeric protocol (`normbench.spec.trial.PROTOCOL`)
    versions  of the libraries that decide numbers
    untuned   of a final trial that is not run, as tuning could choose nothing for it: why; else left out

The digest of a source ignores comments, docstrings, formatting and a plug-in's prose and claims, none of which decides
a number.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from normbench import attacks, measures, norms
from normbench.spec.trial import PROTOCOL, Trial, digest

LIBRARIES = ("torch", "timm", "foolbox", "numpy", "pillow")
#: Class variables that describe a plug-in and decide nothing.
_PROSE = {"summary", "source", "claims", "equation", "family", "cost"}
#: Finding and naming plug-ins decides nothing either.
_MACHINERY = {"normbench.spec.plugins", "normbench.spec.trial", "normbench.paths", "normbench.errors"}


@dataclass(frozen=True)
class Identity:
    """The parts of a trial's identity; equal parts, equal result."""

    spec: str
    data: str | None
    code: dict[str, str]
    protocol: int
    versions: dict[str, str]
    untuned: str = ""

    @property
    def hash(self) -> str:
        return digest(self.parts())[:32]

    def parts(self) -> dict[str, Any]:
        parts = {
            "spec": self.spec,
            "data": self.data,
            "code": self.code,
            "protocol": self.protocol,
            "versions": self.versions,
        }
        return parts | ({"untuned": self.untuned} if self.untuned else {})

    def to_dict(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {"hash": self.hash, **self.parts()}

    def changes_since(self, stored: dict[str, Any], *, accept_versions: bool = False) -> list[str]:
        """Why a result stored with these parts is stale, one line a cause; empty when it is good.

        A dataset that is not on this machine yet (`data` is None) is taken to be the same. accept_versions: a library
        of another version is no cause.
        """
        reasons = []
        if self.untuned != stored.get("untuned", ""):
            reasons.append("tuning ended otherwise: " + (self.untuned or "now its settings are chosen"))
        if self.data is not None and stored.get("data") != self.data:
            reasons.append(f"the dataset's content changed ({str(stored.get('data'))[:8]} -> {self.data[:8]})")
        if stored.get("protocol") != self.protocol:
            reasons.append(f"the numeric protocol changed ({stored.get('protocol')} -> {self.protocol})")
        for what, now in (("source", self.code), ("version", self.versions))[: 1 if accept_versions else 2]:
            before = stored.get("code" if what == "source" else "versions") or {}
            for name in sorted({*before, *now}):
                if before.get(name) != now.get(name):
                    detail = f" ({before.get(name, 'none')} -> {now.get(name, 'none')})" if what == "version" else ""
                    reasons.append(
                        f"{name}: {what} changed{detail}"
                        if name in before and name in now
                        else f"{name}: {what} is {'new' if name in now else 'gone'}"
                    )
        return reasons


def identity(trial: Trial, fingerprint: str | None) -> Identity:
    """The identity that `trial` has now, on data of this content (None: not known yet)."""
    modules: set[str] = set()
    for registry, components in (
        (norms.registry, trial.norm),
        (attacks.registry, (*trial.attacks, *filter(None, [trial.train.adversarial]))),
        (measures.registry, trial.measures),
    ):
        modules |= {registry.get(c.name).__module__ for c in components}
    return Identity(
        spec=trial.trial_id,
        data=fingerprint,
        code={name: source_digest(name) for name in sorted(closure(frozenset(modules)))},
        protocol=PROTOCOL,
        versions=library_versions()
        | (
            {"pyautoattack": _version("pyautoattack")}
            if any(c.name.startswith("autoattack") for c in trial.attacks)
            else {}
        ),
    )


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


@cache
def closure(modules: frozenset[str]) -> frozenset[str]:
    """`modules` and all that they import, at any depth, from their own top-level packages."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or name in _MACHINERY or _file(name) is None:
            continue
        seen.add(name)
        waiting.extend(_imports(name))
    return frozenset(n for n in seen if not n.endswith(".__init__"))


@cache
def source_digest(module: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a module's code without prose."""
    path = _file(module)
    if path is None:
        return "absent"
    return hashlib.sha256(ast.unparse(_without_prose(ast.parse(path.read_bytes()))).encode()).hexdigest()[:16]


def _imports(module: str) -> Iterable[str]:
    path = _file(module)
    if path is None:
        return
    top = module.partition(".")[0]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (n for n in names if n.partition(".")[0] == top)


@cache
def _file(module: str) -> Path | None:
    """The source file of a module; None for what is no module (a name imported from one).

    Looked up on disk below the top-level package: `find_spec` of a submodule would import its parents, and torch with
    them.
    """
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for location in spec.submodule_search_locations or ():
        path = Path(location, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _without_prose(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        kept = [s for s in body if not _is_prose(s, in_class=isinstance(node, ast.ClassDef))]
        if len(kept) != len(body):
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_prose(statement: ast.stmt, *, in_class: bool) -> bool:
    if (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ):
        return True
    if not in_class:
        return False
    targets = (
        [statement.target]
        if isinstance(statement, ast.AnnAssign)
        else statement.targets
        if isinstance(statement, ast.Assign)
        else []
    )
    return bool(targets) and all(isinstance(t, ast.Name) and t.id in _PROSE for t in targets)
