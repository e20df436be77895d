"""The package's face: names that cost nothing until they are used, and rooms that can be called."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import normbench as nb
import pytest
from ray import cloudpickle

FACE = Path(nb.__file__)
PYTHON_PAGE = FACE.parents[2] / "docs" / "python.md"
ROOMS = ("attacks", "board", "measures", "norms")


def test_importing_it_loads_nothing() -> None:
    """0.3 s are far more than this takes: not even numpy is loaded."""
    code = "import sys; before = set(sys.modules); import normbench; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"normbench", "__future__", "importlib", "typing", *_typing()}


def _typing() -> set[str]:
    """What the standard library's own `typing` loads."""
    code = "import sys; before = set(sys.modules); import typing, importlib; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_begins_with_few_libraries() -> None:
    """Help, and what Tab offers, wait for none of the libraries that a verb needs."""
    code = "import sys, normbench.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pandas", "pyarrow", "pydantic", "ray", "timm", "torch", "yaml"}
    assert not heavy & set(done.stdout.split())


def test_checkers_see_the_names_that_are_there() -> None:
    """The imports for type checkers, the table by which names are loaded and `__all__` are of the same names."""
    seen = {
        alias.asname: (node.module, alias.name)
        for branch in ast.walk(ast.parse(FACE.read_text(encoding="utf-8")))
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == nb.PLACES
    assert sorted(nb.__all__) == sorted([*nb.PLACES, "__version__"])
    assert set(nb.__all__) <= set(dir(nb))
    assert set(re.findall(r"`nb\.(\w+)[(`]", PYTHON_PAGE.read_text())) == nb.PLACES.keys(), "the page tells all names"


@pytest.mark.parametrize("name", nb.PLACES)
def test_every_name_is_documented(name: str) -> None:
    module, inner = nb.PLACES[name]
    found = getattr(import_module(module), inner)
    assert getattr(nb, name) is found or name in ROOMS
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        assert "Raises" in (found.__doc__ or "") or not inspect.signature(found).parameters


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'normbench' has no attribute 'swop'"):
        nb.swop  # noqa: B018


@pytest.mark.parametrize("name", ROOMS)
@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_a_room_can_be_called_and_is_a_module(name: str, dumps: Callable[[object], bytes]) -> None:
    """cloudpickle is how functions that use it travel to Ray's workers."""
    room = import_module(f"normbench.{name}")
    assert getattr(nb, name) is room
    assert inspect.ismodule(room)
    module, inner = nb.PLACES[name]
    assert inspect.signature(room) == inspect.signature(getattr(import_module(module), inner))
    assert pickle.loads(dumps(room)) is room


@pytest.mark.parametrize("name", ["attacks", "measures", "norms"])
def test_listings_hold_all_plug_ins_and_show_a_line_for_each(name: str) -> None:
    registry = import_module(f"normbench.{name}").registry
    found = getattr(nb, name)()
    assert list(found) == registry.names()
    assert all(found[each] is registry.get(each) for each in found)
    lines = repr(found).splitlines()
    assert [line.split()[0] for line in lines] == list(found)
    assert all(cls.summary in line for line, cls in zip(lines, found.values(), strict=True))


def test_parameters_stand_as_they_are_written() -> None:
    line = next(text for text in repr(nb.attacks()).splitlines() if text.startswith("bim "))
    assert line.endswith("[engine=loop, eps=1/255;2/255;4/255;8/255, steps=20, step_size, loss=ce]")
