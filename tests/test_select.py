"""`--only`: a part of a suite."""

from __future__ import annotations

import pytest

from benchmark.select import SelectionError, select
from tests.conftest import MakeTrial


def test_values_of_one_key_are_alternatives_and_keys_are_all_required(make_trial: MakeTrial) -> None:
    trials = [make_trial(norm, seed=seed, lr=lr) for norm in ("bn", "gn", "gn[groups=2]") for seed in (0, 1) for lr in (0.1, 5e-4)]

    def found(*filters: str) -> set[tuple[str, int, float]]:
        return {(t.norm_label, t.seed, t.train.lr) for t in select(trials, filters)}

    assert len(found()) == 12
    assert {n for n, _, _ in found("norm=gn")} == {"gn", "gn[groups=2]"}
    assert {n for n, _, _ in found("norm=gn[groups=2]")} == {"gn[groups=2]"}
    assert found("norm=bn", "seed=1", "lr=5e-4") == {("bn", 1, 5e-4)}
    assert len(found("seed=0", "seed=1")) == 12
    with pytest.raises(SelectionError, match=r"seed is 0, 1$"):
        found("seed=7")
    with pytest.raises(SelectionError, match=r"'norm=ggn': no trial of the suite has it; did you mean 'gn'\? norm is bn, gn, gn\[groups=2\]"):
        found("norm=bn", "norm=ggn")
    with pytest.raises(SelectionError, match=r"lr is 0\.0005, 0\.1$"):
        found("lr=1")
    with pytest.raises(SelectionError, match="no trial has all of them"):
        select([t for t in trials if t.norm_label != "bn" or t.seed], ["norm=bn", "seed=0"])
    with pytest.raises(SelectionError, match="did you mean 'seed'"):
        found("sed=0")
