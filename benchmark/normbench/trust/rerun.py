"""Hold stored results against this checkout: the shard against itself, its identity against the code here, its numbers
against a re-run.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from normbench.errors import BenchError
from normbench.plan.fingerprints import Fingerprints
from normbench.plan.identity import identity
from normbench.plan.provenance import provenance
from normbench.runner.worker import Job, supervise
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
from normbench.store.levels import Level
from normbench.store.marks import Compared, Mark
from normbench.store.reading import parse
from normbench.store.schema import SCHEMA, to_row, trial_of
from normbench.store.store import Store, fingerprint_of, shard_name
from normbench.store.verify import contradictions
from normbench.trust.compare import SHAKE, accuracies, step_losses

#: Seconds that the first steps of one trial may take.
SMOKE_LIMIT = 600.0
#: Evaluation and attacks may take this many times as long as the training that they follow, before a short trial counts
#: as long.
EVALUATION = 4.0
#: Ends of a re-run that say something about this machine and nothing about the result.
MACHINE = {Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.KILLED}


class Verdict(StrEnum):
    HOLDS = "holds"
    UNCHECKED = "not checked"
    """Nothing speaks against it, and it could not be run again here."""
    REFUTED = "does not hold"


@dataclass(frozen=True)
class Checked:
    """What came of one shard."""

    path: Path
    title: str
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it does not hold, or could not be run again; of one that holds, what was compared."""
    notes: tuple[str, ...] = ()
    """What differs here without speaking against it: versions of libraries."""
    mark: Mark | None = None
    compared: tuple[Compared, ...] = ()
    """The numbers of the result and of the re-run."""


class Refuted(Exception):  # noqa: N818
    """A re-run contradicts the result. `compared`: the numbers of both, where it has come to that."""

    def __init__(self, why: str, compared: tuple[Compared, ...] = ()) -> None:
        super().__init__(why)
        self.compared = compared


