"""Ray: on this machine, closed to others, or on a cluster, whose nodes are checked before anything runs on them.

On this machine, everything that Ray opens listens on loopback alone, and its files lie where no other user comes. Here
and on a cluster, connections carry a token (see `normbench.runner.token`). Usage statistics are off. The code of this
package and of every plug-in package travels to the nodes. Libraries do not: a node with other versions is refused,
since versions decide numbers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

import normbench
from normbench.errors import BenchError
from normbench.lab import data as datasets
from normbench.paths import cache_dir
from normbench.plan.identity import library_versions
from normbench.plan.plan import Item
from normbench.runner.alive import RayLostError
from normbench.runner.folder import RAY, end_those_in, scratch
from normbench.runner.patience import patient
from normbench.runner.retry import Need, fits
from normbench.runner.token import new_token, read_again
from normbench.spec.trial import DataSpec, Limits

#: Set before Ray is imported, and on the nodes of a cluster. `RAY_memory_monitor_refresh_ms`: Ray's own monitor would
#: end the whole run, whereas the kernel ends one process.
SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}
#: The first makes a local Ray listen on loopback only, and refuse further nodes. The second: Ray would start a worker a
#: core, which Tune does not use, because Tune's workers have their own environment.
LOCAL_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_prestart_worker_first_driver": "0",
    # Seconds for the start of Ray's head. Who joins a cluster would try for as long where the token is wrong.
    "RAY_gcs_server_port_wait_time_s": "300",
}
#: Even without usage statistics, Ray asks the metadata services of three clouds by HTTP whether it runs there
#: (`get_cloud_from_metadata_requests`, 2.60). Ray's processes get a proxy that does not exist, so that no question
#: leaves this machine.
NOBODY_TO_ASK = {"HTTP_PROXY": "http://127.0.0.1:9"}
#: `RAY_OVERRIDE_JOB_RUNTIME_ENV`: the code that is shipped counts even if `ray job submit` brought other code.
CLUSTER_SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}
#: Seconds that a cluster's address has to answer; Ray itself would try for minutes.
REACH_LIMIT = 10.0
#: How often Ray is started on this machine before a run gives up.
START_TRIES = 3
#: The variable by which Ray's workers know the run's working directory. They start in an empty one: Ray puts the
#: directory that it was started in first on their path, and a user's own `numpy.py` may lie there.
FOLDER = "NORMBENCH_FOLDER"
Note = Callable[[str], None]
_GROUPS = ("normbench.norms", "normbench.attacks", "normbench.measures", "normbench.statistics")


class ClusterError(BenchError):
    """A cluster cannot be reached, or one of its nodes cannot run trials; the message says which and what to do."""


class ResourceError(BenchError):
    """A trial asks for more than any machine offers; the message says what it asks for and what there is."""


@dataclass(frozen=True)
class Cluster:
    """A connected Ray. `packs`: decoded datasets in its object store, by the folder's name, for nodes that lack
    them.
    """

    ray: Any
    nodes: tuple[Need, ...]
    """The resources of each living node, used ones included."""
    client: bool
    """Connected through Ray's client (`ray://`): this process is no part of the cluster."""
    packs: dict[str, list[Any]] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """The parts of Ray that must answer as long as trials run: name, host and port. None through Ray's client, which
    raises by itself where its server is lost.
    """


class Connection(contextlib.AbstractContextManager["Connection"]):
    """Ray for a whole run. It starts when the first trial needs it, and ends with the run.

    folder: the run's. address, variables: see `connected`. note: called with a message when a start takes too long.
    """

    def __init__(
        self,
        folder: Path,
        address: str | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
        note: Note = lambda _: None,
    ) -> None:
        self.folder, self.address, self._variables, self._note = folder, address, variables, note
        self._open = contextlib.ExitStack()

    @cached_property
    def cluster(self) -> Cluster:
        """Raises `ClusterError`."""
        return self._open.enter_context(connected(self.folder, self.address, self._variables, self._note))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


