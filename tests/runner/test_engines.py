"""What `bench run` says about engines at its end, and what `bench doctor` says about what they need."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
from normbench.cli import doctor
from normbench.lab.engine import needs
from normbench.runner.engines import engine_lines

EAGER = {"engine": "eager", "engine_reason": ""}
WHY = "compile: InvalidCxxCompiler: no working C++ compiler"


def test_nothing_is_said_where_nothing_but_eager_was_asked_for() -> None:
    assert engine_lines([]) == engine_lines([EAGER, {}, EAGER]) == []


def test_a_line_for_each_engine_and_reason() -> None:
    graph = {"engine": "graph", "engine_reason": "", "search": "compile", "search_reason": ""}
    fell = EAGER | {"engine_reason": WHY}
    assert engine_lines([graph, fell, graph, fell, fell, EAGER]) == [
        "gradients of attacks: compile, 2 trials",
        "training steps: eager, 1 trial",
        f"training steps: eager, 3 trials; {WHY}",
        "training steps: graph, 2 trials",
    ]
    assert engine_lines([fell]) == [f"training steps: eager, 1 trial; {WHY}"]


def test_what_compiled_code_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "mine"
    compiler.touch(0o755)
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", str(compiler))
    assert needs.lacking(gpu=False) == []
    monkeypatch.delenv("CXX")
    (tmp_path / "Python.h").unlink()
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    assert needs.lacking(gpu=True) == [
        "a C++ compiler (g++, clang++, c++)",
        f"Python's header {tmp_path / 'Python.h'} (package python3-dev)",
        "the package triton",
    ]
    assert doctor._engines(gpu=False).startswith("auto is eager; code cannot be compiled: lacks a C++ compiler (g++")


@pytest.mark.parametrize(
    ("problem", "said"),
    [("", "a function was compiled"), ("ValueError: no", "code cannot be compiled: ValueError: no")],
)
def test_on_a_gpu_doctor_compiles(problem: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "lacking", lambda gpu: [])
    monkeypatch.setattr(needs, "tried", lambda device: problem)
    assert doctor._engines(gpu=True) == f"auto is graph, on compiled code; {said}"
    assert doctor._engines(gpu=False) == "auto is eager; what compile needs is there"


@pytest.mark.engine
def test_the_probe_compiles() -> None:
    assert needs.tried("cpu") == ""
    assert ": " in needs.tried("cuda:99")
