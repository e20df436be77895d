"""`bench new` and `bench check` for all kinds of plug-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from normbench.cli import plugins
from normbench.norms.base import Claims
from normbench.norms.check import lacking
from normbench.norms.gn import GroupNorm
from normbench.norms.layers.base import Affine

from tests.cli.conftest import Bench


@pytest.mark.parametrize(("kind", "room"), plugins.ROOMS.items())
def test_new_writes_where_it_is_told(shown: Bench, kind: str, room: str, tmp_path: Path) -> None:
    said = shown("new", kind, "my-own", "--folder", str(tmp_path))
    assert said == f"wrote {tmp_path / 'my_own.py'}; next: bench check {kind} my-own\n"
    assert 'name: ClassVar[str] = "my-own"' in (tmp_path / "my_own.py").read_text()
    assert f"from normbench.{room}" in (tmp_path / "my_own.py").read_text()


@pytest.mark.parametrize(("kind", "name"), [("attack", "fgsm"), ("measure", "weight-norm"), ("norm", "bn")])
def test_check_says_what_holds(shown: Bench, kind: str, name: str) -> None:
    answer = json.loads(shown("check", kind, name, "--no-smoke", "--json"))
    assert answer[kind] == name
    assert answer["ok"]
    assert all(c["ok"] for c in answer["claims"])
    assert answer["smoke"] is None


def test_an_attack_that_cannot_run_here_says_what_it_needs(shown: Bench, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cifar10-c cannot be checked here: "):
        shown("check", "attack", "cifar10-c", BENCH_DATA=str(tmp_path))


class Grouped(GroupNorm):
    """Its layer does not say how many groups it has."""

    claims = Claims(
        weight_scale="block",
        input_scale=True,
        input_shift=True,
        exact=False,
        batch_dependent=False,
        running_statistics=False,
        stateful=False,
        sphere="group",
        constraints="2*n*g",
    )

    def layer(self, site: object) -> object:  # type: ignore[override]
        return Affine(site.channels)  # type: ignore[attr-defined]


def test_the_attribute_that_a_claim_is_evaluated_with_is_named() -> None:
    assert lacking(GroupNorm()) == []
    (told,) = lacking(Grouped())
    assert "constraints '2*n*g': g is the layer's attribute num_groups" in told
    assert "Affine has neither: 1 was taken" in told
