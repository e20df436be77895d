"""Who works on which trials: leases of processes that write to one results folder, on any filesystem.

A lease is a small file in a suite's folder that says whose it is: `.lease-<trial>`, or `.lease-suite` for the whole
suite. It is created only where it is absent, so one process has it. Beside its leases a process keeps
`.lease-<process>`, which it writes again every few seconds: its beat.

A lease is void when its process is gone. A process of another machine counts as gone when its beat has not moved for a
minute. To remove a void lease, a process first creates `<lease>-<its owner>`; so nobody removes a lease that another
process has created in its place meanwhile. Leases save work, and order deletions. Rows are whole without them, since
each file is replaced in one step.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field

from normbench.errors import BenchError
from normbench.store.files import POLL, Entry, Files, LinkError, each

#: Seconds between beats, and seconds without a beat after which the leases of another machine's process are void.
BEAT = 10.0
SILENCE = 60.0
#: If the last beat is older than so many seconds, they are void at once, without watching. Clocks of two machines
#: differ by far less.
ABANDONED = 3600.0
#: The key of a lease on the whole suite, in place of a trial's id.
ALL = "suite"
PREFIX = ".lease-"

_NAME = re.compile(r"\.lease-[0-9a-z-]+")
_KEY = re.compile(r"[0-9a-f]{16}|suite")


class LeaseError(BenchError):
    """Another process works on the same results; the message says which."""


class Lease(BaseModel, frozen=True):
    """A process works on `key`: a trial, or the whole suite. `started` tells the process from a later one with its
    number.
    """

    key: str = ""
    owner: str = Field("", pattern="^[0-9a-f]{32}$")
    purpose: str = "a process that does not say what it does"
    machine: str = ""
    host: str = "an unknown machine"
    pid: int = Field(0, ge=0, lt=2**31)
    started: str = ""

    def __str__(self) -> str:
        return f"{self.purpose} (process {self.pid} on {self.host})"


class Leases(contextlib.AbstractContextManager["Leases"]):
    """The leases in a suite's folder, and this process's own among them, which end with the `with` block."""

    def __init__(self, files: Files, suite: str, purpose: str) -> None:
        me, pid = uuid.uuid4().hex, os.getpid()
        self._own = Lease(
            owner=me, purpose=purpose, machine=machine(), host=platform.node(), pid=pid, started=_started(pid) or ""
        )
        self._files, self._suite, self._content = files, suite, self._own.model_dump_json().encode()
        self._held: set[str] = set()
        self._known: dict[Entry, Lease] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        self._end = threading.Event()
        self._beats = threading.Thread(target=self._keep_beating, daemon=True)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._beats.is_alive():
            self._beats.join()
        with contextlib.suppress(OSError):
            self._release(self._held)
        with contextlib.suppress(OSError):
            self._files.remove(self._file(self._own.owner))

    def take(self, trial_ids: Iterable[str]) -> tuple[set[str], list[Lease]]:
        """Take a lease on each trial that nobody else holds. Returns these trials, and the leases of others on the
        rest. Raises `LeaseError` where nothing can be written.
        """
        try:
            if not self._beats.is_alive():
                self._beat()
                self._beats.start()
            return self._take(set(trial_ids))
        except OSError as error:
            raise LeaseError(
                f"cannot write to the results folder {self._files.where(self._suite)}: {error.strerror or error}"
            ) from error

    def _take(self, wanted: set[str]) -> tuple[set[str], list[Lease]]:
        self._release(self._held - wanted)
        while True:  # look again after each creation: it shows who holds the suite, or trials of it
            others = [o for o in self.others() if ALL in wanted or o.key in wanted | {ALL}]
            theirs = {o.key for o in others}
            if ALL in theirs or (others and ALL in wanted):
                self._release(self._held)
                return set(), others
            self._held -= theirs
            missing = wanted - self._held - theirs
            if not missing:
                return set(self._held), others
            self._held |= missing  # noted before they are created: what an error leaves is released too
            made = self._files.create(self._suite, [PREFIX + key for key in sorted(missing)], self._content)
            self._held -= {key for key in missing if PREFIX + key not in made}
            if len(made) < len(missing):
                time.sleep(POLL)

    def hold(self, trial_ids: Iterable[str]) -> None:
        """Hold all of the trials. Raises `LeaseError` where another process has one."""
        _, others = self.take(trial_ids)
        if others:
            raise LeaseError(f"{others[0]} is at work on {self._files.where(self._suite)}: try again when it has ended")

    def others(self) -> list[Lease]:
        """Living leases of other processes on trials or the suite. Void ones are removed."""
        living, void = self._look()
        living += [lease for lease in void if not self._remove(lease)]
        return [lease for lease in living if _KEY.fullmatch(lease.key)]

    def living(self) -> set[str]:
        """Keys of the leases of other processes that live: trials that they run, or `ALL`."""
        return {lease.key for lease in self._look()[0] if _KEY.fullmatch(lease.key)}

    def void(self) -> list[str]:
        """The files of leases whose process is gone."""
        return [self._file(lease.key) for lease in self._look()[1]]

    def wait(self, leases: Iterable[Lease], until: Callable[[], bool]) -> None:
        """Return when one of these leases has ended, or when `until` says so."""
        before = set(leases)
        while before <= set(self.others()) and not until():
            time.sleep(1.0)

    def _look(self) -> tuple[list[Lease], list[Lease]]:
        """Leases of other processes, living and void. One that guards a removal comes before what it guards."""
        entries = [e for e in reversed(self._files.list(self._suite)) if _NAME.fullmatch(e.name)]
        found = dict(zip(entries, each(lambda e: self._known.get(e) or self._read(e.name), entries), strict=True))
        self._known = {e: lease for e, lease in found.items() if lease and lease.owner}
        changed = {e.name: e.modified for e in entries}
        sides: tuple[list[Lease], list[Lease]] = ([], [])
        for entry, lease in found.items():
            if lease and lease.owner != self._own.owner:
                sides[not self._lives(lease, changed.get(PREFIX + lease.owner, entry.modified))].append(lease)
        return sides

    def _read(self, name: str) -> Lease | None:
        """The lease that a file holds, if the file is there. An empty file is a lease too: its owner may be about to
        write.
        """
        key = {"key": name.removeprefix(PREFIX)}
        try:
            return Lease.model_validate_json(self._files.read(f"{self._suite}/{name}")).model_copy(update=key)
        except FileNotFoundError:
            return None
        except (ValueError, LinkError, IsADirectoryError):
            return Lease(**key)

    def _lives(self, lease: Lease, beat: float) -> bool:
        if lease.machine == self._own.machine:
            return _started(lease.pid) in {"", lease.started}
        who = lease.owner or lease.key
        if who not in self._seen or self._seen[who][0] != beat:
            self._seen[who] = (beat, time.monotonic())
        return time.time() - beat < ABANDONED and time.monotonic() - self._seen[who][1] < SILENCE

    def _remove(self, lease: Lease) -> bool:
        """Remove a void lease, unless another process is about to."""
        guard = f"{lease.key}-{lease.owner}"
        if not self._files.create(self._suite, [PREFIX + guard], self._content):
            return False
        self._drop(lease)
        self._files.remove(self._file(guard))
        return True

    def _release(self, keys: set[str]) -> None:
        each(self._drop, [self._own.model_copy(update={"key": key}) for key in keys])
        self._held -= keys

    def _drop(self, lease: Lease) -> None:
        if self._read(PREFIX + lease.key) == lease:  # by now it may be the lease of another process
            self._files.remove(self._file(lease.key))

    def _beat(self) -> None:
        self._files.write(self._file(self._own.owner), self._content)

    def _keep_beating(self) -> None:
        while not self._end.wait(BEAT):
            with contextlib.suppress(OSError):  # a full disk is met where a result is written
                self._beat()

    def _file(self, key: str) -> str:
        return f"{self._suite}/{PREFIX}{key}"


@cache
def machine() -> str:
    """This machine and its namespace of process ids, so that a process id means something."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process of this machine began. The kernel counts from its own start, so setting the clock changes nothing.
    None where there is no such process; an empty text where the system does not say when it began.
    """
    try:
        os.kill(pid, 0)
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return None if state in {"Z", "X"} else fields[18]
