"""Plans of suites that tune: candidates first, final trials once these have ended; what is cached, and when the choice
is made anew.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml
from normbench.cli.terminal import render_choices
from normbench.plan.plan import Plan, State, make
from normbench.runner.session import announce
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
from normbench.store.store import Store
from normbench.suite import searches
from normbench.suite._load import read
from normbench.suite.only import SelectionError, select_searches

SUITE: dict[str, Any] = {
    "suite": "s",
    "data": {"dataset": "stripes", "image_size": 16},
    "models": "resnet18",
    "norms": ["bn", "gn"],
    "batch_sizes": 16,
    "seeds": 2,
    "tune": {"lr": [0.1, 0.2]},
}


class Place:
    """A store, and what became of candidates by learning rate."""

    def __init__(self, root: Path, data_dir: Path) -> None:
        self.store, self.data_dir = Store(root / "results"), data_dir

    def plan(
        self, only: Collection[str] = (), ended: Collection[str] = (), *, retry: bool = False, **keys: Any
    ) -> Plan:
        found = select_searches(searches(read(yaml.safe_dump(SUITE | keys).encode(), Path("f.yaml"))), list(only))
        return make("s", [], self.store, self.data_dir, searches=found, ended=ended, retry=retry)

    def run(self, plan: Plan, accuracy: dict[float, float] | None = None, **ends: Status) -> None:
        """Store an end for everything that is to be done: candidates by `accuracy`, or by `ends`, such as
        `lr01=Status.DIVERGED`.
        """
        for item in plan.todo:
            self.store.write(
                "s",
                item.trial,
                item.identity.to_dict(),
                self.outcome(item.trial, accuracy or {0.1: 0.5, 0.2: 0.9, 0.3: 0.7}, ends),
            )

    @staticmethod
    def outcome(trial: Trial, accuracy: dict[float, float], ends: dict[str, Status]) -> Outcome:
        if trial.stage == "final":
            return Outcome(status=Status.OK, clean_correct=1, test_total=2, clean_outcomes=b"\x80", wall_seconds=9.0)
        status = ends.get(f"lr{trial.train.lr:g}".replace(".", ""), Status.OK)
        return Outcome(
            status=status,
            reason="" if status is Status.OK else "why",
            validation_accuracy=accuracy[trial.train.lr],
            wall_seconds=3.0,
        )


@pytest.fixture
def place(tmp_path: Path, data_dir: Path) -> Place:
    return Place(tmp_path, data_dir)


def rates(plan: Plan) -> list[tuple[str, str, float, int]]:
    return [(i.trial.stage, i.trial.norm_label, i.trial.train.lr, i.trial.seed) for i in plan.items]


def test_candidates_then_final_trials_then_nothing(place: Place) -> None:
    first = place.plan()
    assert rates(first) == [("tuning", n, lr, 0) for n in ("bn", "gn") for lr in (0.1, 0.2)]
    assert (first.count(State.MISSING), first.waiting, first.final) == (4, 4, 4)
    assert announce(first) == "s: 4 candidates, 4 final trials after tuning (4 missing, 4 waiting)"
    assert "bn: waits for 2 candidates" in render_choices(first).plain
    place.run(first)
    second = place.plan()
    assert rates(second)[4:] == [("final", n, 0.2, seed) for seed in (0, 1) for n in ("bn", "gn")], (
        "seed by seed, as without tuning"
    )
    assert [i.state for i in second.items] == [State.CACHED] * 4 + [State.MISSING] * 4
    assert second.waiting == 0
    assert "bn: lr 0.2, validation accuracy 90.00%" in render_choices(second).plain
    place.run(second)
    third = place.plan()
    assert third.todo == []
    assert third.estimate == 0.0
    assert announce(third) == "s: 4 candidates, 4 final trials after tuning (8 cached)"
    told = third.to_dict()
    assert (told["total"], told["waiting"]) == (8, 0)
    assert [(t["for"], t["chosen"], t["validation_accuracy"], t["final"]) for t in told["tuning"]] == [
        ("bn", {"lr": 0.2}, 0.9, 2),
        ("gn", {"lr": 0.2}, 0.9, 2),
    ]


def test_final_trials_wait_for_every_candidate_of_their_own_search_alone(place: Place) -> None:
    plan = place.plan()
    for item in plan.todo[:3]:
        place.store.write("s", item.trial, item.identity.to_dict(), place.outcome(item.trial, {0.1: 0.5, 0.2: 0.9}, {}))
    half = place.plan()
    assert [t.choice is None for t in half.tuning] == [False, True]
    assert [(i.trial.stage, i.trial.norm_label) for i in half.todo] == [
        ("tuning", "gn"),
        ("final", "bn"),
        ("final", "bn"),
    ]
    assert half.waiting == 2


def test_the_estimate_counts_those_that_wait(place: Place) -> None:
    place.run(place.plan())
    place.run(place.plan())
    assert place.plan(seeds=4).estimate == pytest.approx(4 * 9.0)
    assert place.plan(tune={"lr": [0.1, 0.3]}).estimate == pytest.approx(2 * 3.0 + 4 * 9.0)


def test_other_values_choose_anew_and_run_what_is_new(place: Place) -> None:
    place.run(place.plan())
    place.run(place.plan())
    wider = place.plan(tune={"lr": [0.1, 0.2, 0.3]})
    assert [(i.trial.stage, i.trial.train.lr) for i in wider.todo] == [("tuning", 0.3)] * 2
    place.run(wider, {0.3: 0.99})
    chosen = place.plan(tune={"lr": [0.1, 0.2, 0.3]})
    assert [(i.trial.stage, i.trial.train.lr) for i in chosen.todo] == [("final", 0.3)] * 4
    assert place.plan().todo == [], "and the old list has its old choice, cached"


def test_failed_candidates_are_left_out_of_the_choice(place: Place) -> None:
    place.run(place.plan(), lr02=Status.DIVERGED)
    assert {i.trial.train.lr for i in place.plan().todo} == {0.1}


def test_a_killed_candidate_is_tried_again_but_not_twice_by_one_command(place: Place) -> None:
    plan = place.plan()
    place.run(plan, lr02=Status.KILLED)
    assert [(i.trial.stage, i.trial.train.lr) for i in place.plan().todo] == [("tuning", 0.2)] * 2
    after = place.plan(ended={i.trial.trial_id for i in plan.items})
    assert [(i.trial.stage, i.trial.train.lr) for i in after.todo] == [("final", 0.1)] * 4


def test_when_every_candidate_fails_each_final_trial_has_a_row_to_write(place: Place) -> None:
    place.run(place.plan(), lr01=Status.DIVERGED, lr02=Status.DIVERGED)
    plan = place.plan()
    assert len(plan.todo) == 4
    for item in plan.todo:
        assert item.no_choice is not None
        assert item.no_choice.status is Status.DIVERGED
        assert "2 diverged" in item.no_choice.reason
        place.store.write(
            "s",
            item.trial,
            item.identity.to_dict(),
            Outcome(status=item.no_choice.status, reason=item.no_choice.reason),
        )
    assert plan.estimate == 0.0, "they take no time"
    assert place.plan().todo == []
    assert "2 diverged" in render_choices(plan).plain


def test_a_row_that_was_not_trained_gives_way_when_its_setting_is_chosen(place: Place) -> None:
    """Such a row stands under the first setting; it must not pass for a result of that setting later."""
    place.run(place.plan(), lr01=Status.ERROR, lr02=Status.ERROR)
    for item in place.plan().todo:
        assert item.no_choice
        place.store.write(
            "s",
            item.trial,
            item.identity.to_dict(),
            Outcome(status=item.no_choice.status, reason=item.no_choice.reason),
        )
    place.run(place.plan(retry=True), lr02=Status.ERROR)
    again = place.plan()
    assert [(i.trial.stage, i.trial.train.lr, i.state) for i in again.todo] == [("final", 0.1, State.STALE)] * 4
    assert again.todo[0].reasons == ("tuning ended otherwise: now its settings are chosen",)


def test_only_selects_final_trials_and_the_candidates_that_they_need(place: Place) -> None:
    plan = place.plan(only=["norm=gn", "seed=1"])
    assert rates(plan) == [("tuning", "gn", 0.1, 0), ("tuning", "gn", 0.2, 0)]
    assert plan.waiting == 1
    place.run(plan)
    assert rates(place.plan(only=["norm=gn", "seed=1"]))[2:] == [("final", "gn", 0.2, 1)]
    with pytest.raises(SelectionError, match="the suite tunes lr"):
        place.plan(only=["lr=0.1"])
    with pytest.raises(SelectionError, match="no trial of the suite has it"):
        place.plan(only=["norm=ln"])


def test_stopped_candidates_count_with_asha_alone(place: Place) -> None:
    asha = {"tune": SUITE["tune"] | {"scheduler": "asha"}}
    place.run(place.plan(**asha), lr02=Status.STOPPED)
    assert {i.trial.train.lr for i in place.plan(**asha).todo} == {0.1}, (
        "a stopped candidate is not chosen, however good it was"
    )
    whole = place.plan()
    assert [(i.trial.train.lr, i.state) for i in whole.todo] == [(0.2, State.MISSING)] * 2
    assert "stopped early" in whole.todo[0].reasons[0]


def test_the_identity_of_a_candidate_knows_the_training_split_alone(tmp_path: Path, data_dir: Path) -> None:
    import shutil

    shutil.copytree(data_dir / "stripes", tmp_path / "data" / "stripes")
    place = Place(tmp_path, tmp_path / "data")
    place.run(place.plan())
    place.run(place.plan())
    assert place.plan().todo == []
    shutil.copyfile(
        tmp_path / "data" / "stripes" / "train.parquet", tmp_path / "data" / "stripes" / "test.parquet"
    )  # other test images
    after = place.plan()
    assert [(i.trial.stage, i.state) for i in after.items] == [("tuning", State.CACHED)] * 4 + [
        ("final", State.STALE)
    ] * 4
    (tmp_path / "data" / "stripes" / "train.parquet").write_bytes((data_dir / "stripes" / "test.parquet").read_bytes())
    assert {i.state for i in place.plan().items} == {State.STALE}
