"""What is registered, as `bench norms` and its like list it."""

from __future__ import annotations

import json

import normbench as nb
import pytest
from normbench.norms import registry
from normbench.spec.plugins import PluginError
from normbench.spec.text import closest, parameters
from normbench.suite import load

from tests.cli.conftest import Bench


@pytest.mark.parametrize("kind", ["norms", "attacks", "measures"])
def test_every_parameter_is_listed_in_the_terminal_as_in_python(shown: Bench, kind: str) -> None:
    """Also those that have no default, such as the groups of group norm."""
    lines = {line.split()[0]: " ".join(line.split()) for line in shown(kind).splitlines()[1:]}
    found = {row["name"]: row["parameters"] for row in json.loads(shown(kind, "--json"))}
    in_python = dict(line.split(maxsplit=1) for line in repr(getattr(nb, kind)()).splitlines())
    assert found.keys() == lines.keys() == in_python.keys()
    for name, values in found.items():
        told = parameters(values)
        assert told in lines[name]
        assert f"[{told}]" in in_python[name] if told else "[" not in in_python[name].rpartition("  ")[2]


def test_a_parameter_without_a_default_is_a_name() -> None:
    assert parameters({"groups": None, "eps": 2 / 255, "sizes": [1, 2]}) == "groups, eps=2/255, sizes=1;2"


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        ("gm", ["bn", "gn", "gw", "ln"], ["gn", "gw"]),
        ("wm", ["gw", "ws", "wn"], ["wn", "ws", "gw"]),
        ("steps", ["steps", "step"], ["steps"]),
        ("zzz", ["bn"], []),
        ("", ["bn"], []),
    ],
)
def test_what_is_equally_near_is_all_named(text: str, known: list[str], expected: list[str]) -> None:
    assert closest(text, known, 0.5) == expected


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("gm", "'gn' or 'gw'"),
        ("lm", "'ln'"),
        ("LayerNorm", "'ln' or 'ln-tok'"),
        ("batch_norm", "'bn'"),
        ("GroupNorm", "'gn'"),
        ("InstanceNorm2d", "'in'"),
        ("rmsnorm", "'rms'"),
        ("weight-standardization", "'ws'"),
        ("ghostbn", "'ghost-bn'"),
    ],
)
def test_names_that_people_know_are_understood(text: str, near: str) -> None:
    with pytest.raises(PluginError, match=f"no norm is called '{text}'; did you mean {near}\\?"):
        registry.get(text)
    with pytest.raises(nb.BenchError, match=f"did you mean {near}\\?"):
        load("digits", [f"norms={text}"])
