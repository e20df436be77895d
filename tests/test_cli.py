"""The command as people use it: real runs on a small dataset, interrupted ones, and wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from normbench.store.store import Store
from normbench.store.weights import kept

from tests.command import bench

BENCH = [sys.executable, "-m", "normbench.cli.main"]
INSTALLED = Path(sys.executable).with_name("bench")
SABOTEUR = Path(__file__).parent / "runner" / "saboteur"
#: Like this package, its source folder, a library that every process imports, and a part of the standard library.
MODULES = ("normbench", "benchmark", "numpy", "types", "torch", "ray")

SUITE = """
suite: small
about: A test.
data: {dataset: stripes, image_size: 16, test_examples: 24}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [%s]
batch_sizes: [16]
widths: [0.125]
seeds: %d
train: {epochs: %d, lr: 0.05}
attacks:
  - noise: {std: 0.1}
  - bim: {eps: [1/255, 8/255], steps: 3}
measures: [weight-norm]
limits: {cpu: 1, time: %s}
"""


class Place:
    """A working directory with a suite, results and a site of its own."""

    def __init__(self, root: Path, data_dir: Path) -> None:
        self.root = root
        self.environment = os.environ | {"BENCH_DATA": str(data_dir), "COLUMNS": "200"}
        self.store = Store(root / "results")

    def suite(self, norms: str = "bn, gn", seeds: int = 2, epochs: int = 1, time: str = "5m", more: str = "") -> Path:
        path = self.root / "small.yaml"
        path.write_text(SUITE % (norms, seeds, epochs, time) + more)
        return path

    def bench(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return bench(*arguments, cwd=self.root, **self.environment | settings)

    def run_arguments(self) -> list[str]:
        return ["run", "small.yaml", "--results", "results", "--site", "site"]

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """A run that goes on meanwhile. command: what `bench` is, if not this Python with its module."""
        return subprocess.Popen(
            [*(command or BENCH), *self.run_arguments()],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def plan(self) -> dict[str, Any]:
        answer = self.bench("plan", "small.yaml", "--results", "results", "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture
def place(tmp_path: Path, data_dir: Path) -> Place:
    return Place(tmp_path, data_dir)


def test_one_command_from_suite_to_site_and_nothing_twice(place: Place) -> None:
    """In a folder that holds files of the user's own, called like modules: none of them is imported."""
    if not INSTALLED.is_file():
        pytest.skip("the package is not installed")
    for name in MODULES:
        (place.root / f"{name}.py").write_text("raise ImportError('this is the user\\'s own')\n")
    place.suite(norms="bn, gn", seeds=2, more="keep: weights\nlog: tensorboard\n")
    assert place.plan() | {"trials": None, "weights": None} == {
        "suite": "small",
        "total": 4,
        "cached": 0,
        "stale": 0,
        "missing": 4,
        "estimate_seconds": None,
        "estimates_seconds": {"candidates": 0.0, "final": None},
        "judged_by": {},
        "absent": [],
        "foreseen": [],
        "unlogged": [],
        "impossible": [],
        "waiting": 0,
        "tuning": [],
        "trials": None,
        "weights": None,
    }
    running = place.start(INSTALLED)
    said, _ = running.communicate(timeout=580)
    assert running.returncode == 0, said
    assert "[4/4]" in said
    assert "[dim]" not in said, "what styles a line is no part of its text"
    for temporary in {"/tmp", tempfile.gettempdir()}:
        assert not list(Path(temporary).glob(f"normbench-run-{running.pid}-*")), "nothing stays behind"
        assert not list(Path(temporary).glob(f"ray/session_*_{running.pid}")), "Ray's files are in the run's folder"
    rows = list(place.store.rows())
    assert sorted((r["norm"], r["seed"]) for r in rows) == sorted((n, s) for n in ("bn", "gn") for s in (0, 1))
    assert {r["status"] for r in rows} == {"ok"}
    assert {json.loads(r["provenance"])["normbench"] for r in rows} == {"0.1.0"}
    assert kept(place.store, "small") == {r["trial_id"] for r in rows}
    assert len(list(place.root.glob("runs/small/*/*/events*"))) == 4
    index = place.root / "site" / "index.html"
    assert str(index.name) in said
    assert index.is_file()
    pages = {p.relative_to(place.root / "site").as_posix() for p in (place.root / "site").rglob("*.html")}
    assert {"accuracy.html", "robustness.html", "weight-norm.html"} <= pages
    assert {f"trials/{r['trial_id']}.html" for r in rows} <= pages

    again = place.start(INSTALLED)
    said, _ = again.communicate(timeout=580)
    assert again.returncode == 0, said
    assert "4 cached" in said
    assert "[1/" not in said
    stamps = [r["started"] for r in place.store.rows()]
    assert stamps == [r["started"] for r in rows]

    plan = place.plan()
    assert (plan["cached"], plan["missing"], plan["estimate_seconds"]) == (4, 0, 0)
    board = place.bench("board", "small.yaml", "--results", "results", "--json")
    assert {label for b in json.loads(board.stdout) for label in ("bn", "gn") if label in json.dumps(b)} == {"bn", "gn"}
    shown = place.bench("board", "small.yaml", "--results", "results")
    assert "Accuracy" in shown.stdout
    only = place.bench("plan", "small.yaml", "--results", "results", "--only", "norm=gn", "--only", "seed=0", "--json")
    assert json.loads(only.stdout)["total"] == 1


