"""Digests of source code: of the code alone, and the same under every Python."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import normbench
import pytest
from normbench.plan import digests
from normbench.plan.digests import canonical, digest_of

from tests.matrix import sample

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


OTHERS = others() or [pytest.param("", marks=pytest.mark.skip("no other Python is here"))]


@pytest.mark.parametrize("python", sample(OTHERS, OTHERS[-1:]))
def test_another_python_computes_the_same(python: str) -> None:
    command = ["-P", "-m", "normbench.plan.digests"]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    here, there = (
        subprocess.run([p, *command], env=environment, capture_output=True, text=True, check=True).stdout
        for p in (sys.executable, python)
    )
    assert here.count("\n") > 200
    assert here == there


@pytest.mark.parametrize("python", OTHERS)
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class A:\n    x = 1", "class A:\n    x = 2"),
        ("class A:\n    x, y = 1, 2", "class A:\n    x, y = 2, 1"),
        ("class A:\n    def f(self): return 1", "class A:\n    def f(self): return 2"),
        ("class A:\n    if a: x = 1", "class A:\n    if a: x = 2"),
        ("class A:\n    summary = x = 1", "class A:\n    summary = x = 2"),
        ("class A:\n    b.summary = 1", "class A:\n    b.summary = 2"),
        ("class A:\n    summary += 1", "class A:\n    summary += 2"),
    ],
)
def test_what_a_class_holds_besides_prose_counts(one: str, other: str) -> None:
    assert digest_of(one) != digest_of(other)


def test_the_form_that_is_hashed() -> None:
    """Stored results rest on it: with another form all of them are stale."""
    source = "def f(a, *, b, c=1): return f'{a!r}\u00e9{b}', (b'\\xff', 0.5), [*a, {**b}]"
    assert canonical(ast.parse(source)) == (
        'Module(body=[FunctionDef(args=arguments(args=[arg(arg=str "a")],kw_defaults=[None,Constant(int 1)],'
        'kwonlyargs=[arg(arg=str "b"),arg(arg=str "c")]),body=[Return(value=Tuple(elts=[JoinedStr('
        'FormattedValue(conversion=int 114,value=Name(id=str "a")),Constant(str "\\u00e9"),'
        "FormattedValue(conversion=int -1,value=Name(id=str \"b\"))),Tuple(elts=[Constant(bytes b'\\xff'),"
        'Constant(float 0.5)]),List(elts=[Starred(value=Name(id=str "a")),Dict(keys=[None],values=[Name(id=str "b")])'
        '])]))],name=str "f")])'
    )
    assert digest_of("x = 1") == "fa5e6b6476ea70d1"


def test_where_a_version_cuts_the_text_of_an_f_string_does_not_count() -> None:
    name = ast.FormattedValue(ast.Name("x"), -1)
    cut = ast.JoinedStr([name, *map(ast.Constant, "ab"), name, *map(ast.Constant, ("c", "", "d", "e"))])
    whole = ast.JoinedStr([name, ast.Constant("ab"), name, ast.Constant("cde")])
    assert canonical(cut) == canonical(whole)
    assert canonical(ast.JoinedStr([ast.Constant(""), name, ast.Constant("")])) == canonical(ast.JoinedStr([name]))


def test_all_modules_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = {"package/__init__.py": "", "package/plan/digests.py": "x = 1", "package/a.py": "x = 2", "other.py": "1"}
    for name, source in {**sources, "package/a.txt": "1"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr(digests, "__file__", str(tmp_path / "package" / "plan" / "digests.py"))
    digests.main()
    assert capsys.readouterr().out.splitlines() == [
        f"package {digest_of('')}",
        f"package.a {digest_of('x = 2')}",
        f"package.plan.digests {digest_of('x = 1')}",
    ]
