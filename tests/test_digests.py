"""Digests of source code: of the code alone, and the same under every Python."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import normbench
import pytest
from normbench.plan.digests import digest_of

PACKAGE = Path(normbench.__file__).parent
#: Sources whose syntax trees or whose texts versions of Python write in different ways.
TRICKY = {
    "f-strings": """f"{x!r:>{w}}" f'a{"b"}' "c" f"{{}} {x=} {y:%Y-%m-%d} {z:{a}.{b}}" rf"\\d{x}" """,
    "nested quotes": """f'{d["key"]}' + f"{d['key']}" + f'''{d["a"]}"''' """,
    "only text": "f'plain' + f'' + 'plain'",
    "characters": r"('\N{GREEK SMALL LETTER ALPHA}\x00\ud800', '\U0001fae8\u0378', '\\')",
    "numbers": "1_000, 0x10, 1e400, -1e400, 1j, 10**30, 0.1, ..., b'\\xff', True, None",
    "types": "def f[T: int](x: T) -> T: ...\ntype A = int" if sys.version_info >= (3, 12) else "x: list[int] = []",
    "match": "match x:\n    case [1, *_, {'a': b, **c}] | C(d=3) if e: pass\n    case _: ...",
    "arguments": "def f(a, /, b=1, *c, d, e=None, **g): return [*a, {**b}, (h := 1), lambda *, k: k]",
    "decorators": "@a.b(c)\nclass D(E, metaclass=F):\n    x: int = 1\n    async def g(self): await h",
    "types of errors": "try: ...\nexcept* (A, B) as e: raise C from None\nfinally: del x[1:2, ...]",
}


def others() -> list[str]:
    """Other versions of Python on this machine that can read this package's code."""
    names = (f"python3.{minor}" for minor in range(11, 16) if (3, minor) != sys.version_info[:2])
    found = [path for name in names if (path := shutil.which(name))]
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in sorted(roots.glob("3.*/bin/python")):
        version = re.match(r"3\.(\d+)", path.parts[-3])
        if version and int(version[1]) >= 11 and int(version[1]) != sys.version_info[1]:
            found.append(str(path))
    return [path for path in found if subprocess.run([path, "-c", "import ast"], capture_output=True).returncode == 0]


OTHERS = others()


@pytest.mark.parametrize("python", OTHERS or [pytest.param("", marks=pytest.mark.skip("no other Python is here"))])
def test_another_python_computes_the_same(python: str) -> None:
    command = ["-P", "-m", "normbench.plan.digests"]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    here, there = (
        subprocess.run([p, *command], env=environment, capture_output=True, text=True, check=True).stdout
        for p in (sys.executable, python)
    )
    assert here.count("\n") > 200
    assert here == there


@pytest.mark.parametrize("python", OTHERS or [pytest.param("", marks=pytest.mark.skip("no other Python is here"))])
def test_tricky_sources_are_the_same_too(python: str) -> None:
    code = (
        "import json, sys; from normbench.plan.digests import digest_of; "
        "print([digest_of(text) for text in json.load(sys.stdin)])"
    )
    told = [
        subprocess.run(
            [p, "-P", "-c", code],
            env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
            input=json.dumps([t for name, t in TRICKY.items() if name != "types"]),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for p in (sys.executable, python)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", TRICKY)
def test_every_part_of_a_source_counts(name: str) -> None:
    """Each literal, name and operator that is changed gives another digest; comments and blanks give the same."""
    source = TRICKY[name]
    assert digest_of(f"# a comment\n\n{source}  # why\n\n") == digest_of(source)
    digests = {digest_of(source)}
    for other in TRICKY.values():
        digests.add(digest_of(f"{source}\n{other}"))
    assert len(digests) == len(TRICKY) + 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f'{x}a'", "f'{x}b'"),
        ("f'{x!r}'", "f'{x!s}'"),
        ("f'{x:>3}'", "f'{x:>4}'"),
        ("f'{x}'", "'{x}'"),
        ("f'a'", "'a'"),
        ("'1'", "1"),
        ("1", "1.0"),
        ("1", "True"),
        ("b'a'", "'a'"),
        ("x = [a, b]", "x = [b, a]"),
        ("f(a, b)", "f(a, b=b)"),
        ("def f(a, b=1): ...", "def f(a=1, b=1): ..."),
        ("def f(*, a, b=1): ...", "def f(*, a=1, b): ..."),
        ("{**a, 1: b}", "{1: b, **a}"),
        ("a < b", "a <= b"),
        ("a if b else c", "c if b else a"),
        ("x: int = 1", "x = 1"),
        ("x[1:]", "x[:1]"),
        ("from a import b", "from .a import b"),
        ("from a import b", "from a import b as c"),
        ("async def f(): ...", "def f(): ..."),
        ("0.1", "0.10000000000000002"),
    ],
)
def test_what_differs_has_another_digest(one: str, other: str) -> None:
    assert digest_of(one) != digest_of(other)


def test_docstrings_and_prose_do_not_count() -> None:
    bare = "class A:\n    x = 1\n    def f(self): return 2"
    told = """class A:
    '''What.'''
    summary = "b"
    claims: int = 3
    x = 1
    def f(self):
        '''How.'''
        return 2"""
    assert digest_of(bare) == digest_of(told)
    assert digest_of("summary = 1") != digest_of("summary = 2"), "prose is of classes alone"
