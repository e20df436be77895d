"""SIGKILL of every kind of process that a run consists of, and two runs at once of different code: no stored row is
lost, changed or doubled, and nothing stays behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from normbench.store.verify import verify

from tests.runner.test_faults import Running, left_behind, place, started
from tests.test_cli import Place

__all__ = ["place", "started"]
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.faults

#: Of two methods, one of which waits in its second epoch until each kind has been struck.
SEEDS, EPOCHS = 4, 20
#: What a run on one machine consists of, as `kind` names it: the command, its processes, those of Ray.
KINDS = {"driver", "bench-server", "bench-guard", "bench-trial"} | {
    *("raylet", "gcs_server", "ImplicitFunc", "DashboardAgent", "RuntimeEnvAgent"),
    *("dashboard", "monitor", "log_monitor"),
}
#: Those that a run cannot do without: it ends, and the same command goes on. The others cost a try, or nothing.
ENDS = {"driver", "raylet", "gcs_server", "DashboardAgent", "RuntimeEnvAgent"}


def kind(process: psutil.Process) -> str:
    """`ImplicitFunc` for Ray's worker of that name, the script that a Python runs, or the name of the program."""
    with contextlib.suppress(psutil.Error, IndexError):
        line = [word for word in process.cmdline() if word]
        if found := re.match(r"ray::(\w+)", line[0]):
            return found[1]
        scripts = [Path(word).stem for word in line[1:3] if word.endswith(".py")]
        return scripts[0] if scripts else str(process.name())
    return ""


def kinds(run: Running) -> dict[str, psutil.Process]:
    """One process of each kind."""
    found = {kind(process): process for process in run.family()}
    return found | {"driver": psutil.Process(run.process.pid)}


def shards(place: Place) -> dict[str, bytes]:
    """The files of good rows."""
    good = {row["trial_id"] for row in place.store.rows() if row["status"] == "ok"}
    return {path.stem: path.read_bytes() for path in place.store.root.glob("*/*.parquet") if path.stem in good}


@pytest.mark.timeout(1200)
def test_sigkill_of_every_kind_of_process_loses_nothing(place: Place, started: Callable[..., Running]) -> None:
    """One kind after the other while a trial runs; where that ends the run, the same command goes on."""
    place.environment["NORMBENCH_CHECKPOINT_SECONDS"] = "0"
    all_struck = place.root / "all_struck"
    waiting = f"'saboteur[how=none,until={all_struck}]'"  # from each of its checkpoints it goes on for an epoch
    place.suite(norms=f"bn, {waiting}", seeds=SEEDS, epochs=EPOCHS, time="1h")
    plain = place.run_arguments()
    struck: dict[str, str] = {}
    stored: dict[str, bytes] = {}
    runs: list[Running] = []
    code: int | None = None
    while code != 0:
        again = ["--retry"] if any(row["status"] != "ok" for row in place.store.rows()) else []
        place.run_arguments = lambda again=again: [*plain, *again]  # type: ignore[method-assign]
        run, family, before = started(), list[psutil.Process](), set(struck)
        runs.append(run)
        while run.process.poll() is None:
            found = kinds(run) if run.trials() else {}
            family += [p for p in run.family() if p not in family]
            left = sorted((n for n in found if n and n not in struck), key=lambda name: (name not in ENDS, name))
            if struck.keys() >= KINDS:
                all_struck.touch()
            if not left:
                time.sleep(0.1)
                continue
            found[left[0]].kill()
            if left[0] == "driver":
                run.process.wait()  # psutil would take its end from `Popen`, which then says 0
            else:
                psutil.wait_procs([found[left[0]]], timeout=30)
            deadline = time.monotonic() + (30 if left[0] in ENDS else 1)
            while run.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            struck[left[0]] = "goes on" if run.process.poll() is None else f"ends with {run.process.returncode}"
        code = run.end()
        assert code in {0, 1, 3, -signal.SIGKILL}, "".join(run.lines)
        assert "Traceback" not in "".join(run.lines)
        ended = any(struck[name].startswith("ends") for name in struck.keys() - before)
        assert ended == any("what had finished is stored" in line for line in run.lines), "".join(run.lines)
        assert not psutil.wait_procs(family, timeout=60)[1], struck
        if "bench-server" in before or "bench-server" not in struck:  # it removes what a killed driver leaves
            assert left_behind(run, family) == [], struck
        now = shards(place)
        assert stored.items() <= now.items(), struck
        stored = now
    print(struck)
    assert struck.keys() >= KINDS
    assert [left for run in runs for left in left_behind(run, [])] == [], "a run removes what dead ones have left"
    assert len(stored) == len(list(place.store.rows())) == 2 * SEEDS
    assert verify(place.store) == (2 * SEEDS, [])


@pytest.mark.timeout(1200)
def test_two_runs_at_once_with_different_code(place: Place, started: Callable[..., Running], tmp_path: Path) -> None:
    """What both have in common is run once, by one of them. What differs each runs for itself; the row of the
    one that stored it last stays, and the other one's plan says that it is of other code.
    """
    place.suite(norms="bn, gn", seeds=1, epochs=2)
    other = tmp_path / "other"
    for folder in ("benchmark/normbench", "site/templates", "site/assets", "suites"):
        shutil.copytree(ROOT / folder, other / folder)
    (other / "pyproject.toml").touch()
    changed = other / "benchmark" / "normbench" / "norms" / "gn.py"
    changed.write_text(changed.read_text() + "\n\nCHANGED = True\n")
    path = place.environment["PYTHONPATH"]
    runs = [started(), started(PYTHONPATH=os.pathsep.join([str(other / "benchmark"), path]))]
    for run in runs:
        assert run.end() == 0, "".join(run.lines)
        assert left_behind(run, []) == []
    stored = Counter(
        found[1] for run in runs for line in run.lines if (found := re.match(r"\[\d+/\d+\] .*?\b(bn|gn)\b", line))
    )
    assert stored == {"bn": 1, "gn": 2}, ["".join(run.lines) for run in runs]
    assert verify(place.store) == (2, [])
    assert [row["status"] for row in place.store.rows()] == ["ok"] * 2
    plans = [place.plan()]
    place.environment["PYTHONPATH"] = os.pathsep.join([str(other / "benchmark"), path])
    plans.append(place.plan())
    for plan in plans:
        assert plan["cached"] + plan["stale"] == 2
        assert plan["missing"] == 0
    assert sum(plan["stale"] for plan in plans) == 1, "that of gn, for the one that stored it first"
