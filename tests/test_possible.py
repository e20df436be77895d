"""Methods that are impossible at a place of a network are named before anything is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from normbench.cli.main import app
from normbench.lab.network.build import build
from normbench.lab.network.possible import answer
from normbench.norms.evonorm_s0 import EvoNormS0
from normbench.plan.identity import identity
from normbench.plan.plan import Item, Plan, State
from normbench.runner import possible
from normbench.spec.trial import Trial
from torch import nn
from typer.testing import CliRunner

from tests.conftest import MakeTrial

SEVEN = "gn[groups=7] on resnet18: bn1: 7 groups do not divide 8 channels; the nearest number that does is 4"
VGG: dict[str, object] = {
    "model": {"name": "vgg11_bn", "kwargs": {}, "width": 0.125},
    "data": {"image_size": 32},
}


def plan_of(*trials: Trial) -> Plan:
    items = tuple(Item(t, identity(t, None), State.MISSING, (), None, None) for t in trials)
    return Plan("s", items, sides={"stripes": 8})


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("norm", "changed", "expected"),
    [
        ("gn[groups=7]", {}, "7 groups do not divide"),
        ("ws+gn[groups=7]+noise", {}, "7 groups do not divide"),
        ("evonorm-s0[groups=5]", {}, "5 groups do not divide"),
        ("gw[groups=5]", {}, "do not divide"),
        ("in[one_position=error]", {"data": {"image_size": 8}}, "a map with one position has no variance"),
        ("skipinit", VGG, "no residual branch of VGG"),
        ("skipinit", VGG | {"data": {"image_size": 8}}, "VGG cannot run 3x8x8 images"),
        ("bn", {"batch_size": 1, "data": {"image_size": 8}}, "xpected more than 1 value per channel"),
        ("gn[groups=2]", {}, ""),
        ("skipinit", {}, ""),
        ("bn", {"batch_size": 1, "data": {"image_size": 32}}, ""),
    ],
)
def test_what_is_said_is_what_building_says(
    make_trial: MakeTrial, norm: str, changed: dict[str, object], expected: str
) -> None:
    trial = make_trial(norm, **changed)
    assert possible.in_doubt(trial)
    found: list[tuple[int, str]] = []
    answer([possible._pair(trial, trial.data.image_size or 8)], found.append)
    ((_, told),) = found
    assert expected in told
    assert bool(told) == bool(expected)
    if "position" in expected or "1 value" in expected:
        return  # such a layer is built, and fails at its first batch
    shape = {
        "channels": 3,
        "image_size": trial.data.image_size or 8,
        "classes": 3,
        "mean": (0.5,) * 3,
        "std": (1.0,) * 3,
    }
    if expected:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            build(trial, **shape)
        assert str(caught.value) == told
    else:
        build(trial, **shape)


@pytest.mark.parametrize("norm", ["bn", "gn", "ws+ln", "in", "none", "bn[eps=0.01]", "bn+noise"])
def test_methods_at_their_defaults_are_in_no_doubt(make_trial: MakeTrial, norm: str) -> None:
    assert not possible.in_doubt(make_trial(norm))


def test_a_network_that_cannot_be_built_is_named(make_trial: MakeTrial) -> None:
    found: list[tuple[int, str]] = []
    trial = make_trial("gn[groups=2]", model={"kwargs": {"layers": "many"}})
    answer([possible._pair(trial, 8)], found.append)
    assert "timm cannot build this" in found[0][1]


def test_a_method_of_torchs_own_layers_is_possible(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take images of four dimensions and no others."""
    monkeypatch.setattr(EvoNormS0, "layer", lambda self, site: nn.BatchNorm2d(site.channels))
    found: list[tuple[int, str]] = []
    answer([possible._pair(make_trial("evonorm-s0[groups=4]"), 8)], found.append)
    assert found == [(0, "")]


def test_what_breaks_otherwise_is_unknown_and_keeps_no_other_from_being_looked_at(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def layer(self: EvoNormS0, site: object) -> None:
        raise MemoryError("of this machine, just now")

    monkeypatch.setattr(EvoNormS0, "layer", layer)
    pairs = [possible._pair(make_trial(norm), 8) for norm in ("evonorm-s0[groups=4]", "gn[groups=7]")]
    found: list[tuple[int, str]] = []
    answer(pairs, found.append)
    assert [number for number, _ in found] == [1]


def test_a_plan_says_it_and_keeps_what_was_found(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [make_trial("gn[groups=7]", seed=s) for s in range(3)] + [make_trial("gn[groups=2]"), make_trial("bn")]
    found = possible.looked_at(plan_of(*trials))
    assert found.impossible == (f"{SEVEN} (3 trials)",)
    assert found.unseen == 0
    assert found.to_dict()["impossible"] == list(found.impossible)

    monkeypatch.setattr(possible, "_ask", lambda *_: pytest.fail("what was found is kept"))
    assert possible.looked_at(plan_of(*trials)).impossible == found.impossible
    cached = replace(plan_of(*trials), items=())
    assert possible.looked_at(cached).impossible == ()


def test_what_takes_too_long_is_said_to_be_unknown(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(possible, "LIMIT", 0.0)
    found = possible.looked_at(plan_of(make_trial("gn[groups=7]"), make_trial("gn[groups=2]")))
    assert (found.impossible, found.unseen) == ((), 2)


def test_the_command_says_it(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(
        "suite: s\ndata: {dataset: stripes}\nmodels: [resnet18]\nnorms: [bn, 'gn[groups=7]']\nbatch_sizes: 8\n"
        "widths: 0.125\nseeds: 2\n",
        encoding="utf-8",
    )
    options = ["--data", str(data_dir), "--results", "r"]
    shown = CliRunner().invoke(app, ["plan", "s.yaml", *options])
    assert shown.exit_code == 0
    assert f"  impossible: {SEVEN} (2 trials)\n  such trials end as error before they are trained\n" in shown.output
    as_json = CliRunner().invoke(app, ["plan", "s.yaml", "--json", *options])
    assert json.loads(as_json.stdout)["impossible"] == [f"{SEVEN} (2 trials)"]
