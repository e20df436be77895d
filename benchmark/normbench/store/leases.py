"""Who works on which trials: claims of processes that write to one results folder, on any filesystem.

A claim is a small file in a suite's folder, `.claim-<process>.json`: whose it is, the trials that it is about, and a
beat that its owner raises every few seconds. It needs neither locks nor clocks that agree: only that a file appears
whole and that a listing shows what was written before it.

Taking trials is a two-step protocol. A process writes that it *wants* them, then lists the others. Whoever *holds* a
trial keeps it. Of two that want the same and see each other, the one whose name sorts later withdraws; the other waits
until it has. So of two processes at least one sees the other, and no trial is held twice. A claim whose process is
gone, or which has not moved for a minute, is void. Claims save work and order deletions; that a row is whole never
depends on them, since each file is replaced in one step.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Literal

from normbench.errors import BenchError
from normbench.store.files import Files

#: Seconds between beats, and without one until a claim is void.
BEAT = 10.0
SILENCE = 60.0
#: Seconds by the clock after which a claim is void at once, without watching it; far above what clocks of two machines
#: differ by.
ABANDONED = 3600.0
#: Instead of trials: the whole suite.
ALL = "*"

_NAME = re.compile(r"\.claim-[0-9a-f]{32}\.json")
_POLL = 0.1


class ClaimError(BenchError):
    """Another process works on the same results; the message says which."""


@dataclass(frozen=True)
class Claim:
    """What a process says of itself."""

    owner: str
    purpose: str
    machine: str
    host: str
    pid: int
    phase: Literal["wants", "holds"]
    beat: int
    time: float
    trials: tuple[str, ...]

    def covers(self, trial_ids: Iterable[str]) -> bool:
        """Does it speak of any of these trials?"""
        wanted = set(trial_ids)
        return bool(
            self.trials and wanted and (ALL in self.trials or ALL in wanted or not wanted.isdisjoint(self.trials))
        )

    def __str__(self) -> str:
        return f"{self.purpose} (process {self.pid} on {self.host})"


class Claims:
    """The claims of a suite's folder, and this process's own among them, which ends with the `with` block."""

    def __init__(self, files: Files, suite: str, purpose: str) -> None:
        self._files, self._suite = files, suite
        self._own = Claim(uuid.uuid4().hex, purpose, machine(), platform.node(), os.getpid(), "wants", 0, 0.0, ())
        self._seen: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._beats = threading.Thread(target=self._keep_beating, daemon=True)

    def __enter__(self) -> Claims:
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._beats.join()
        with contextlib.suppress(OSError):
            self._files.remove(self._file(self._own.owner))

    def take(self, trial_ids: Iterable[str]) -> tuple[set[str], list[Claim]]:
        """Hold those of the trials that nobody else holds. Returns them, and the claims on the others. Raises
        `ClaimError` where nothing can be written.
        """
        wanted = tuple(trial_ids)
        self._say("wants", wanted)
        while rivals := self._wanting(wanted):
            if any(r.owner < self._own.owner for r in rivals):
                self._say("wants", ())
                while self._wanting(wanted):
                    time.sleep(_POLL * random.uniform(0.5, 1))  # noqa: S311
                self._say("wants", wanted)
            else:
                time.sleep(_POLL)
        others = [c for c in self.others() if c.covers(wanted)]
        held = {t for c in others for t in c.trials}
        mine = set() if ALL in held or (others and ALL in wanted) else set(wanted) - held
        self._say("holds", tuple(t for t in wanted if t in mine))
        return mine, others

    def hold(self, trial_ids: Iterable[str]) -> None:
        """Hold all of the trials. Raises `ClaimError` where another process has one."""
        _, others = self.take(trial_ids)
        if others:
            raise ClaimError(f"{others[0]} is at work on {self._files.where(self._suite)}: try again when it has ended")

    def others(self) -> list[Claim]:
        """Living claims of other processes. A dead one is removed."""
        living = []
        for entry in self._files.list(self._suite):
            if not _NAME.fullmatch(entry.name) or entry.name == self._file(self._own.owner).rpartition("/")[2]:
                continue
            claim = self._read(entry.name)
            if claim is None:
                continue
            if self._lives(claim):
                living.append(claim)
            else:
                with contextlib.suppress(OSError):
                    self._files.remove(f"{self._suite}/{entry.name}")
        return living

    def wait(self, claims: Iterable[Claim], until: Callable[[], bool]) -> None:
        """Return when one of these claims has ended or says something else, or when `until` does."""
        before = {(c.owner, c.trials) for c in claims}
        while before <= {(c.owner, c.trials) for c in self.others()} and not until():
            time.sleep(1.0)

    def _wanting(self, trial_ids: tuple[str, ...]) -> list[Claim]:
        return [c for c in self.others() if c.phase == "wants" and c.covers(trial_ids)]

    def _read(self, name: str) -> Claim | None:
        try:
            found = json.loads(self._files.read(f"{self._suite}/{name}"))
            return Claim(**(found | {"trials": tuple(found["trials"])}))
        except (OSError, ValueError, TypeError, KeyError):
            return None  # it has just ended, or is no claim of ours

    def _lives(self, claim: Claim) -> bool:
        if claim.machine == self._own.machine and not _runs(claim.pid):
            return False
        if time.time() - claim.time > ABANDONED:
            return False
        beat, since = self._seen.get(claim.owner, (-1, 0.0))
        if claim.beat != beat:
            self._seen[claim.owner] = (claim.beat, time.monotonic())
            return True
        return time.monotonic() - since < SILENCE

    def _say(self, phase: Literal["wants", "holds"], trial_ids: tuple[str, ...]) -> None:
        try:
            with self._lock:
                self._own = replace(self._own, phase=phase, trials=trial_ids)
                self._write()
        except OSError as error:
            raise ClaimError(
                f"cannot write to the results folder {self._files.where(self._suite)}: {error.strerror or error}"
            ) from error

    def _write(self) -> None:
        self._own = replace(self._own, beat=self._own.beat + 1, time=time.time())
        self._files.write(self._file(self._own.owner), json.dumps(asdict(self._own)).encode())

    def _keep_beating(self) -> None:
        while not self._end.wait(BEAT):
            with self._lock, contextlib.suppress(OSError):  # a full disk is met where a result is written
                if self._own.beat:
                    self._write()

    def _file(self, owner: str) -> str:
        return f"{self._suite}/.claim-{owner}.json"


@cache
def machine() -> str:
    """This machine and its namespace of process ids, so that a process id means something."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return " ".join(parts)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
