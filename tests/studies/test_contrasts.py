"""Norm against optimizer, and kinds of weight norms: planted effects found, noise not, too little data said so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from normbench.studies import asked, evidence, registry
from normbench.studies.base import Section, gather

from tests.studies.planted import row

NORMS, OPTIMIZERS = ("bn", "gn", "none"), ("sgd", "adamw")
WAYS: dict[str, tuple[str, float]] = {"fixed": ("sphere+bn", 0.0), "free": ("bn", 0.0), "decayed": ("bn", 5e-4)}


def section(name: str, rows: list[dict[str, Any]]) -> Section:
    found = evidence(rows)
    assert name in [q.name for q in asked(found)]
    (made,) = registry.make(name).sections(found)
    return made


def by_optimizer(turn: float, *, noise: float = 0.004, seeds: int = 5, draw: int = 0) -> list[dict[str, Any]]:
    """Under AdamW `none` gains `turn` on the others; a seed moves all methods and optimizers alike, and each alone."""
    rng = np.random.default_rng(draw)
    shared = 0.02 * rng.normal(size=seeds)
    return [
        row(
            norm,
            seed,
            0.8 - 0.05 * i + turn * (norm == "none" and optimizer == "adamw") + shared[seed] + noise * rng.normal(),
            optimizer=optimizer,
        )
        for i, norm in enumerate(NORMS)
        for optimizer in OPTIMIZERS
        for seed in range(seeds)
    ]


def by_kind(gain: float, *, noise: float = 0.004, seeds: int = 5, draw: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(draw)
    shared = 0.02 * rng.normal(size=seeds)
    return [
        row(norm, s, 0.7 + gain * (kind == "fixed") + shared[s] + noise * rng.normal(), weight_decay=decay)
        for kind, (norm, decay) in WAYS.items()
        for s in range(seeds)
    ]


@pytest.mark.parametrize(("name", "made"), [("optimizers", by_optimizer), ("weight-norms", by_kind)])
def test_a_planted_difference_is_found_and_its_absence_too(name, made):
    found = section(name, made(0.1))
    assert found.verdict == "yes"
    assert ("none" if name == "optimizers" else "bn") in found.answer
    assert section(name, made(0.0, noise=0.002)).verdict == "no"
    assert section(name, made(0.0, noise=0.03)).verdict == "cannot be told"
    few = section(name, made(0.1, seeds=2))
    assert few.verdict == "not tested"
    assert few.answer.startswith("not tested: 2 seeds in common, 3 needed")


@pytest.mark.parametrize(("name", "made"), [("optimizers", by_optimizer), ("weight-norms", by_kind)])
def test_noise_alone_is_called_a_difference_in_one_case_of_twenty(name, made):
    verdicts = [section(name, made(0.0, noise=0.01, draw=d)).verdict for d in range(40)]
    assert verdicts.count("yes") <= 6  # 2 of 40 are expected; more than 6 have a chance below 1 %


def test_the_gap_is_that_to_batch_norm_seed_by_seed():
    rows = by_optimizer(0.1, noise=0.0)
    (table,) = section("optimizers", rows).tables
    shown = {(r[0].text, r[2]): r[3] for r in table.rows}
    assert abs(float(shown["gn", "adamw less sgd"].partition(" ")[0])) < 0.005
    assert float(shown["none", "adamw less sgd"].partition(" ")[0]) == pytest.approx(10)


def test_trials_without_a_number_are_listed_and_left_out():
    rows = [*by_kind(0.1), row("bn", 5, None, weight_decay=5e-4)]
    found = section("weight-norms", rows)
    assert found.verdict == "yes"
    assert [t.title for t in found.tables][-1] == "Trials without a number: 1"


def test_entries_of_another_recipe_are_not_set_against_each_other():
    """Kinds of one norm under SGD, and under Lion with another rate: no difference is made across them."""
    lion = [row("bn", s, 0.2, weight_decay=0.0, optimizer="lion", lr=0.001) for s in range(5)]
    plain = section("weight-norms", by_kind(0.0, noise=0.002))
    assert section("weight-norms", [*lion, *by_kind(0.0, noise=0.002)]).answer == plain.answer


def test_rates_that_nobody_chose_among_stand_for_no_method():
    """Two rates of one method under one optimizer: neither is its number."""
    more = [row("none", s, 0.1, optimizer="sgd", lr=0.7) for s in range(5)]
    found = section("optimizers", [*by_optimizer(0.0, noise=0.002), *more])
    assert {r[0].text for r in found.tables[0].rows} == {"gn"}


@pytest.mark.parametrize(("name", "made"), [("optimizers", by_optimizer), ("weight-norms", by_kind)])
def test_a_suite_is_asked_for_its_own_trials_alone(name, made):
    """Another suite's trials may stand on the same board."""
    others = [row("bn", s, 0.7, suite="other", epochs=3) for s in range(5)]
    found = evidence([*made(0.1), *others])
    alone = gather("other", found.boards, others)
    assert name not in [q.name for q in asked(alone)]
