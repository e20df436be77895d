"""`bench models`."""

from __future__ import annotations

import json

import pytest
from normbench.cli.main import app
from normbench.errors import BenchError
from normbench.spec.architectures import CIFAR_RESNETS, architectures
from typer.testing import CliRunner


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["models", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_every_architecture_is_listed() -> None:
    rows = json.loads(run("--json"))
    assert {r["name"] for r in rows} == {*architectures(), *CIFAR_RESNETS, "wrn-DEPTH-FACTOR"}
    by_name = {r["name"]: r for r in rows}
    own = {"name": "resnet56", "from": "normbench", "family": "cifar_resnet", "cifar": True, "width": True}
    assert by_name["resnet56"] == own
    assert (by_name["resnet18"]["from"], by_name["resnet18"]["family"]) == ("timm", "resnet")
    assert not by_name["inception_v3"]["cifar"]


def test_those_that_begin_so() -> None:
    head, *lines = run("resnet20").splitlines()
    assert head.split()[:3] == ["name", "from", "family"]
    assert [line.split()[0] for line in lines] == ["resnet20", "resnet200", "resnet200d"]
    with pytest.raises(BenchError, match="no architecture begins with 'zzz'"):
        run("zzz")
