"""ASHA of Ray Tune, search by search: a candidate is compared with candidates of its own search, never with those of
another method.

Its decisions depend on the order in which reports arrive, so two runs may stop different candidates. It knows only the
candidates of this run, not those that an interrupted run had finished.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from normbench.spec.outcome import Outcome, Reading, Status

#: After a rung, one candidate in so many goes on. Each rung has so many times the epochs of the one below.
REDUCTION = 2
#: The first rung is after this part of the epochs. An earlier one is cheaper and unfair: a large learning rate that
#: wins in the end looks bad while it is large.
FIRST_RUNG = 3


class Halving:
    """Watches the candidates of searches with `scheduler: asha`, has Ray Tune stop the weak ones, and keeps what they
    reported.
    """

    def __init__(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """`jobs`: see `normbench.runner.tune.fit`; `asha_group` names the search, and is empty for trials that run
        to their end.
        """
        self._searches: dict[int, str] = {job["index"]: job["asha_group"] for job in jobs if job["asha_group"]}
        self._jobs: dict[int, dict[str, Any]] = {
            job["index"]: json.loads(job["job"]) for job in jobs if job["asha_group"]
        }
        self._began: dict[int, float] = {}
        self._reports: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self._stopped: set[int] = set()

    def scheduler(self) -> Any:
        """The scheduler that Ray Tune asks after every report; None where no candidate may be stopped."""
        if not self._searches:
            return None
        from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

        halving = self
        schedulers: dict[str, Any] = {}

        class PerSearch(FIFOScheduler):  # type: ignore[misc]
            def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
                index = trial.config["work"]["index"]
                search = halving._searches.get(index)
                if search is None:
                    return
                if search not in schedulers:
                    epochs = json.loads(halving._jobs[index]["trial"])["train"]["epochs"]
                    schedulers[search] = ASHAScheduler(
                        time_attr="epoch",
                        metric="validation_accuracy",
                        mode="max",
                        max_t=epochs,
                        grace_period=max(1, epochs // FIRST_RUNG),
                        reduction_factor=REDUCTION,
                    )
                schedulers[search].on_trial_add(tune_controller, trial)

            def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
                index = trial.config["work"]["index"]
                search = halving._searches.get(index)
                if search is None or not halving._receive(index, result):
                    return str(FIFOScheduler.CONTINUE)
                report = {
                    "epoch": result["progress/epoch"],
                    "validation_accuracy": result["progress/validation_accuracy"],
                }
                decision = schedulers[search].on_trial_result(tune_controller, trial, report)
                if decision == FIFOScheduler.STOP:
                    halving._stopped.add(index)
                return str(decision)

            def __reduce__(self) -> tuple[Any, ...]:
                return FIFOScheduler, ()  # Tune pickles it for its own resume, which is not used

        return PerSearch()

    def outcome(self, index: int) -> Outcome | None:
        """The outcome of a candidate that was stopped, with its curves up to then; None for any other."""
        if index not in self._stopped:
            return None
        reports, label = self._reports[index], self._searches[index]
        last = reports[-1]
        return Outcome(
            status=Status.STOPPED,
            reason=f"ASHA stopped it after epoch {last['epoch']:g} of {last['epochs']}: its validation accuracy, "
            f"{last['validation_accuracy']:.1%}, "
            f"was not among the best 1/{REDUCTION} of the candidates for {label} that had come as far",
            epoch=int(last["epoch"]),
            train_loss=last["loss"],
            validation_accuracy=last["validation_accuracy"],
            curves=tuple(Reading(**reading) for report in reports for reading in report["readings"]),
            provenance=self._jobs[index]["context"]["provenance"],
            started=time.time() - (wall := time.monotonic() - self._began[index]),
            wall_seconds=wall,
            train_seconds=last["train_seconds"],
            images_per_second=last["images_per_second"],
        )

    def _receive(self, index: int, result: dict[str, Any]) -> bool:
        """Keep a report, and return whether it is one to decide on: it must be of an epoch's end, but not of the last
        one's, when nothing is left to stop.
        """
        if result.get("event") == "started":
            self._began[index] = time.monotonic()
            self._reports.pop(index, None)
        if result.get("event") != "progress" or result.get("progress/validation_accuracy") is None:
            return False
        self._reports[index].append(
            {key.removeprefix("progress/"): value for key, value in result.items() if key.startswith("progress/")}
        )
        return bool(result["progress/epoch"] < result["progress/epochs"])