@pytest.mark.faults
def test_a_broken_trial_costs_itself_and_is_told(place: Place) -> None:
    place.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SABOTEUR), os.environ.get("PYTHONPATH")]))
    place.suite(norms="bn, 'saboteur[how=raise]', 'saboteur[how=segfault]', 'saboteur[how=nan]'", seeds=1)
    first = place.bench(*place.run_arguments())
    assert first.returncode == 1, first.stderr + first.stdout
    states = {r["norm"]: (r["status"], r["reason"]) for r in place.store.rows()}
    assert {n: s for n, (s, _) in states.items()} == {
        "bn": "ok",
        "saboteur": "error",  # `raise` is its default
        "saboteur[how=segfault]": "killed",
        "saboteur[how=nan]": "diverged",
    }
    assert "broken on purpose" in first.stdout
    assert "--retry" in first.stdout
    why = place.bench("status", "small.yaml", "--why", "--results", "results")
    assert "RuntimeError: broken on purpose" in why.stdout
    assert "SIGSEGV" in why.stdout
    plan = {t["title"].partition(" ")[0]: t["state"] for t in place.plan()["trials"]}
    assert plan == {
        "bn": "cached",
        "saboteur": "cached",
        "saboteur[how=segfault]": "missing",
        "saboteur[how=nan]": "cached",
    }


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_an_interrupted_run_goes_on_where_it_was(place: Place, how: signal.Signals) -> None:
    place.suite(norms="bn, gn, ln", seeds=2, epochs=8)
    process = place.start()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("[2/6]"):
            break
    assert lines[-1].startswith("[2/6]"), "".join(lines)
    deadline, ours = time.monotonic() + 60, list[tuple[str, psutil.Process]]()
    while not {"bench-guard", "bench-server", "bench-trial"} <= {
        name for name, _ in ours
    }:  # between two trials there is none
        assert time.monotonic() < deadline
        family = ((_name(p), p) for p in psutil.Process(process.pid).children(recursive=True))
        ours = [(name, p) for name, p in family if name.startswith(("bench-", "ray::Implicit"))]
    process.send_signal(how)
    process.wait(60)
    if how is signal.SIGINT:
        rest = process.stdout.read()
        assert process.returncode == 130, rest
        assert "goes on from here" in rest
    _, alive = psutil.wait_procs([p for _, p in ours], timeout=60)
    assert not alive
    before = {r["trial_id"]: r["started"] for r in place.store.rows()}
    assert 2 <= len(before) < 6
    assert not place.store.problems
    again = place.bench(*place.run_arguments())
    assert again.returncode == 0, again.stderr + again.stdout
    after = {r["trial_id"]: r["started"] for r in place.store.rows()}
    assert len(after) == 6
    assert before.items() <= after.items()
    left = {p.name for p in (place.root / "results" / "small").iterdir()}
    assert left == {f"{trial_id}.parquet" for trial_id in after} | {"suite.json"}


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