@contextlib.contextmanager
def connected(folder: Path, address: str | None, variables: Mapping[str, str], note: Note) -> Iterator[Cluster]:
    """Ray on this machine (`address` None; its files are in `folder`, its workers have `variables`) or of the cluster
    at `address`: `auto`, `host:port` or `ray://host:port`.

    Raises `ClusterError`.
    """
    chosen = SETTINGS | (CLUSTER_SETTINGS if address else LOCAL_SETTINGS)
    os.environ.update({k: os.environ.get(k, v) for k, v in chosen.items()})
    if address:
        _reach(address)
    lost, quiet = False, {"logging_level": logging.ERROR, "log_to_driver": False}
    with scratch("code-") as code, contextlib.ExitStack() as after:
        import ray

        after.callback(read_again, required=False)  # the token of this run is no later one's
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            with _own_sigterm():
                if address:
                    read_again(required=False)
                    stage(code)
                    environment = {"working_dir": str(code), "env_vars": {k: os.environ[k] for k in SETTINGS}}
                    ray.init(address, runtime_env=environment, **quiet)
                else:
                    private = {"_node_ip_address": "127.0.0.1", "_temp_dir": str(folder / RAY)}
                    with _environment({**variables, **NOBODY_TO_ASK, **new_token(), FOLDER: str(Path.cwd())}):
                        read_again(required=True)
                        start_here(ray, quiet | private, code, note)
        except KeyboardInterrupt:
            ray.shutdown()
            raise
        except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
            if not address:
                raise
            raise ClusterError(f"--address {address}: {_advice(error)}") from error
        try:
            nodes = tuple(dict(n["Resources"]) for n in ray.nodes() if n["Alive"])
            client = bool(ray.util.client.ray.is_connected())
            yield Cluster(ray, nodes, client, parts={} if client else _parts(ray))
        except RayLostError:
            lost = True
            raise
        finally:
            if not lost:  # else it would wait a minute for the lost part
                ray.shutdown()


def start_here(ray: Any, options: dict[str, Any], place: Path, note: Note) -> None:
    """Start Ray on this machine, its processes in `place`. A start that a busy machine has spoilt is tried again.

    Raises `ClusterError`.
    """
    for attempt in range(1, START_TRIES + 1):
        try:
            # "local": with no address Ray would join whatever cluster someone has started on this machine
            with contextlib.chdir(place), patient(note):
                ray.init("local", include_dashboard=False, configure_logging=False, **options)
        except Exception as error:  # Ray raises a bare Exception there
            ray.shutdown()
            end_those_in(place)
            if "timed out during startup" not in str(error):
                raise
            if attempt == START_TRIES:
                raise ClusterError(
                    f"Ray did not start in {START_TRIES} tries: this machine seems to be overloaded; try again later"
                ) from error
            note(f"Ray has not started, this machine is busy: try {attempt + 1} of {START_TRIES}")
        else:
            return


