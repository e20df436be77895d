"""`--only`: a part of a suite."""

from __future__ import annotations

import pytest
from normbench import attacks
from normbench.suite.only import SelectionError, select

from tests.conftest import MakeTrial


def test_values_of_one_key_are_alternatives_and_keys_are_all_required(make_trial: MakeTrial) -> None:
    trials = [
        make_trial(norm, seed=seed, lr=lr)
        for norm in ("bn", "gn", "gn[groups=2]")
        for seed in (0, 1)
        for lr in (0.1, 5e-4)
    ]

    def found(*filters: str) -> set[tuple[str, int, float]]:
        return {(t.norm_label, t.seed, t.train.lr) for t in select(trials, filters)}

    assert len(found()) == 12
    assert {n for n, _, _ in found("norm=gn")} == {"gn", "gn[groups=2]"}
    assert {n for n, _, _ in found("norm=gn[groups=2]")} == {"gn[groups=2]"}
    assert found("norm=bn", "seed=1", "lr=5e-4") == {("bn", 1, 5e-4)}
    assert len(found("seed=0", "seed=1")) == 12
    with pytest.raises(SelectionError, match=r"seed is 0, 1$"):
        found("seed=7")
    with pytest.raises(
        SelectionError,
        match=r"'norm=ggn': no trial of the suite has it; did you mean 'gn'\? norm is bn, gn, gn\[groups=2\]",
    ):
        found("norm=bn", "norm=ggn")
    with pytest.raises(SelectionError, match=r"no trial of the suite has it; did you mean 'gn' or 'gn\[groups=2\]'\?"):
        found("norm=GroupNorm")
    with pytest.raises(SelectionError, match=r"lr is 0\.0005, 0\.1$"):
        found("lr=1")
    with pytest.raises(SelectionError, match="did you mean 'seed'"):
        found("sed=0")
    with pytest.raises(SelectionError, match=r"all of this at once: norm bn, seed 0 or 1, lr 0\.1$"):
        select(
            [t for t in trials if t.norm_label != "bn" or t.train.lr < 0.1], ["norm=bn", "seed=0", "seed=1", "lr=0.1"]
        )


def test_what_is_not_set_and_attacks_are_selected_as_a_suite_writes_them(make_trial: MakeTrial) -> None:
    attack = attacks.registry.make("pgd", {"eps": [8 / 255], "steps": 2}).component()
    trials = [
        make_trial(adversarial=adversarial, clip_grad=clip) for adversarial in (None, attack) for clip in (None, 1.0)
    ]
    assert [t.train.adversarial for t in select(trials, ["adversarial=pgd"])] == [attack, attack]
    assert [t.train.clip_grad for t in select(trials, ["clip_grad=null", "adversarial=null"])] == [None]
    with pytest.raises(SelectionError, match=r"adversarial is null, pgd$"):
        select(trials, ["adversarial=fgsm"])