class Unchecked(Exception):  # noqa: N818
    """The result cannot be run again here."""


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """What checks are made with. `rerun`: run whole trials, on a GPU where there is one. `whole`: without it, run a
    trial to its end where its training should take no more than so many seconds.
    """

    data_dir: Path | None
    fingerprints: Fingerprints
    rerun: bool = False
    whole: float = 60.0
    report: Callable[[dict[str, Any]], None] = lambda _: None
    """Gets the progress of what is run, as `normbench.runner.worker.supervise` reports it."""

    def again(self, store: Store, suite: str, trial_id: str) -> Checked:
        """Run a stored trial again, all of it, from the specification of its row, and compare. What has changed since
        it was run is noted, and does not keep it from being run. Raises `StoreError` for a damaged row.
        """
        name = shard_name(suite, trial_id)
        content = next(content for _, content in store.extract(suite, [trial_id]))
        (row,) = parse(content, SCHEMA).to_pylist()
        trial, path = trial_of(row), Path(name)
        fingerprint, differing, notes = self._identity(trial, json.loads(row["identity_parts"]))
        notes = (*differing, *notes)
        try:
            if fingerprint is None:
                raise Unchecked(f"its dataset {trial.data.dataset} is not on this machine")
            extent, compared, _ = self._whole(row, trial, fingerprint)
        except Refuted as refuted:
            return Checked(path, trial.title, Verdict.REFUTED, (str(refuted),), notes, compared=refuted.compared)
        except (Unchecked, BenchError) as reason:
            return Checked(path, trial.title, Verdict.UNCHECKED, (str(reason),), notes)
        why = (f"{extent}: {_summary(compared)}",)
        return Checked(path, trial.title, Verdict.HOLDS, why, notes, compared=compared)

    def check(self, path: Path) -> Checked:
        """Check one shard, `<suite>/<trial_id>.parquet`."""
        store = Store(path.parent.parent)
        name = f"{path.parent.name}/{path.name}"
        table = store.read(name)
        if table is None:
            return Checked(path, path.stem, Verdict.REFUTED, (store.problems[store.files.where(name)],))
        if table.num_rows != 1:
            return Checked(
                path,
                path.stem,
                Verdict.UNCHECKED,
                (f"it holds {table.num_rows} rows; `bench results export` makes a shard of each",),
            )
        row = table.to_pylist()[0]
        if problems := tuple(contradictions(row, name)):
            return Checked(path, path.stem, Verdict.REFUTED, problems)
        trial = trial_of(row)
        notes: tuple[str, ...] = ()
        try:
            content, differing, notes = self._identity(trial, json.loads(row["identity_parts"]))
            if differing:
                return Checked(path, trial.title, Verdict.REFUTED, differing, notes)
            if content is None:
                raise Unchecked(f"its dataset {trial.data.dataset} is not on this machine")
            extent, compared, outcome = (
                self._whole(row, trial, content) if self.rerun else self._smoke(row, trial, content)
            )
        except Refuted as refuted:
            return Checked(path, trial.title, Verdict.REFUTED, (str(refuted),), notes)
        except (Unchecked, BenchError) as reason:
            return Checked(path, trial.title, Verdict.UNCHECKED, (str(reason),), notes)
        mark = Mark(
            trial_id=trial.trial_id,
            shard=fingerprint_of(path.read_bytes()),
            level=Level.RERUN if self.rerun else Level.SMOKE,
            extent=extent,
            compared=compared,
            when=datetime.now(UTC).replace(microsecond=0),
            provenance=outcome.provenance,
        )
        return Checked(path, trial.title, Verdict.HOLDS, (f"{extent}: {_summary(compared)}",), notes, mark)

    def _identity(self, trial: Trial, stored: dict[str, Any]) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
        """Fingerprint of the dataset here; in what the result differs from this checkout; in what from the libraries
        here.
        """
        try:
            content = self.fingerprints.of(trial)
        except BenchError:
            content = None  # what else differs is to be told first
        try:
            now = identity(trial, content)
        except BenchError as error:
            return content, (f"this checkout cannot run it: {error}",), ()
        versions = stored.get("versions") or {}
        differing = tuple(f"not of this checkout: {r}" for r in replace(now, versions=versions).changes_since(stored))
        return (
            content,
            differing,
            tuple(replace(now, code={}, data=None).changes_since(stored | {"code": {}, "protocol": now.protocol})),
        )

    def _smoke(self, row: Mapping[str, Any], trial: Trial, content: str) -> tuple[str, tuple[Compared, ...], Outcome]:
        """Run the first steps again, and a short trial whole."""
        from normbench.lab.train import FIRST_STEPS, STEP_LOSS

        stored = json.loads(row["provenance"] or "{}")
        expected = [r["value"] for r in row["curves"] or () if r["measure"] == STEP_LOSS]
        coarse = stored.get("device") != "cpu" or stored.get("precision") != "float32"
        cut = trial.model_copy(update={"attacks": (), "measures": ()})
        exact, rough = (
            cut.model_copy(update={"train": cut.train.model_copy(update={"precision": p})})
            for p in ("float32", "bf16" if coarse else "float32")
        )
        context = {"threads": _threads(stored), "steps": FIRST_STEPS}
        found = self._run(exact, content, SMOKE_LIMIT, context)
        if found.status is Status.ERROR and row["status"] == Status.ERROR and found.reason == row["reason"]:
            return f"first steps: it ends with the same error, {found.reason}", (), found
        if not expected:
            raise Unchecked("the losses of its first steps are not recorded")
        if found.status is Status.ERROR:
            raise Refuted(f"its first steps end with an error here: {found.reason}")
        shaken = self._run(rough, content, SMOKE_LIMIT, context | {"shake": 0.0 if coarse else SHAKE})
        ours, theirs = ([r for r in o.curves if r.measure == STEP_LOSS] for o in (found, shaken))
        if not len(expected) == len(ours) == len(theirs):
            raise Refuted(f"it has losses of {len(expected)} first steps, a re-run has {len(ours)}")
        compared = step_losses(expected, [r.value for r in ours], [r.value for r in theirs], coarse=coarse)
        _hold(compared)
        if not compared:
            raise Unchecked("rounding alone decides its first step: nothing to compare")
        extent = f"first {len(compared)} steps" if len(compared) > 1 else "first step"
        an_epoch = ours[-1].step / ours[-1].epoch
        seconds = found.train_seconds / len(ours) * an_epoch * trial.train.epochs
        if seconds > self.whole or row["status"] != Status.OK:
            return extent, compared, found
        try:
            whole, more, outcome = self._whole(row, trial, content, limit=self.whole * (1 + EVALUATION))
        except Unchecked:
            return extent, compared, found
        return f"{extent}, {whole}", (*compared, *more), outcome

    def _whole(
        self, row: Mapping[str, Any], trial: Trial, content: str, limit: float = 7 * 86400.0
    ) -> tuple[str, tuple[Compared, ...], Outcome]:
        """Run the whole trial again."""
        threads = _threads(json.loads(row["provenance"] or "{}"))
        outcome = self._run(
            trial.model_copy(update={"measures": ()}),
            content,
            limit,
            {"threads": threads, "device": _device() if self.rerun else "cpu"},
        )
        if outcome.status != row["status"]:
            raise Refuted(
                f"it says {row['status']}; a re-run ended as "
                f"{outcome.status.value}{f': {outcome.reason}' if outcome.reason else ''}"
            )
        compared = accuracies(row, to_row(row["suite"], trial, {"hash": ""}, outcome))
        _hold(compared)
        return "whole trial", compared, outcome

    def _run(self, trial: Trial, content: str, limit: float, more: dict[str, Any]) -> Outcome:
        context = {
            "data_dir": str(self.data_dir) if self.data_dir else None,
            "fingerprint": content,
            "provenance": provenance(),
            **more,
        }
        outcome = supervise(Job(trial.model_dump_json(), context, limit), self.report)
        if outcome.status in MACHINE:
            raise Unchecked(f"its re-run {outcome.status.value.replace('_', ' ')}: {outcome.reason}")
        return outcome


