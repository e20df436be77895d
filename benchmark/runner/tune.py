"""Ray Tune as the scheduler: it places trials on CPUs, GPUs and machines; what it reports is stored before anything else happens.

Ray's own resume, retries and result files are switched off: an interrupted `fit` reruns trials that had finished and ignores trials that are new. The
results folder is the only state (see `benchmark.plan`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.errors import BenchError
from benchmark.plan import Item
from benchmark.runner import warm
from benchmark.runner.child import Job, supervise
from benchmark.runner.halving import Halving
from benchmark.trial import Limits, Outcome, Status

#: Set before Ray is imported. The last one makes a local Ray listen on loopback only (and refuse further nodes).
SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}
LOCAL_SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class ResourceError(BenchError):
    """A trial asks for what no machine offers; the message says what was asked and what there is."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run. `jobs`: most trials at once (None: as many as fit). `address`: of a Ray cluster (None: this machine alone)."""

    data_dir: Path | None
    provenance: dict[str, Any]
    jobs: int | None = None
    address: str | None = None


@dataclass
class Events:
    """What the driver does as trials start, move on and end. `done` must have stored the outcome when it returns."""

    started: Callable[[Item], None]
    progress: Callable[[Item, dict[str, Any]], None]
    done: Callable[[Item, Outcome], None]
    placed: Callable[[str], None] = field(default=lambda _: None)


def execute(items: Sequence[Item], limits: Limits, options: Options, events: Events) -> None:
    """Run every item to an outcome. Raises `ResourceError` before anything runs, `KeyboardInterrupt` when interrupted."""
    os.environ.update({k: os.environ.get(k, v) for k, v in (SETTINGS | ({} if options.address else LOCAL_SETTINGS)).items()})
    with _ray(options) as ray, tempfile.TemporaryDirectory(prefix="normbench-tune-") as scratch:
        resources = _resources(ray, limits)
        slots = _slots(ray, resources)
        events.placed(_placement(limits, resources, min(slots, options.jobs or slots, len(items))))
        _fit(items, limits, options, events, resources, Path(scratch))


@contextlib.contextmanager
def _ray(options: Options) -> Iterator[Any]:
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    where: dict[str, Any] = {"address": options.address} if options.address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    environment = {"worker_process_setup_hook": f"{warm.__name__}.start"}
    ray.init(logging_level=logging.ERROR, log_to_driver=False, configure_logging=False, runtime_env=environment, **where)
    try:
        yield ray
    finally:
        ray.shutdown()


def _resources(ray: Any, limits: Limits) -> dict[str, float]:
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    gpu = (1.0 if any(n.get("GPU", 0) for n in nodes) else 0.0) if limits.gpu == "auto" else float(limits.gpu)
    need = {"CPU": float(limits.cpu), "GPU": gpu}
    if not any(all(n.get(k, 0) >= v for k, v in need.items()) for n in nodes):
        offered = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ResourceError(
            f"each trial asks for {need['CPU']:g} CPUs and {need['GPU']:g} GPUs (limits in the suite file), and no machine offers both at once: found {offered}"
        )
    return need


