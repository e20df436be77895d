"""Suites with `tune`: which candidates there are, and which final trials wait for them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from normbench.spec.trial import Trial
from normbench.spec.tuning import TuningSearch
from normbench.suite import expand, searches
from normbench.suite._load import read
from normbench.suite._sections import CELLS

BASE: dict[str, Any] = {
    "suite": "x",
    "data": {"dataset": "somewhere"},
    "models": "resnet18",
    "norms": ["bn", "gn"],
    "seeds": 2,
    "tune": {"lr": [0.1, 0.2, 0.3]},
}


def made(**keys: Any) -> list[TuningSearch]:
    return searches(read(yaml.safe_dump(BASE | keys).encode(), Path("f.yaml")))


def rates(trials: tuple[Trial, ...]) -> list[float]:
    return [t.train.lr for t in trials]


def test_a_search_a_method_and_a_candidate_a_value() -> None:
    bn, gn = made(attacks=["noise"], measures=["weight-norm"], train={"epochs": 7, "momentum": 0.5})
    assert (bn.label, gn.label) == ("bn", "gn")
    assert rates(bn.candidates) == rates(gn.candidates) == [0.1, 0.2, 0.3]
    for candidate in bn.candidates:
        assert (candidate.stage, candidate.attacks, candidate.measures, candidate.seed) == ("tuning", (), (), 0)
        assert (candidate.train.epochs, candidate.train.momentum, candidate.data.validation) == (7, 0.5, 0.1)
    assert [t.seed for _, t in bn.finals] == [0, 1]
    assert sorted(place for search in (bn, gn) for place, _ in search.finals) == [0, 1, 2, 3]


def test_final_trials_are_those_of_the_suite_without_tuning() -> None:
    plain = {k: v for k, v in BASE.items() if k != "tune"} | {
        "attacks": ["noise"],
        "batch_sizes": [8, 16],
        "train": {"lr": 0.2},
    }
    expected = expand(read(yaml.safe_dump(plain).encode(), Path("f.yaml")))
    tuned = made(attacks=["noise"], batch_sizes=[8, 16])
    settled = sorted(
        (item for s in tuned for item in s.settled(s.choose(rows(s, {0.1: 0.5, 0.2: 0.9, 0.3: 0.7})))),
        key=lambda item: item[0],
    )
    assert [t.trial_id for _, t in settled] == [t.trial_id for t in expected], (
        "same trials, same order, nothing of the search in their identity"
    )


def rows(search: TuningSearch, accuracy: dict[float, float | None], **status: str) -> dict[str, dict[str, Any]]:
    return {
        c.trial_id: {
            "status": status.get(f"lr{c.train.lr:g}".replace(".", ""), "ok"),
            "reason": "why",
            "validation_accuracy": accuracy[c.train.lr],
        }
        for c in search.candidates
    }


@pytest.mark.parametrize(
    ("data", "tune", "held_out"),
    [
        ({}, {}, 0.1),
        ({"validation": 0.2}, {}, 0.2),
        ({"validation": 0.2}, {"validation": "1/4"}, 0.25),
        ({}, {"validation": 0.3}, 0.3),
    ],
)
def test_what_candidates_hold_out(data: dict[str, Any], tune: dict[str, Any], held_out: float) -> None:
    found = made(data={"dataset": "a"} | data, tune={"lr": [0.1, 0.2]} | tune)
    assert {c.data.validation for s in found for c in s.candidates} == {held_out}
    assert {t.data.validation for s in found for _, t in s.finals} == {data.get("validation", 0.0)}


def test_settings_make_a_product_and_seeds_repeat_it() -> None:
    (bn, _) = made(tune={"lr": [0.1, 0.2], "weight_decay": [0, "5e-4"], "clip_grad": [None, 1], "seeds": [4, 9]})
    assert bn.settings == ("lr", "weight_decay", "clip_grad")
    assert [(c.seed, c.train.lr, c.train.weight_decay, c.train.clip_grad) for c in bn.candidates] == list(
        itertools.product((4, 9), (0.1, 0.2), (0.0, 5e-4), (None, 1.0))
    )


def test_cells_and_their_representative() -> None:
    keys: dict[str, Any] = {
        "batch_sizes": [64, 32],
        "widths": [1, 2],
        "data": {"dataset": ["a", "b"]},
        "train": {"weight_decay": [0.1, 0]},
    }
    per_norm = made(**keys)
    assert [(s.label, len(s.finals)) for s in per_norm] == [("bn", 32), ("gn", 32)]
    (first, *_) = per_norm[0].candidates
    assert (first.batch_size, first.model.width, first.data.dataset, first.train.weight_decay) == (64, 1, "a", 0.1), (
        "the first value of every axis stands for all"
    )
    tune = {"lr": [0.1, 0.2], "per": ["batch_size", "weight_decay"]}
    cells = made(**keys, tune=tune)
    assert [s.label for s in cells[:2]] == [
        "bn · batch_size 64 · weight_decay 0.1",
        "bn · batch_size 64 · weight_decay 0",
    ]
    assert len(cells) == 8
    assert {(c.norm_label, c.batch_size, c.train.weight_decay) for s in cells for c in s.candidates} == set(
        itertools.product(("bn", "gn"), (64, 32), (0.1, 0.0))
    )
    assert all({t.norm_label for _, t in s.finals} == {s.candidates[0].norm_label} for s in cells)


def test_every_axis_may_be_a_cell() -> None:
    for key in CELLS:
        if key != "lr":
            assert made(tune={"lr": [0.1, 0.2], "per": key}), key
    models = ["resnet18", {"name": "resnet18", "stem": "native"}, {"name": "resnet18", "kwargs": {"drop_rate": 0.1}}]
    assert len({s.label for s in made(models=models, tune={"lr": [0.1, 0.2], "per": "model"})}) == 6


def test_overrides_reach_candidates_and_exclude_leaves_no_cell() -> None:
    bn, gn, ln = made(
        norms=["bn", "gn", "ln", "none"],
        exclude={"norm": "none"},
        overrides=[{"when": {"norm": "gn"}, "set": {"epochs": 3, "batch_size": 16}}],
    )
    assert {(c.train.epochs, c.batch_size) for c in gn.candidates} == {(3, 16)}
    assert {(c.train.epochs, c.batch_size) for s in (bn, ln) for c in s.candidates} == {(30, 128)}


def test_what_a_candidate_never_sees_does_not_stand_in_it() -> None:
    plain = made()
    other = made(
        data={"dataset": "somewhere", "test_split": "val", "test_examples": 100},
        attacks=["bim"],
        seeds=5,
        tune=BASE["tune"] | {"scheduler": "asha"},
    )
    assert [c.trial_id for s in plain for c in s.candidates] == [c.trial_id for s in other for c in s.candidates]


def test_the_rule() -> None:
    (search, _) = made()

    def chosen(first: float | None, second: float | None, third: float | None, **status: str) -> object:
        choice = search.choose(rows(search, {0.1: first, 0.2: second, 0.3: third}, **status))
        return choice.settings and dict(choice.settings)["lr"]

    assert chosen(0.5, 0.9, 0.7) == 0.2
    assert chosen(0.9, 0.7, 0.9) == 0.1, "of equally good ones the smaller rate"
    assert chosen(0.5, 0.9, 0.7, lr02="stopped") == 0.3, "what was stopped early is never chosen, however good it was"
    assert chosen(0.5, 0.9, 0.7, lr02="diverged", lr03="timed_out") == 0.1
    assert chosen(0.5, float("nan"), None) == 0.1


def test_the_rule_does_not_depend_on_how_values_are_listed() -> None:
    for values in itertools.permutations([0.1, 0.2, 0.3]):
        search = made(tune={"lr": list(values), "weight_decay": [0.1, 0]})[0]
        assert search.choose(
            {c.trial_id: {"status": "ok", "reason": "", "validation_accuracy": 0.5} for c in search.candidates}
        ).settings == (
            ("lr", 0.1),
            ("weight_decay", 0.0),
        )


def test_a_setting_needs_all_of_its_seeds() -> None:
    (search, _) = made(tune={"lr": [0.1, 0.2], "seeds": 2})
    found = {
        c.trial_id: {"status": "ok", "reason": "", "validation_accuracy": {0.1: 0.6, 0.2: 0.9}[c.train.lr]}
        for c in search.candidates
    }
    assert search.choose(found).settings == (("lr", 0.2),)
    found[search.candidates[-1].trial_id] |= {"status": "diverged"}
    choice = search.choose(found)
    assert choice.settings == (("lr", 0.1),)
    assert choice.accuracy == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("ends", "status", "told"),
    [
        (("diverged", "diverged", "diverged"), "diverged", "3 diverged"),
        (("out_of_memory",) * 3, "out_of_memory", "3 out of memory"),
        (("killed",) * 3, "killed", "3 killed"),
        (("diverged", "error", "diverged"), "error", "2 diverged, 1 error"),
        (("error",) * 3, "error", "3 error"),
    ],
)
def test_when_every_candidate_fails(ends: tuple[str, str, str], status: str, told: str) -> None:
    (search, _) = made()
    choice = search.choose(rows(search, dict.fromkeys((0.1, 0.2, 0.3)), lr01=ends[0], lr02=ends[1], lr03=ends[2]))
    assert choice.settings is None
    assert choice.status.value == status
    assert choice.reason == f"not trained: tuning could choose no lr ({told}): why"
    assert [t.train.lr for _, t in search.settled(choice)] == [0.1, 0.1]
