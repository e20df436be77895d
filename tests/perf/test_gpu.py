"""`tox -e gpu`: what it asks, what it writes, and that it ends well without a GPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu
import pytest
import torch

ROOT = Path(__file__).parents[2]


def test_without_a_gpu_every_part_is_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "new")])
    gpu.main()
    found = json.loads((tmp_path / "new" / "gpu.json").read_text())
    reason = f"skipped: torch {torch.__version__} finds no GPU (torch.cuda.is_available() is False)"
    assert [(p["part"], p["ended"]) for p in found["parts"]] == [(p.name, reason) for p in gpu.PARTS]
    table = (tmp_path / "new" / "gpu.md").read_text()
    assert capsys.readouterr().out == table
    assert table.count(reason) == len(gpu.PARTS)


def test_eight_minutes_together() -> None:
    assert sum(part.limit for part in gpu.PARTS) <= 480


def test_all_tests_that_need_a_gpu_are_run() -> None:
    marked = [p for p in (ROOT / "tests").rglob("*.py") if re.search(r"mark\.cuda\b", p.read_text(encoding="utf-8"))]
    given = [ROOT / name for name in gpu.TESTS]
    assert all(path.exists() for path in given)
    own = Path(__file__)
    assert [p for p in marked if p != own and not any(p == g or g in p.parents for g in given)] == []


def part(code: str, limit: float = 60.0) -> gpu.Part:
    return gpu.Part("own", ("-c", code), limit)


def test_what_a_part_printed_is_kept_however_it_ends() -> None:
    lines = "import json, sys, time; print(json.dumps({'question': 'q', 'found': 1, 'good': True}), flush=True);"
    ok = gpu.ran(part(lines + "print('7 passed')"))
    assert (ok["ended"], ok["answers"], ok["said"]) == (
        "ok",
        [{"question": "q", "found": 1, "good": True}],
        ["7 passed"],
    )
    failed = gpu.ran(part(lines + "sys.exit('no such thing')"))
    assert (failed["ended"], len(failed["answers"]), failed["said"]) == ("exit code 1", 1, ["no such thing"])
    over = gpu.ran(part(lines + "time.sleep(600)", limit=5.0))
    assert (over["ended"], len(over["answers"])) == ("ended after 5 s", 1)


def test_the_table_has_a_row_for_each_part_and_answer() -> None:
    bench = {"case": "bn | 128", "ours": 50_000.0, "peer": 12_500.0, "unit": "images/s", "ratio": 4.0}
    parts: list[dict[str, Any]] = [
        {
            "part": "train",
            "ended": "ok",
            "seconds": 3.0,
            "answers": [bench, {"question": "q", "found": [1], "good": False}],
            "said": [],
        }
    ]
    assert gpu.markdown({"torch": "2"}, parts).splitlines() == [
        "torch 2",
        "",
        "| part | what | found | good |",
        "| --- | --- | --- | --- |",
        "| train | 3 s | ok | yes |",
        "| train | bn \\| 128 | 50000 against 12500 images/s: 4.00x |  |",
        "| train | q | [1] | no |",
    ]


def test_what_is_to_be_carried() -> None:
    all_of_it = [line.partition("==")[0] for line in gpu.needs([])]
    assert {"timm", "pydantic-core", "pytest", "foolbox", "eagerpy"} <= set(all_of_it)
    assert not {"torch", "ray", "triton"} & set(all_of_it)
    left = gpu.needs(["timm==1.0.0", "pydantic_core @ file:///somewhere", "", "NumPy>=2"])
    assert set(all_of_it) - {line.partition("==")[0] for line in left} >= {"timm", "pydantic-core", "numpy"}


@pytest.mark.perf
@pytest.mark.timeout(600)
def test_the_questions_run_on_a_cpu() -> None:
    command = [sys.executable, "perf/tools/gpu_questions.py", "--device", "cpu", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(answers) == 6
    assert all(a["good"] is not False for a in answers), answers


@pytest.mark.perf
def test_its_tests_need_no_ray() -> None:
    """They are collected where Ray cannot be imported."""
    code = "import sys; sys.modules['ray'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-m", "cuda", "-q", "-n", "0", "--collect-only", *gpu.TESTS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "test_steps_are_the_eager_ones" in done.stdout
