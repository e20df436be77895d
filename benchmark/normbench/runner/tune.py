"""Ray Tune as the scheduler: it places trials on CPUs, GPUs and machines. What it reports is stored before anything
else happens.

Ray's own resume, retries and result files are switched off: after an interruption, `fit` would rerun finished trials
and ignore new ones. The results folder is the only state (see `normbench.plan.plan`). Trials that are to be tried again
(see `normbench.runner.retry`) make another round.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from normbench.errors import BenchError
from normbench.paths import checkpoint_path
from normbench.plan.identity import library_versions
from normbench.plan.plan import Item
from normbench.runner.alive import watched
from normbench.runner.bundles import bundles
from normbench.runner.cluster import FOLDER, Cluster, Connection, disagreement, needed, prepare, slots, unpack
from normbench.runner.folder import RAY, RUN, clear, run_folder, scratch
from normbench.runner.halving import Halving
from normbench.runner.retry import GOES_ON, LOST, Need, closed, next_need
from normbench.runner.worker import Job, last_lines, supervise_all
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Limits, Trial

_LOG_LINES = 30
#: Marks that Ray puts into the output of its workers.
_RAYS_OWN = (":job_id:", ":actor_name:", ":task_name:")
#: Seconds between two looks at the events of a driver inside the cluster.
_POLL = 0.2


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run. `jobs`: most trials at once (None: as many as fit)."""

    data_dir: Path | None
    provenance: dict[str, Any]
    jobs: int | None = None
    ray: Connection | None = None
    """The run's Ray; None: one on this machine for these trials alone."""
    checkpoints: Path | None = None
    """Folder for checkpoints; nodes that do not have it use their own cache. None: none are kept."""
    checkpoint_seconds: float = 120.0
    weights: Mapping[str, str] | None = None
    """Where the weights of final trials are kept: `root` and `suite`; None: nowhere."""


@dataclass
class Events:
    """What the driver does as trials start, move on and end. `done` must have stored the outcome when it returns."""

    started: Callable[[Item], None]
    progress: Callable[[Item, dict[str, Any]], None]
    done: Callable[[Item, Outcome], None]
    placed: Callable[[str], None] = field(default=lambda _: None)
    again: Callable[[Item, str], None] = field(default=lambda item, why: None)
    """A try has ended in a way that is not stored: the trial waits for another try."""


@dataclass(frozen=True)
class Work:
    """One try of one trial. `past`: how its earlier tries ended."""

    item: Item
    need: Need
    past: tuple[Outcome, ...] = ()


Report = Callable[[int, dict[str, Any]], None]
"""Called for everything that happens, with the number of a job and an event as a dictionary."""


def execute(items: Sequence[Item], limits: Limits, options: Options, events: Events) -> None:
    """Run every item to an outcome. Raises `ResourceError` or `ClusterError` before anything runs, `RayLostError` where
    Ray is lost meanwhile, `KeyboardInterrupt` when interrupted.
    """
    with contextlib.ExitStack() as own:
        connection = options.ray or own.enter_context(Connection(own.enter_context(run_folder())))
        cluster = connection.cluster
        own.enter_context(watched(cluster.parts, partial(clear, connection.folder)))
        need = needed(cluster.nodes, limits)
        if connection.address:
            cluster = prepare(cluster, need, items, options.data_dir)
        fitting = slots(cluster.nodes, need)
        events.placed(_placement(limits, need, min(fitting, options.jobs or fitting, len(items))))
        works = [Work(item, need) for item in items]
        while works:
            works = _round(works, limits, options, events, cluster)


def _placement(limits: Limits, need: Need, count: int) -> str:
    device = f"{need['GPU']:g} GPU" if need["GPU"] else "no GPU"
    note = " (gpu: auto found none)" if limits.gpu == "auto" and not need["GPU"] else ""
    more = f", where up to {limits.together} run together" if limits.together > 1 else ""
    return (
        f"{count} trial{'s' if count != 1 else ''} at a time, each with {need['CPU']:g} "
        f"CPU{'s' if need['CPU'] != 1 else ''} and {device}{note}{more}"
    )