def _slots(ray: Any, need: dict[str, float]) -> int:
    return sum(int(min(n["Resources"].get(k, 0) // v for k, v in need.items() if v)) for n in ray.nodes() if n["Alive"])


def _placement(limits: Limits, need: dict[str, float], slots: int) -> str:
    device = f"{need['GPU']:g} GPU" if need["GPU"] else "no GPU"
    note = " (gpu: auto found none)" if limits.gpu == "auto" and not need["GPU"] else ""
    return f"{slots} trial{'s' if slots != 1 else ''} at a time, each with {need['CPU']:g} CPU{'s' if need['CPU'] != 1 else ''} and {device}{note}"


def _fit(items: Sequence[Item], limits: Limits, options: Options, events: Events, resources: dict[str, float], scratch: Path) -> None:
    from ray import tune

    jobs = [asdict(_job(item, limits, options, gpu=resources["GPU"] > 0)) for item in items]
    halving = Halving(items, options.provenance)
    driver = _Driver(items, events, halving)
    tuner = tune.Tuner(
        tune.with_resources(_trainable, resources),
        param_space={"work": tune.grid_search([{"index": i, "job": json.dumps(job)} for i, job in enumerate(jobs)])},
        tune_config=tune.TuneConfig(
            reuse_actors=True, max_concurrent_trials=options.jobs, trial_name_creator=_name, trial_dirname_creator=_name, scheduler=halving.scheduler()
        ),
        run_config=tune.RunConfig(
            name="trials", storage_path=str(scratch), verbose=0, callbacks=[driver.callback()], failure_config=tune.FailureConfig(max_failures=0)
        ),
    )
    tuner.fit()
    driver.close()


def _name(trial: Any) -> str:
    return f"trial-{trial.config['work']['index']}"


def _job(item: Item, limits: Limits, options: Options, *, gpu: bool) -> Job:
    context = {
        "data_dir": str(options.data_dir) if options.data_dir else None,
        "fingerprint": item.identity.data,
        "device": "cuda" if gpu else "cpu",
        "threads": limits.cpu,
        "provenance": options.provenance,
    }
    return Job(item.trial.model_dump_json(), context, limits.time)


def _trainable(config: dict[str, Any]) -> None:
    """Runs in a Ray worker, which serves many trials one after the other."""
    from ray import tune

    job = json.loads(config["work"]["job"])
    tune.report({"event": "started"})
    outcome = supervise(Job(**job), lambda progress: tune.report({"event": "progress", "progress": progress}))
    tune.report({"event": "outcome", "outcome": outcome.model_dump_json()})


class _Driver:
    """Receives what the workers report, in the driver's process, and sees to it that every trial gets an outcome."""

    def __init__(self, items: Sequence[Item], events: Events, halving: Halving) -> None:
        self._items, self._events, self._halving = items, events, halving
        self._open = set(range(len(items)))

    def callback(self) -> Any:
        from ray.tune import Callback

        driver = self

        class Forward(Callback):  # type: ignore[misc]
            def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:  # noqa: ARG002
                driver.receive(trial.config["work"]["index"], result)

            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
                driver.completed(trial.config["work"]["index"])

            def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
                driver.lost(trial.config["work"]["index"], trial.error_file)

            def __reduce__(self) -> tuple[Any, ...]:
                return Callback, ()  # Tune pickles callbacks for its own resume, which is not used

        return Forward()

    def receive(self, index: int, result: dict[str, Any]) -> None:
        item = self._items[index]
        match result.get("event"):
            case "started":
                self._events.started(item)
            case "progress":
                self._events.progress(item, result["progress"])
            case "outcome":
                self._finish(index, Outcome.model_validate_json(result["outcome"]))

    def completed(self, index: int) -> None:
        """A trial that ended without an outcome, because the scheduler stopped it: the report that raised in its worker ended its child too."""
        if outcome := self._halving.outcome(index):
            self._finish(index, outcome)

    def lost(self, index: int, error_file: str | None) -> None:
        """The Ray worker itself went: killed, or its machine is gone."""
        text = Path(error_file).read_text(errors="replace") if error_file and Path(error_file).is_file() else ""
        self._finish(index, Outcome(status=Status.KILLED, reason="the Ray worker that ran it was lost", log="\n".join(text.splitlines()[-30:])))

    def close(self) -> None:
        """Anything that Tune gave up without a word."""
        for index in sorted(self._open):
            self._finish(index, Outcome(status=Status.KILLED, reason="Ray Tune ended before the trial did"))

    def _finish(self, index: int, outcome: Outcome) -> None:
        if index in self._open:
            self._events.done(self._items[index], outcome)
            self._open.discard(index)