@pytest.mark.faults
def test_what_no_machine_offers_is_an_error_at_once(place: Place) -> None:
    path = place.suite()
    path.write_text(path.read_text().replace("cpu: 1", "cpu: 3000, gpu: 2"))
    answer = place.bench(*place.run_arguments())
    assert answer.returncode == 2
    assert "3000 CPUs and 2 GPUs" in answer.stderr
    assert "no machine offers" in answer.stderr
    assert not list(place.store.rows())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "nowhere.yaml"], "nowhere.yaml"),
        (["plan", "digit"], "digits"),
        (["run", "small.yaml", "--only", "nrm=gn"], "did you mean 'norm'"),
        (["run", "small.yaml", "--only", "norm"], "expected key=value"),
        (["plan", "small.yaml", "--only", "norm=xx"], "no trial of the suite has it; norm is bn, gn"),
        (
            ["plan", "small.yaml", "--only", "norm=bn", "--only", "norm=gnn"],
            "--only 'norm=gnn': no trial of the suite has it; did you mean 'gn'?",
        ),
        (["plan", "small.yaml", "--set", "train.epoch=2"], "--set train.epoch=2: train.epoch: unknown key"),
        (["run", "small.yaml", "--log", "wand"], "--log wand: there is no such logger; there are tensorboard, wandb"),
        (["rerun", "0" * 16, "--results", "."], "no trial whose id begins with 0000000000000000"),
        (["rerun", "x"], "'x' is no id of a trial: expected 16 hexadecimal digits"),
        (["results", "release", "one", "--results", "."], "'one' is no version: expected numbers with dots, such as"),
        (["results", "rm", "--results", "."], "say which results: ids of trials, --only KEY=VALUE or --suite SUITE"),
        (["plan", "small.yaml", "--data", "nowhere"], "--data nowhere: there is no such folder"),
        (["plan", "small.yaml", "--results", "small.yaml"], "expected a folder, found a file"),
        (["run", "small.yaml", "--jobs", "0"], "jobs"),
        (["site", "--only", "nosuite", "--results", "."], "no results of suite nosuite"),
        (["walk"], "No such command"),
        (["plan"], "Missing argument"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_two(place: Place, arguments: list[str], message: str) -> None:
    place.suite()
    answer = place.bench(*arguments)
    assert answer.returncode == 2, answer.stdout
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout


def test_lists_and_schema_are_json_on_request(place: Place) -> None:
    norms = json.loads(place.bench("norms", "--json").stdout)
    assert {"bn", "ln", "gn", "in", "none"} <= {n["name"] for n in norms}
    assert all({"family", "equation", "claims", "source", "parameters"} <= set(n) for n in norms)
    assert {a["name"] for a in json.loads(place.bench("attacks", "--json").stdout)} >= {"noise", "bim"}
    assert {m["name"] for m in json.loads(place.bench("measures", "--json").stdout)} >= {"weight-norm"}
    assert json.loads(place.bench("schema").stdout)["properties"]["norms"]
    found = json.loads(place.bench("doctor", "--json").stdout)
    assert found["datasets"]["in data folder"] == ["stripes"]
    without = {"PYTHONDONTWRITEBYTECODE": "1"}
    assert json.loads(place.bench("doctor", "--json", **without).stdout)["bytecode"].startswith("not kept")
    assert found["broken_plugins"] == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["plan", "small.yaml", "--results", "results"],
        ["status", "small.yaml", "--why", "--results", "results"],
        ["site", "--results", "results", "--out", "site"],
    ],
)
def test_what_trains_nothing_never_imports_torch_or_ray(place: Place, arguments: list[str]) -> None:
    place.suite()
    (place.root / "results").mkdir()
    code = f"""
import sys
sys.argv = {["bench", *arguments]!r}
from normbench.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = ['torch', 'timm', 'ray', 'foolbox'] + ['pandas'] * (sys.argv[1] in ('plan', 'status'))
print([m for m in heavy if m in sys.modules])
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=place.root, env=place.environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "[]"
