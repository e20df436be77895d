"""Digests of source code: of a module, and of all that a plug-in is made of. Nothing but the standard library.

    python -m normbench.plan.digests        # a line a module of this package: its name and its digest

A digest is of the syntax tree, in a form of our own that no interpreter changes. What decides no number is left out:
comments, docstrings, formatting, and a plug-in's prose and claims. So is what versions of Python write in different
ways: `ast.unparse` quotes f-strings differently from 3.12 on; `ast.dump` leaves out other fields.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

#: Class variables that describe a plug-in and decide nothing.
_PROSE = {"summary", "source", "claims", "equation", "family", "cost", "aliases"}
#: Code that finds, names and describes plug-ins decides nothing either.
_MACHINERY = ("errors", "paths", "spec")
#: Fields of syntax trees that say where a name is used or how a text was quoted. The rest of the tree says so too.
_SILENT = {"ctx", "kind", "type_comment", "type_ignores"}


@cache
def source_digest(module: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a module's code without prose; `absent` where there is none."""
    path = _file(module)
    return "absent" if path is None else digest_of(path.read_bytes())


def digest_of(source: bytes | str) -> str:
    """As `source_digest`, of a source text."""
    return hashlib.sha256(canonical(_without_prose(ast.parse(source))).encode()).hexdigest()[:16]


@cache
def closure(modules: frozenset[str]) -> frozenset[str]:
    """`modules` and all that they import, at any depth, from their own top-level packages."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or _is_machinery(name) or _file(name) is None:
            continue
        seen.add(name)
        waiting.extend(_imports(name))
    return frozenset(n for n in seen if not n.endswith(".__init__"))


def canonical(node: Any) -> str:
    """A syntax tree as text: names of nodes, and of their fields that hold something, in the order of their names."""
    match node:
        case ast.JoinedStr():
            return f"JoinedStr({','.join(canonical(part) for part in _parts(node.values))})"
        case ast.Constant():
            return f"Constant({_constant(node.value)})"
        case ast.AST():
            fields = sorted((k, v) for k, v in ast.iter_fields(node) if k not in _SILENT)
            told = (f"{k}={canonical(v)}" for k, v in fields if v is not None and v != [])
            return f"{type(node).__name__}({','.join(told)})"
        case list():
            return f"[{','.join(map(canonical, node))}]"
        case None:
            return "None"  # within a list: an argument without a default, the key of `{**other}`
        case _:
            return _constant(node)


def _parts(values: Iterable[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string. Texts side by side become one: versions differ in where they cut them."""
    parts: list[ast.expr] = []
    for value in values:
        last = parts[-1] if parts else None
        if isinstance(value, ast.Constant) and isinstance(last, ast.Constant):
            parts[-1] = ast.Constant(str(last.value) + str(value.value))
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            parts.append(value)
    return parts


def _constant(value: Any) -> str:
    """A literal. Texts are in ASCII, since it depends on a version's Unicode tables which characters `repr` escapes."""
    return f"{type(value).__name__} {json.dumps(value) if isinstance(value, str) else repr(value)}"


def _is_machinery(module: str) -> bool:
    top, _, rest = module.partition(".")
    return top == __name__.partition(".")[0] and rest.partition(".")[0] in _MACHINERY


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
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return isinstance(statement.value.value, str)
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


def main() -> None:
    """Print the digests of all modules of this package."""
    package = Path(__file__).resolve().parents[1]
    for path in sorted(package.rglob("*.py")):
        name = ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        print(name, digest_of(path.read_bytes()))  # noqa: T201


if __name__ == "__main__":
    main()