def _round(works: Sequence[Work], limits: Limits, options: Options, events: Events, cluster: Cluster) -> list[Work]:
    """Give every trial one try. Returns those that are to be tried again."""
    driver = Driver(works, events, cluster.nodes)
    packed = [{"index": i, "job": json.dumps(asdict(_job(w, limits, options)))} for i, w in enumerate(works)]
    jobs = [
        {
            **packed[first],
            "beside": [packed[i] for i in others],
            "need": dict(works[first].need),
            "asha_group": _asha_group(works[first].item),
        }
        for first, *others in bundles(
            ((i, w.item.trial, bool(w.past or _asha_group(w.item))) for i, w in enumerate(works)), limits.together
        )
    ]
    run = _fit_inside if cluster.client else _fit_here
    try:
        run(cluster, jobs, options.jobs, driver.receive)
    except (
        Exception
    ) as error:  # Ray's own failures end `fit`, such as its memory monitor; what was running is tried again
        if driver.failure:
            raise driver.failure from None
        driver.gave_up(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
    driver.gave_up("it ended before the trial did")
    return driver.again


def _asha_group(item: Item) -> str:
    """The name of the search within which weak candidates are stopped early; empty for all other trials."""
    return item.search.label if item.search and item.search.scheduler == "asha" else ""


def _job(work: Work, limits: Limits, options: Options) -> Job:
    item = work.item
    context = {
        "data_dir": str(options.data_dir) if options.data_dir else None,
        "fingerprint": item.identity.data,
        "identity": item.identity.hash,
        "device": device_of(work.need),
        "threads": limits.cpu,
        "engine": limits.engine,
        "provenance": options.provenance,
        "checkpoints": str(options.checkpoints) if options.checkpoints else None,
        "checkpoint_seconds": options.checkpoint_seconds,
        "weights": options.weights if item.trial.stage == "final" else None,
    }
    serves = limits.process == "shape" or (limits.process == "auto" and work.need["GPU"] > 0)
    return Job(item.trial.model_dump_json(), context, limits.time, serves)


def device_of(need: Need) -> str:
    return "cuda" if need["GPU"] > 0 else "cpu"


def _fit_here(cluster: Cluster, jobs: list[dict[str, Any]], at_once: int | None, report: Report) -> None:
    fit(jobs, at_once, cluster.packs, report)


def _fit_inside(cluster: Cluster, jobs: list[dict[str, Any]], at_once: int | None, report: Report) -> None:
    """Through Ray's client, Tune and its callbacks run inside the cluster. Their events are fetched from there."""
    ray = cluster.ray
    inside = ray.remote(num_cpus=0, max_concurrency=2)(_Inside).remote()
    running = inside.fit.remote(jobs, at_once, cluster.packs)
    ended = False
    while not ended:
        ended = bool(ray.wait([running], timeout=0)[0])
        for index, event in ray.get(inside.take.remote(0.0 if ended else _POLL)):
            report(index, event)
    ray.get(running)


class _Inside:
    """A driver inside the cluster, which ends with the client that made it."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()

    def fit(self, jobs: list[dict[str, Any]], at_once: int | None, packs: dict[str, list[Any]]) -> None:
        fit(jobs, at_once, packs, lambda index, event: self._events.put((index, event)))

    def take(self, wait: float) -> list[tuple[int, dict[str, Any]]]:
        """All events so far; waits at most `wait` seconds for the first."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self._events.get(timeout=wait) if wait else self._events.get_nowait())
            while True:
                found.append(self._events.get_nowait())
        return found


def fit(jobs: list[dict[str, Any]], at_once: int | None, packs: dict[str, list[Any]], report: Report) -> None:
    """Run jobs (`index`, `need`, `asha_group`, JSON of a `Job`, index and `Job` of each that runs `beside` it) under
    Tune. `report` is called for every event.
    """
    from ray import tune

    logging.getLogger("ray.tune.tune").setLevel(
        logging.CRITICAL
    )  # it would name trials whose worker was lost; the driver's own messages do
    halving = Halving(jobs)
    with scratch("tune-") as storage:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(_trainable, packs=packs), lambda config: config["work"]["need"]),
            param_space={"work": tune.grid_search(jobs)},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=at_once,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
                scheduler=halving.scheduler(),
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(storage),
                verbose=0,
                callbacks=[_callback(report, halving)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()


def _name(trial: Any) -> str:
    return f"trial-{trial.config['work']['index']}"


def _trainable(config: dict[str, Any], packs: dict[str, list[Any]]) -> None:
    """Runs in a Ray worker, which serves many trials one after the other."""
    from ray import tune

    jobs = [Job(**json.loads(each["job"])) for each in (config["work"], *config["work"]["beside"])]
    if folder := os.environ.get(FOLDER):
        os.chdir(folder)
    tune.report({"event": "started"})
    for name, reference in packs.items():
        unpack(name, reference)

    def ended(which: int, outcome: Outcome) -> None:
        tune.report({"event": "outcome", "outcome": outcome.model_dump_json(), "which": which})
        path = checkpoint_path(
            jobs[which].context["checkpoints"], Trial.model_validate_json(jobs[which].trial).trial_id
        )
        if path and outcome.status not in GOES_ON:
            path.unlink(missing_ok=True)

    facts = jobs[0].context["provenance"]
    if differing := disagreement(library_versions(), facts.get("versions", {})):  # on a node that joined later
        reason = f"its node has other versions: {differing}"
        for which in range(len(jobs)):
            ended(which, Outcome(status=Status.ERROR, reason=reason, provenance=facts))
    else:
        supervise_all(
            jobs,
            lambda which, progress: tune.report({"event": "progress", "progress": progress, "which": which}),
            ended,
        )


def _callback(report: Report, halving: Halving) -> Any:
    from ray.tune import Callback

    class Forward(Callback):  # type: ignore[misc]
        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            members = _indexes(trial)
            for index in [members[result["which"]]] if "which" in result else members if "event" in result else ():
                report(index, {k: result[k] for k in ("event", "progress", "outcome") if k in result})

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            index = trial.config["work"]["index"]
            if outcome := halving.outcome(index):  # the report that raised in its worker has ended its process too
                report(index, {"event": "outcome", "outcome": outcome.model_dump_json()})

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            file = trial.error_file
            text = Path(file).read_text(encoding="utf-8", errors="replace") if file and Path(file).is_file() else ""
            for index in _indexes(trial):
                report(index, {"event": "lost", "text": text, "wrote": _last_written(text)})

        def __reduce__(self) -> tuple[Any, ...]:
            return Callback, ()  # Tune pickles callbacks for its own resume, which is not used

    return Forward()


def _indexes(trial: Any) -> list[int]:
    """Of a job and of all that run beside it."""
    work = trial.config["work"]
    return [work["index"], *(other["index"] for other in work["beside"])]


def _last_written(text: str) -> str:
    """The last lines on the standard error of a lost worker of this machine; empty where a cluster's was lost.

    text: Ray's message about the loss, which names the worker's process.
    """
    found = re.search(r"\bpid: (\d+)", text)
    logs = Path(os.environ.get(RUN, os.devnull)) / RAY / "session_latest" / "logs"
    for path in logs.glob(f"worker-*-{found[1]}.err") if found else ():
        with path.open("rb") as log:
            return "\n".join(line for line in last_lines(log).splitlines() if not line.startswith(_RAYS_OWN)).strip()
    return ""


class Driver:
    """Receives the events of one round. Every trial gets an outcome, or goes to those that are tried `again`."""

    def __init__(self, works: Sequence[Work], events: Events, nodes: Sequence[Need]) -> None:
        self._works, self._events, self._nodes = works, events, nodes
        self._open, self._running = set(range(len(works))), set[int]()
        self._epochs: dict[int, int] = {}
        self.again: list[Work] = []
        self.failure: BaseException | None = None
        """The error of storing an outcome, which is no failure of Ray."""

    def receive(self, index: int, event: dict[str, Any]) -> None:
        item = self._works[index].item
        match event["event"]:
            case "started":
                self._running.add(index)
                self._events.started(item)
            case "progress":
                self._epochs[index] = int(event["progress"]["epoch"])
                self._events.progress(item, event["progress"])
            case "outcome":
                self._end(index, Outcome.model_validate_json(event["outcome"]))
            case "lost":
                self._end(index, self._lost(index, event["text"], event["wrote"]))

    def gave_up(self, why: str) -> None:
        """Close the round when `fit` is over. Running trials count as lost; those that had not started go to the next
        round. Raises `BenchError` where nothing ran at all.
        """
        if self._open and not self._running:
            raise BenchError(f"Ray Tune started none of {len(self._open)} trials: {why}")
        for index in sorted(self._open):
            if index in self._running:
                self._end(index, self._lost(index, f"Ray Tune stopped: {why}"))
            else:
                self.again.append(self._works[index])
        self._open.clear()

    def _lost(self, index: int, text: str, wrote: str = "") -> Outcome:
        """The Ray worker itself is gone: it was killed, Ray's memory monitor ended it, or its machine is lost."""
        log, epoch = "\n".join([*text.splitlines()[-_LOG_LINES:], *wrote.splitlines()]), self._epochs.get(index, 0)
        if "OutOfMemory" in text:
            facts = {"out_of": "host memory"}
            return Outcome(
                status=Status.OUT_OF_MEMORY,
                reason="Ray ended it: its node was out of memory",
                log=log,
                epoch=epoch,
                provenance=facts,
            )
        return Outcome(
            status=Status.KILLED,
            reason="the Ray worker that ran it was lost"
            + (f"; it last wrote: {wrote.splitlines()[-1]}" if wrote else ""),
            log=log,
            epoch=epoch,
            provenance={"ended_by": LOST},
        )

    def _end(self, index: int, outcome: Outcome) -> None:
        if index not in self._open:
            return
        self._open.discard(index)
        self._running.add(index)
        work = self._works[index]
        need = next_need(outcome, work.past, work.need, self._nodes)
        if need is not None:
            self.again.append(Work(work.item, need, (*work.past, outcome)))
            how = (
                ""
                if need == work.need
                else ", alone on its device"
                if need["GPU"] != work.need["GPU"]
                else ", alone on its machine"
            )
            self._events.again(work.item, f"{outcome.status.value} ({outcome.reason}); it is tried again{how}")
            return
        try:
            self._events.done(work.item, closed(outcome, work.past))
        except BaseException as error:
            self.failure = error
            raise
