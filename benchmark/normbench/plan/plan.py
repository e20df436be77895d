"""What a suite still has to run: each planned trial is cached, stale or missing, with the reason.

A suite with `tune` is planned twice: the final trials of a search are known only when each of its candidates has a row
that is good.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from normbench.plan.fingerprints import Fingerprints
from normbench.plan.foreseen import foreseen, loggers_lacking
from normbench.plan.identity import Identity, identity
from normbench.plan.nearest import Nearest
from normbench.plan.paces import Paces, total
from normbench.spec.about import Images
from normbench.spec.outcome import Status
from normbench.spec.trial import Trial
from normbench.spec.tuning import Choice, Settings, TuningSearch, settings_of
from normbench.store import weights
from normbench.store.schema import BRIEF
from normbench.store.store import Store


class State(StrEnum):
    CACHED = "cached"
    STALE = "stale"
    MISSING = "missing"


#: Ends that say nothing about the method. A trial that ended so is run again without being asked for.
UNFINISHED = {Status.KILLED}
#: Ends that another try may change. A trial that ended so is run again on request (`--retry`).
RETRIABLE = {Status.ERROR, Status.OUT_OF_MEMORY, Status.TIMED_OUT, Status.KILLED}


@dataclass(frozen=True)
class Item:
    """A planned trial. `stored` is the row on disk (columns `store.BRIEF`), if any; `reasons` say why it is not
    cached.
    """

    trial: Trial
    identity: Identity
    state: State
    reasons: tuple[str, ...]
    stored: dict[str, Any] | None
    estimate: float | None
    """Seconds that it should take, judged by earlier trials; None without such trials."""
    no_choice: Choice | None = None
    """Of a final trial for which tuning could choose no settings: the choice that failed. The trial is not run; its row
    is written at once.
    """
    search: TuningSearch | None = None
    """Of a candidate: the search that it belongs to."""
    without_weights: bool = False
    """It is cached, and its weights, which are asked for, were not kept."""


@dataclass(frozen=True)
class Tuning:
    """A search and how far it is. `choice` is None until all of its candidates have rows. `waiting`: seconds that each
    final trial should take after that.
    """

    search: TuningSearch
    choice: Choice | None
    waiting: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Plan:
    suite: str
    items: tuple[Item, ...]
    """The candidates, then the final trials that are known."""
    tuning: tuple[Tuning, ...] = ()
    foreseen: tuple[str, ...] = ()
    """What trials to be run will fail at: packages and files that this machine lacks. Their other numbers are kept."""
    impossible: tuple[str, ...] = ()
    """Methods that are impossible at a place of a network (`normbench.runner.possible`): such trials end as error."""
    unseen: int = 0
    """Pairs of a network and a method that could not be looked at."""
    datasets: Mapping[str, Images] = field(default_factory=dict)
    """The datasets by their fingerprint, of those that final trials are tested on and that are on this machine."""
    unlogged: tuple[str, ...] = ()
    """Loggers that were asked for and that this machine lacks a package for."""
    absent: tuple[str, ...] = ()
    """Datasets that are not on this machine: a run fetches them before anything is trained."""
    judged_by: Mapping[str, int] = field(default_factory=dict)
    """By suite, how many stored trials the estimates were made from."""
    sides: Mapping[str, int] = field(default_factory=dict)
    """Pixels along a side of the images of these datasets, by the name of the dataset."""

    def count(self, state: State) -> int:
        return sum(i.state is state for i in self.items)

    @property
    def todo(self) -> list[Item]:
        return [i for i in self.items if i.state is not State.CACHED]

    @property
    def ahead(self) -> list[Trial]:
        """Trials that are still to be run, those whose settings are not chosen yet included."""
        return [i.trial for i in self.todo] + [
            trial for t in self.tuning if t.choice is None for _, trial in t.search.finals
        ]

    @property
    def estimate(self) -> float | None:
        """Seconds of trial time still to run, one trial after the other; None where no earlier trial tells."""
        return total([*self._times("tuning"), *self._times("final")])

    @property
    def estimates(self) -> dict[str, float | None]:
        """The same for each phase: `candidates` and `final`."""
        return {"candidates": total(self._times("tuning")), "final": total(self._times("final"))}

    def _times(self, stage: str) -> list[float | None]:
        known = [i.estimate for i in self.todo if not i.no_choice and i.trial.stage == stage]
        return known + ([seconds for t in self.tuning for seconds in t.waiting] if stage == "final" else [])

    @property
    def waiting(self) -> int:
        """Final trials whose settings are not chosen yet."""
        return sum(len(t.waiting) for t in self.tuning)

    @property
    def final(self) -> int:
        """All final trials, known or waiting."""
        return sum(i.trial.stage == "final" for i in self.items) + self.waiting

    def to_dict(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "total": len(self.items) + self.waiting,
            "cached": self.count(State.CACHED),
            "stale": self.count(State.STALE),
            "missing": self.count(State.MISSING),
            "waiting": self.waiting,
            "estimate_seconds": self.estimate,
            "estimates_seconds": self.estimates,
            "judged_by": dict(self.judged_by),
            "absent": list(self.absent),
            "foreseen": list(self.foreseen),
            "unlogged": list(self.unlogged),
            "impossible": list(self.impossible),
            "tuning": [
                {
                    "for": t.search.label,
                    "scheduler": t.search.scheduler,
                    "candidates": [c.trial_id for c in t.search.candidates],
                    "final": len(t.search.finals),
                    "chosen": dict(t.choice.settings) if t.choice and t.choice.settings else None,
                    "validation_accuracy": t.choice.accuracy if t.choice else None,
                    "reason": t.choice.reason if t.choice else "not all candidates have ended",
                }
                for t in self.tuning
            ],
            "trials": [
                {
                    "trial_id": i.trial.trial_id,
                    "stage": i.trial.stage,
                    "title": i.trial.title,
                    "state": i.state.value,
                    "reasons": list(i.reasons),
                    "status": i.stored["status"] if i.stored else None,
                    "estimate_seconds": i.estimate,
                    "without_weights": i.without_weights,
                }
                for i in self.items
            ],
        }


def make(
    suite: str,
    trials: Sequence[Trial],
    store: Store,
    data_dir: Path | None,
    *,
    searches: Sequence[TuningSearch] = (),
    ended: Collection[str] = (),
    retry: bool = False,
    download: bool = False,
    accept_versions: bool = False,
    keep_weights: bool = False,
    log: Sequence[str] = (),
) -> Plan:
    """Compare the trials of a suite with what is stored. Raises `DataError` when a dataset cannot exist.

    searches: of a suite with `tune`, in the place of `trials`. ended: ids of trials that this very command has run:
    they are not run again, whatever their end. retry: count failed trials as missing. download: fetch datasets that are
    not on this machine, so that their content is known. accept_versions: results of other versions of the libraries
    count. keep_weights: weights of final trials are to be kept; with `retry`, trials without them count as missing.
    log: loggers that trials are to go to.
    """
    fingerprints = Fingerprints(data_dir, download=download)
    kept = weights.kept(store, suite) if keep_weights else None
    planner = _Planner(store, suite, fingerprints, ended, kept, retry=retry, accept_versions=accept_versions)
    items = [planner.item(trial) for trial in trials]
    tuning: list[Tuning] = []
    finals: list[tuple[int, Item]] = []
    for search in searches:
        candidates = [planner.item(trial, search=search) for trial in search.candidates]
        items += candidates
        if all(i.state is State.CACHED for i in candidates):
            choice = search.choose({i.trial.trial_id: i.stored for i in candidates if i.stored})
            finals += [
                (place, planner.item(trial, None if choice.settings else choice))
                for place, trial in search.settled(choice)
            ]
            tuning.append(Tuning(search, choice))
        else:
            tuning.append(Tuning(search, None, tuple(planner.wait(trial) for _, trial in search.finals)))
    items += [item for _, item in sorted(finals, key=lambda found: found[0])]
    made = Plan(
        suite,
        tuple(items),
        tuple(tuning),
        datasets=fingerprints.datasets,
        sides=fingerprints.sides,
        absent=fingerprints.absent,
        judged_by=planner.paces.judged_by,
    )
    return replace(made, foreseen=foreseen(made.ahead, data_dir), unlogged=loggers_lacking(log))


def known(suite: str, trials: Sequence[Trial], searches: Sequence[TuningSearch], store: Store) -> set[str]:
    """Ids of the trials of a suite: those given, all candidates, and the final trials of searches whose candidates all
    have rows.
    """
    rows = {r["trial_id"]: r for r in store.rows([suite], ["trial_id", "status", "reason", "validation_accuracy"])}
    found = [*trials, *(c for search in searches for c in search.candidates)]
    for search in searches:
        if all(c.trial_id in rows for c in search.candidates):
            found += [trial for _, trial in search.settled(search.choose(rows))]
    return {t.trial_id for t in found}


def asked_for(suite: str, trials: Sequence[Trial], searches: Sequence[TuningSearch], store: Store) -> set[str]:
    """Ids of all trials that a suite may ask for: those that are `known`, and of a search that still waits for
    candidates its final trials with each of the settings.
    """
    found = known(suite, trials, searches, store)
    for search in searches:
        settled = {t.trial_id for choice in map(Choice, _settings(search)) for _, t in search.settled(choice)}
        if not settled & found:
            found |= settled
    return found


def _settings(search: TuningSearch) -> Iterable[Settings]:
    return dict.fromkeys(settings_of(c, search.settings) for c in search.candidates)


class _Planner:
    """Holds trials against the rows of one suite."""

    def __init__(
        self,
        store: Store,
        suite: str,
        fingerprints: Fingerprints,
        ended: Collection[str],
        kept: Collection[str] | None,
        *,
        retry: bool,
        accept_versions: bool,
    ) -> None:
        """kept: the trials whose weights are there; None: weights are not asked for."""
        # Whole files are looked at: what a board would leave out is to be run again.
        self._rows = {r["trial_id"]: r for r in store.rows([suite], BRIEF, whole=True)}
        self._fingerprints, self._ended, self._retry, self._accept = fingerprints, ended, retry, accept_versions
        self._kept = kept
        self.paces, self._nearest = Paces(store, suite, self._rows.values()), Nearest(self._rows.values())

    def item(self, trial: Trial, no_choice: Choice | None = None, *, search: TuningSearch | None = None) -> Item:
        now = identity(trial, self._fingerprints.of(trial))
        if no_choice:
            now = replace(now, no_choice=no_choice.reason)
        state, reasons = self._judge(trial, now, whole=search is not None and search.scheduler == "none")
        return Item(
            trial,
            now,
            state,
            tuple(reasons),
            self._rows.get(trial.trial_id),
            self.paces.estimate(trial),
            no_choice,
            search,
            state is State.CACHED and self._without_weights(trial),
        )

    def wait(self, trial: Trial) -> float | None:
        """Seconds that a final trial should take, which is not known yet. Its data, the test split included, are looked
        for now: if they are missing, that shows before hours of tuning.
        """
        self._fingerprints.of(trial)
        return self.paces.estimate(trial)

    def _judge(self, trial: Trial, now: Identity, *, whole: bool) -> tuple[State, list[str]]:
        """`whole`: a candidate that was stopped early does not count."""
        row = self._rows.get(trial.trial_id)
        if row is None:
            return State.MISSING, [self._nearest.why(trial)]
        if changes := now.changes_since(json.loads(row["identity_parts"]), accept_versions=self._accept):
            return State.STALE, changes
        if trial.trial_id in self._ended:
            return State.CACHED, []
        if row["status"] in UNFINISHED:
            return State.MISSING, [f"it was killed ({row['reason']})"]
        if whole and row["status"] == Status.STOPPED:
            return State.MISSING, [
                f"it was stopped early, and all candidates are to run to their end ({row['reason']})"
            ]
        if self._retry and row["status"] in RETRIABLE:
            return State.MISSING, [f"it ended as {row['status']} and is to be tried again ({row['reason']})"]
        if self._retry and self._without_weights(trial):
            return State.MISSING, ["its weights were not kept, and it is to be run again for them"]
        return State.CACHED, []

    def _without_weights(self, trial: Trial) -> bool:
        """Whether a stored trial has no weights though it could, and they are asked for."""
        row = self._rows.get(trial.trial_id)
        if self._kept is None or trial.stage != "final" or row is None or row["status"] != Status.OK:
            return False
        return trial.trial_id not in self._kept