def _hold(compared: tuple[Compared, ...]) -> None:
    if failing := [c for c in compared if not c.holds]:
        first = failing[0]
        more = f", and {len(failing) - 1} more numbers" if len(failing) > 1 else ""
        raise Refuted(
            f"{first.what}: it says {_number(first.expected)}, a re-run gives {_number(first.found)} (tolerance "
            f"{first.tolerance:.2g}){more}",
            compared,
        )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _summary(compared: tuple[Compared, ...]) -> str:
    apart = [abs(c.expected - c.found) for c in compared if c.expected is not None and c.found is not None]
    return f"{len(compared)} numbers agree, at most {max(apart, default=0.0):.2g} apart"


def _threads(stored: Mapping[str, Any]) -> int:
    """As many threads as the trial had, which decides the order of sums, if this machine has them."""
    return min(int(stored.get("threads") or 1), os.cpu_count() or 1)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def shards(paths: Iterable[Path]) -> list[Path]:
    """The shards that `paths` name: files, suites' folders, results folders. Raises `BenchError` for what is
    neither.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet"))
        elif path.is_file():
            found.append(path)
        else:
            raise BenchError(f"{path}: there is no such shard or folder of results")
    return [p.absolute() for p in dict.fromkeys(found)]


def since(commit: str, results: Path) -> list[Path]:
    """Shards of a results folder under git that were added or changed since `commit` was left. Raises `BenchError`
    where git cannot tell.
    """

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(
                ["git", *arguments], cwd=results, capture_output=True, encoding="utf-8", errors="replace", check=True
            ).stdout
        except OSError as error:
            raise BenchError(f"--since asks git, which cannot be run in {results}: {error.strerror}") from error
        except subprocess.CalledProcessError as error:
            raise BenchError(
                f"--since {commit}: {(error.stderr.strip().splitlines() or ['git knows no such commit'])[0]} (in "
                f"{results})"
            ) from error

    known = git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").strip()
    names = git("diff", "--merge-base", "--relative", "--name-only", "-z", "--diff-filter=d", known, "--", ".").split(
        "\0"
    )
    return sorted(results / n for n in names if n.endswith(".parquet") and (results / n).is_file())
