"""Processes that serve several trials of one shape, one after the other.

On a GPU a trial's process pays for its start, for the GPU's context, for libraries that load their code and choose
their kernels, and for the compiler's own start, before it computes anything. So it goes on with the next trial of its
shape: the same data, network, norms, batch size, precision and machine. It is ended where the next trial has another
shape, and after any end that is not `ok`.

What a trial computes does not depend on what ran before. Each begins at the state that the process began with:
variables, working directory, random streams, torch's settings. Only its peak memory on a CPU is that of the whole
process.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from normbench.runner import spawn
from normbench.spec.trial import Trial, digest

#: Fields of a trial's context that its process is made for.
_PLACE = ("data_dir", "fingerprint", "device", "threads", "engine")
#: Variables by which Ray gives a worker its GPUs.
_DEVICES = "CUDA_VISIBLE_DEVICES"


def shape_of(trial: Trial, context: dict[str, Any]) -> str:
    """What trials of one process have in common, as a hash."""
    own = trial.model_dump(mode="json", include={"data", "model", "norm", "batch_size"})
    place = {key: context.get(key) for key in _PLACE} | {"devices": os.environ.get(_DEVICES)}
    return digest([own, trial.train.precision, place])


@dataclass
class Served:
    """A process that has served a trial or is about to serve its first."""

    shape: str
    process: spawn.Process
    log: BinaryIO
    since: int = 0
    """Where the log of the present trial begins."""
    reused: bool = False
    keep: bool = False
    """Whether it is to wait for another trial."""

    def end(self) -> None:
        """Nothing that the process has started is alive afterwards."""
        self.process.__exit__(None, None, None)
        self.log.close()


class Idle:
    """The processes of this worker that wait for a trial."""

    def __init__(self) -> None:
        self._waiting: list[Served] = []
        self._changing = threading.Lock()

    def take(self, shape: str) -> Served | None:
        """One that serves this shape, if any. All of other shapes are ended: their memory on the GPU is wanted."""
        with self._changing:
            others = [s for s in self._waiting if s.shape != shape]
            self._waiting = [s for s in self._waiting if s.shape == shape]
            found = self._waiting.pop() if self._waiting else None
        for other in others:
            other.end()
        return found

    def put(self, served: Served) -> None:
        with self._changing:
            self._waiting.append(served)

    def end(self) -> None:
        """End all of them."""
        self.take("")


IDLE = Idle()


@contextmanager
def serving(target: str, argument: Any, shape: str) -> Iterator[Served]:
    """A process that runs `argument`: one that waits for it, or a new one. It is ended afterwards unless `keep` is set.
    Raises `SpawnError`.
    """
    served = IDLE.take(shape)
    if served is not None:
        served.since, served.reused = served.log.seek(0, os.SEEK_END), True
        if not served.process.order(argument):  # it has ended meanwhile
            served.end()
            served = None
    if served is None:
        log: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            served = Served(shape, spawn.start(target, argument, log, serves=True), log)
        except BaseException:
            log.close()
            raise
    served.keep = False
    try:
        yield served
    finally:
        if served.keep:
            IDLE.put(served)
        else:
            served.end()


def in_turn(first: Any, orders: Iterator[str], run: Callable[[Any], None]) -> None:
    """Run `first`, then each order, a line of JSON; each begins with this process as it is now."""
    begin = _state()
    run(first)
    for line in orders:
        begin()
        run(json.loads(line))


def _state() -> Callable[[], None]:
    """A function that brings this process back to its present state."""
    import gc
    import random

    import numpy as np
    import torch

    variables, folder = dict(os.environ), os.getcwd()  # noqa: PTH109
    python, numbers, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype, exact = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    kernels = torch.backends.cudnn.benchmark

    def begin() -> None:
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        os.environ.clear()
        os.environ.update(variables)
        with contextlib.suppress(OSError):
            os.chdir(folder)
        random.setstate(python)
        np.random.set_state(numbers)
        torch.set_rng_state(cpu)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(exact)
        torch.backends.cudnn.benchmark = kernels

    return begin
