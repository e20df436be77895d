"""MLflow: a run a trial, in the experiment of its suite, where `MLFLOW_TRACKING_URI` says."""

from __future__ import annotations

import logging
import re
from typing import Any

from normbench.runner.logs.entry import Entry
from normbench.spec.outcome import Status

#: What the server takes in one request, and what a setting's value may be long.
_METRICS, _PARAMS, _LONGEST = 1000, 100, 500
#: Characters that no name of a metric may have.
_REFUSED = re.compile(r"[^\w .:/-]")


class MLflow:
    """Curves by optimizer step; final numbers under `final/`."""

    def __init__(self, suite: str) -> None:
        from mlflow import MlflowClient, get_tracking_uri

        for name in ("mlflow", "alembic"):  # they tell each step of making a database
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client: Any = MlflowClient()
        self._uri = str(get_tracking_uri())
        found = self._client.get_experiment_by_name(suite)
        self._experiment = found.experiment_id if found else self._client.create_experiment(suite)

    @property
    def greeting(self) -> str:
        return f"runs go to {re.sub(r'//[^/@]*@', '//', self._uri)}"

    def trial(self, entry: Entry) -> None:
        from mlflow.entities import Metric, Param

        tags = {"trial_id": entry.trial_id, "stage": entry.stage, "status": entry.status.value, "reason": entry.reason}
        run = self._client.create_run(
            self._experiment, start_time=int(entry.started * 1000), run_name=entry.name, tags=tags
        ).info.run_id
        last, at = max(entry.curves, default=0), int(entry.started * 1000)
        numbers = [(name, value, step) for step, found in entry.curves.items() for name, value in found.items()]
        numbers += [(f"final/{name}", value, last) for name, value in entry.final.items()]
        metrics = [Metric(_REFUSED.sub("_", name), value, at, step) for name, value, step in numbers]
        params = [Param(_REFUSED.sub("_", name), str(value)[:_LONGEST]) for name, value in entry.settings.items()]
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(run, params=params[start : start + _PARAMS])
        for start in range(0, len(metrics), _METRICS):
            self._client.log_batch(run, metrics=metrics[start : start + _METRICS])
        self._client.set_terminated(run, status="FINISHED" if entry.status is Status.OK else "FAILED")


def open_log(suite: str) -> MLflow:
    """The logger of a suite."""
    return MLflow(suite)