def _parts(ray: Any) -> dict[str, tuple[str, int]]:
    """See `Cluster.parts`."""
    here = ray.get_runtime_context()
    host, _, port = here.gcs_address.rpartition(":")
    (node,) = (n for n in ray.nodes() if n["NodeID"] == here.get_node_id())
    return {"head": (host, int(port)), "raylet": (node["NodeManagerAddress"], node["NodeManagerPort"])}


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM: `ray.init` replaces it by its own."""
    before, here = signal.getsignal(signal.SIGTERM), threading.current_thread() is threading.main_thread()
    try:
        yield
    except SystemExit:  # what Ray's handler raises
        if here:
            signal.signal(signal.SIGTERM, before)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        if here:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, what this process starts has these variables too."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _reach(address: str) -> None:
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit():
        raise ClusterError(f"--address {address}: expected auto, host:port or ray://host:port")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_LIMIT).close()
    except OSError as error:
        raise ClusterError(
            f"--address {address}: nothing answers there ({error}); is the head node up (ray start --head), and is "
            "the port open?"
        ) from error


def _advice(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ImportError):
        return f"ray:// needs Ray's client: pip install 'normbench[client]' ({text[:120]})"
    return (
        f"cannot join the cluster: {text[:300]}. If it is up, do both have the same token? Set RAY_AUTH_TOKEN to "
        "the cluster's "
        "(ray get-auth-token on its head node), or RAY_AUTH_MODE=disabled for a cluster without one"
    )


def needed(nodes: Sequence[Need], limits: Limits) -> Need:
    """The resources of one trial. Raises `ResourceError` where no node has all of them."""
    gpu = (1.0 if any(n.get("GPU", 0) for n in nodes) else 0.0) if limits.gpu == "auto" else float(limits.gpu)
    need = {"CPU": float(limits.cpu), "GPU": gpu}
    if not any(fits(need, n) for n in nodes):
        offered = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ResourceError(
            f"each trial asks for {need['CPU']:g} CPUs and {need['GPU']:g} GPUs (limits in the suite file), and no "
            f"machine offers both at once: found {offered}"
        )
    return need


def slots(nodes: Sequence[Need], need: Need) -> int:
    """How many trials fit at once."""
    return sum(int(min(n.get(k, 0) // v for k, v in need.items() if v)) for n in nodes)


def stage(folder: Path) -> None:
    """Copy this package, and the plug-in packages installed here, into `folder`, from which nodes import them."""
    _copy(Path(normbench.__file__).parent, folder / "normbench")
    for entry in {e for group in _GROUPS for e in entry_points(group=group)}:
        top = entry.module.partition(".")[0]
        spec = find_spec(top)
        if spec is None or spec.origin is None or (folder / top).exists() or (folder / f"{top}.py").exists():
            continue  # a package that cannot be imported is reported by the trial that wants it
        origin = Path(spec.origin)
        _copy(
            origin.parent if spec.submodule_search_locations else origin,
            folder / (top if spec.submodule_search_locations else origin.name),
        )
        if entry.dist is not None:  # under its own name, so that a copy that is installed on a node is not a second one
            about = folder / f"{entry.dist.name.replace('-', '_')}-{entry.dist.version}.dist-info"
            about.mkdir(exist_ok=True)
            for name in ("METADATA", "entry_points.txt"):
                (about / name).write_text(entry.dist.read_text(name) or "", encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copyfile(source, target)


def prepare(cluster: Cluster, need: Need, items: Sequence[Item], data_dir: Path | None) -> Cluster:
    """Check every node that trials fit on, and put datasets into the object store that one of them lacks. Raises
    `ClusterError`.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    wanted = {datasets.decoded(i.identity.data or "", i.trial.data.image_size).name: i for i in items}
    specs = {
        name: (i.trial.data.model_dump_json(), i.identity.data, i.trial.stage == "final") for name, i in wanted.items()
    }
    look = ray.remote(num_cpus=0, max_retries=2)(examine)
    fit = [n for n in ray.nodes() if n["Alive"] and fits(need, n["Resources"])]
    asked = {
        f"{n['NodeManagerHostname']} ({n['NodeManagerAddress']})": look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)
        ).remote(specs, str(data_dir) if data_dir else None)
        for n in fit
    }
    missing: set[str] = set()
    gone = ""
    for node, reference in asked.items():
        try:
            found = ray.get(reference)
        except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
            raise ClusterError(f"node {node} cannot run this package: {' '.join(str(error).split())[-300:]}") from error
        except (
            ray.exceptions.RayError
        ) as error:  # the node is gone, and the cluster has not noticed yet: nothing will run there
            gone += f"; {node}: {' '.join(str(error).split())[:200]}"
            if gone.count(";") == len(asked):
                raise ClusterError(f"no node answers{gone}") from error
            continue
        if differing := disagreement(found["versions"], library_versions()):
            raise ClusterError(
                f"node {node} has {differing}: these libraries decide numbers, install the same versions on all nodes"
            )
        missing |= set(found["missing"])
    return replace(cluster, packs={name: [ray.put(pack(wanted[name], data_dir))] for name in sorted(missing)})


def examine(specs: Mapping[str, tuple[str, str, bool]], data_dir: str | None) -> dict[str, Any]:
    """On a node: the versions of the libraries, and which of the datasets the node has neither as files nor decoded.

    specs: for each dataset the JSON of its `DataSpec`, its fingerprint, and whether the test split is wanted.
    """
    missing = []
    for name, (text, content, test) in specs.items():
        spec = DataSpec.model_validate_json(text)
        if (datasets.decoded(content, spec.image_size) / "done.json").is_file():
            continue
        try:
            source = datasets.locate(spec, Path(data_dir) if data_dir else None, download=False, test=test)
        except BenchError:
            source = None
        if source is None:
            missing.append(name)
    return {"versions": library_versions(), "missing": missing}


def disagreement(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """`torch 2.10 (here 2.11)`; empty where all versions are the same."""
    return ", ".join(
        f"{name} {there.get(name, 'absent')} (here {here[name]})" for name in here if there.get(name) != here[name]
    )


def pack(item: Item, data_dir: Path | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The decoded dataset of a trial as it travels: arrays by name, and the names of the classes."""
    spec, content = item.trial.data, item.identity.data
    datasets.load(spec, datasets.locate(spec, data_dir, download=True, test=item.trial.stage == "final"), content)
    found, classes = datasets.arrays(datasets.decoded(content or "", spec.image_size))
    return {name: np.array(mapped) for name, mapped in found.items()}, classes


def unpack(name: str, reference: list[Any]) -> None:
    """On a node: fill this machine's cache from the object store, once for all workers of the node."""
    import ray

    with datasets.made_once(cache_dir() / "data" / name) as empty:
        if empty:
            datasets.write(empty, *ray.get(reference[0]))
