"""What is measured of a method's cost: in turns with batch norm, at every shape, and the memory in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from normbench import norms
from normbench.cli.main import app
from normbench.lab import cost
from normbench.lab.cost import Case, Layer, _counting, code_of, measure
from normbench.spec.cost import Cost, Costs
from normbench.store import costs as files
from normbench.store.store import Store
from torch import nn
from typer.testing import CliRunner

SMALL = (Case("layer", (4, 8, 6, 6)), Case("network", (2, 3, 16, 16)))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LEAST", 1e-9)


@pytest.mark.parametrize("method", ["gn", "ws+gn", "bn+noise", "none", "sn"])
def test_every_step_is_timed_at_every_shape(method: str) -> None:
    found = measure(method, CPU, rounds=9, cases=SMALL)
    assert found.method == method
    assert found.failed == {}
    steps = [(t.what, t.step) for t in found.timings]
    assert sorted(steps) == sorted(
        [
            *(("layer", s) for s in ("forward", "inference", "backward")),
            ("network", "training"),
            ("network", "inference"),
        ]
    )
    assert all(0 < t.low <= t.ratio <= t.high for t in found.timings)
    assert [k.shape for k in found.kept] == ["4x8x6x6", "2x3x16x16"]


def test_what_is_kept_is_counted_once_and_without_parameters() -> None:
    """ReLU keeps its output; a product keeps both factors, of which one is a parameter."""
    model = nn.Linear(5, 7, bias=False)
    x = torch.ones(3, 5, requires_grad=True)
    with _counting() as count:
        nn.functional.relu(model(x)).square().sum()
    # x for the weight's gradient; the output of ReLU, which the square keeps too.
    assert count(model) == 4 * (3 * 5 + 3 * 7)


def test_batch_norm_keeps_its_input_and_two_numbers_a_channel() -> None:
    layer = Layer(norms.resolve("bn")[1], (4, 8, 6, 6)).train()
    x = torch.ones(4, 8, 6, 6, requires_grad=True)
    with _counting() as count:
        layer(x)
    assert count(layer) == 4 * (x.numel() + 2 * 8)


def test_a_shape_that_a_method_refuses_is_named_and_costs_no_other() -> None:
    found = measure("gn[groups=8]", CPU, rounds=3, cases=(Case("layer", (4, 12, 6, 6)), SMALL[0]))
    assert list(found.failed) == ["layer 4x12x6x6"]
    assert "8 groups" in found.failed["layer 4x12x6x6"] or "divide" in found.failed["layer 4x12x6x6"]
    assert {t.shape for t in found.timings} == {"4x8x6x6"}


def test_the_code_of_a_method_is_that_of_its_sources_and_parameters() -> None:
    codes = [code_of(norms.resolve(text)[1]) for text in ("gn", "gn[groups=4]", "ws+gn", "bn")]
    assert len(set(codes)) == 4
    assert codes[0] == code_of(norms.resolve("gn")[1])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that the command measures, in small."""
    seen: list[str] = []

    def small(method: str, device: torch.device) -> Cost:
        seen.append(method)
        return measure(method, device, rounds=3, cases=SMALL[:1])

    monkeypatch.setattr("normbench.lab.cost.measure", small)
    return seen


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["cost", "--device", "cpu", *arguments])


def test_the_command_goes_on_where_it_was_broken_off(asked: list[str], tmp_path: Path) -> None:
    first = run("--methods", "bn, gn", "--results", str(tmp_path))
    assert first.exit_code == 0, first.output
    assert "2/2 gn: layer " in first.output
    again = run("--methods", "gn,ws+gn", "--results", str(tmp_path), "--json")
    assert asked == ["bn", "gn", "ws+gn"]
    found = json.loads(again.stdout)
    assert sorted(found["methods"]) == ["bn", "gn", "ws+gn"]
    assert "torch" in found["machine"]
    assert "1/1 ws+gn" in again.stderr
    (kept,) = files.read_all(Store(tmp_path))
    assert kept == Costs.model_validate(found)
    (path,) = (tmp_path / "cost").iterdir()
    stale = kept.model_copy(
        update={"methods": {k: v.model_copy(update={"code": "old"}) for k, v in kept.methods.items()}}
    )
    path.write_text(stale.model_dump_json())
    run("--methods", "gn", "--results", str(tmp_path))
    assert asked[3:] == ["gn"], "sources or torch have changed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--methods", "gnn"), "did you mean 'gn'?"),
        (("--methods", ","), "--methods: expected names such as gn,ws+gn"),
        (("--device", "tpu"), "--device 'tpu': expected cpu or cuda"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["cost", "--results", str(tmp_path), *arguments])
    assert said in str(result.exception)


def test_a_broken_file_is_one_message_and_stays(asked: list[str], tmp_path: Path) -> None:
    run("--methods", "bn", "--results", str(tmp_path))
    (path,) = (tmp_path / "cost").iterdir()
    path.write_text('{"format": 2}')
    result = run("--methods", "bn", "--results", str(tmp_path))
    assert "it is no file of costs" in str(result.exception)
    assert path.read_text() == '{"format": 2}'
    store = Store(tmp_path)
    assert files.read_all(store) == []
    assert any("no file of costs" in told for told in store.problems.values())
