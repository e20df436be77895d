"""Broken input over all commands that take it: suites, results, datasets, argument lists.

    python -m tests.fuzz.harness --log FOLDER      # the full size; goes on where it was broken off with the same code
    python -m tests.fuzz.harness --share 0.01      # a hundredth of it

A case is made from its number alone. Each command runs in a fork of this process, which has all modules loaded. A case
is bad if a command ends with a traceback, by a signal, with an exit code that no command has, after more than
`SECONDS` of processor time, or having taken more than `MEMORY` bytes.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import normbench
import typer.main
from normbench.cli.main import app
from normbench.paths import shipped
from PIL import Image

from tests.command import IMPORTED
from tests.fuzz.cases import MAKERS

#: Of processor time that a command may take, and bytes of memory beyond those of this process.
SECONDS, MEMORY = 5.0, 10**9
#: After so many seconds by the clock a command counts as hanging.
HANGS = 600.0
#: How many cases there are. A case of shards holds twenty of them.
SIZES = {"suites": 3000, "shards": 100, "datasets": 500, "arguments": 300}
EXIT_CODES = {0, 1, 2}


@dataclass(frozen=True)
class Found:
    """What a command did with a case. `bad`: what it must not do, empty where it did nothing of that."""

    kind: str
    number: int
    command: str
    code: int
    seconds: float
    memory: int
    bad: str = ""


@dataclass(frozen=True)
class Bench:
    """Where cases are made and run. `data`: a folder with the dataset `stripes`. `rows`: good rows of two trials."""

    folder: Path
    data: Path
    rows: tuple[dict[str, Any], ...]

    def cases(self, kind: str, number: int) -> Iterator[Found]:
        """Make a case and run its commands, one after the other."""
        place = self.folder / f"{kind}-{number}"
        place.mkdir()
        draw = random.Random(f"{kind} {number}")  # the same in every version of Python
        try:
            for command in MAKERS[kind](self.rows, draw, place):
                yield run(kind, number, command, place, self.data)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def run(kind: str, number: int, command: list[str], place: Path, data: Path) -> Found:
    """Run `bench` with these arguments in a fork, in the folder `place`."""
    out = place / ".said"
    before = _resident()
    child = os.fork()
    if not child:
        _become(command, place, data, out)
    deadline = time.monotonic() + HANGS
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    seconds, memory = used.ru_utime + used.ru_stime, max(0, used.ru_maxrss * 1024 - before)
    said = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
    trains = command[:2] == ["results", "check"]
    told = {
        "hangs": code == -signal.SIGKILL and time.monotonic() > deadline,
        f"ended by signal {-code}": code < 0,
        "traceback: " + " | ".join(said.strip().splitlines()[-3:])[:500]: "Traceback (most recent call last)" in said,
        f"exit code {code}": code not in EXIT_CODES,
        f"{seconds:.1f} s": seconds > SECONDS and not trains,
        f"{memory / 1e9:.1f} GB": memory > MEMORY and not trains,
    }
    bad = "; ".join(text for text, holds in told.items() if holds)
    return Found(kind, number, " ".join(command)[:200], code, round(seconds, 3), memory, bad)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _become(command: list[str], place: Path, data: Path, out: Path) -> None:
    """This process runs the command and ends."""
    code: object = 1
    try:
        told = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(told, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(place)
        os.environ |= {"BENCH_DATA": str(data), "BENCH_RESULTS": str(place / "r")}
        sys.stdout, sys.stderr = (io.TextIOWrapper(open(n, "wb", 0, closefd=False), encoding="utf-8") for n in (1, 2))  # noqa: SIM115
        if command[:1] == ["decode"]:
            _decode(command[1])
            code = 0
        else:
            from normbench.cli.main import main

            sys.argv = ["bench", *command]
            main()
            code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) or end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 0)


def _decode(path: str) -> None:
    """What a run does with a dataset before it trains."""
    from normbench.errors import BenchError
    from normbench.lab import data
    from normbench.spec.trial import DataSpec

    try:
        spec = DataSpec(dataset=path)
        source = data.locate(spec, None, download=False)
        if source is not None:
            data.load(spec, source, data.fingerprint(source))
    except BenchError as error:
        print(f"bench: {error}")


def every(share: float) -> Iterator[tuple[str, int]]:
    """The numbers of the cases of a share of the full size, all kinds in turn."""
    sizes = {kind: max(1, round(size * share)) for kind, size in SIZES.items()}
    cases = [(number / size, kind, number) for kind, size in sizes.items() for number in range(size)]
    yield from ((kind, number) for _, kind, number in sorted(cases))


def loaded() -> None:
    """Import what the commands import, and read what they read each time, once for all of them."""
    for name in IMPORTED:
        if name not in {
            "normbench.lab.network",
            "normbench.norms.check",
            "normbench.lab.trial_run",
        }:  # these load torch
            importlib.import_module(name)
    importlib.import_module("normbench.runner.session")
    Image.init()
    typer.main.get_command = cache(typer.main.get_command)  # it takes longer than most cases
    typer.main.get_command(app)
    from normbench.plan.identity import identity
    from normbench.suite import expand, load

    for path in shipped("suites").glob("*.yaml"):
        for trial in expand(load(path))[:50]:
            identity(trial, None)
    gc.collect()
    gc.freeze()


def code() -> str:
    """A digest of the package and of what makes the cases."""
    files = sorted([*Path(normbench.__file__).parent.rglob("*.py"), *Path(__file__).parent.glob("*.py")])
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


def main() -> None:
    """Run a share of all cases, and say what was found."""
    from normbench.runner import spawn

    from tests.fuzz.made import bench_in

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--log", type=Path, help="folder for what this code does, a line a command; cases there are not run again"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the full size")
    parser.add_argument("--kind", choices=SIZES, help="of these cases alone")
    chosen = parser.parse_args()
    log = chosen.log / f"{code()}.jsonl" if chosen.log else None
    known = [json.loads(line) for line in log.open(encoding="utf-8")] if log and log.exists() else []
    done = {(k["kind"], k["number"]) for k in known if k["command"] == ""}
    found = [Found(**k) for k in known if k["command"]]
    waiting = [c for c in every(chosen.share) if c not in done and chosen.kind in (None, c[0])]
    loaded()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, spawn.running() as variables:
        os.environ |= variables | {"BENCH_CACHE": f"{folder}/cache"}
        bench = bench_in(Path(folder))
        began = time.monotonic()
        for count, (kind, number) in enumerate(waiting, 1):
            new = list(bench.cases(kind, number))
            found += new
            if log:
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a", encoding="utf-8") as file:
                    for each in (*new, Found(kind, number, "", 0, 0.0, 0)):
                        file.write(json.dumps(asdict(each)) + "\n")
            if count % 25 == 0 or any(f.bad for f in new):
                rate = (time.monotonic() - began) / count
                bad = sum(bool(f.bad) for f in found)
                print(
                    f"{count}/{len(waiting)} {kind} {rate:.2f} s a case, {bad} bad of {len(found)} commands", flush=True
                )
            for each in new:
                if each.bad:
                    print(f"  BAD {each.kind} {each.number}: bench {each.command}: {each.bad}", flush=True)
    for kind in SIZES:
        own = [f for f in found if f.kind == kind]
        ends = dict(sorted(Counter(f.code for f in own).items()))
        bad, cases = sum(bool(f.bad) for f in own), len({f.number for f in own})
        slowest = max((f.seconds for f in own), default=0.0)
        largest = max((f.memory for f in own), default=0) / 1e6
        print(
            f"{kind}: {cases} cases, {len(own)} commands, exit codes {ends}, {bad} bad, at most {slowest:.1f} s, "
            f"{largest:.0f} MB"
        )
    sys.exit(any(f.bad for f in found))


if __name__ == "__main__":
    main()
