"""All that is asked of a GPU, in eight minutes: one JSON file and one table in Markdown. `tox -e gpu` runs it.

    python perf/tools/gpu.py [--out DIR] [--only PART ...]
    python perf/tools/gpu.py --needs [HAVE]

Parts: the tests that need a GPU, the questions of `gpu_questions.py`, and the benches `train.py`, `attack.py` and
`packing.py`. Each is a process with a limit of its own; one that fails or runs over costs none of the others, and what
it had printed is kept. Without a GPU every part is skipped, with the reason. Nothing here needs Ray or a network.

`--needs`: the packages that the parts use, `name==version` as they are here, a line each, but for torch and what comes
with it; without those that the file HAVE (`pip freeze` on another machine) lists. See docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: What the parts import. Ray is not among it: what a GPU computes is asked without a cluster.
ROOTS = (
    *("timm", "foolbox", "pyarrow", "numpy", "scipy", "pydantic", "pyyaml", "typer", "rich", "jinja2"),
    *("huggingface_hub", "pillow", "safetensors", "pyautoattack", "psutil"),
    *("pytest", "pytest-xdist", "pytest-timeout", "hypothesis"),
)
#: Comes with a machine that has a GPU, in the build that fits its driver.
WITH_TORCH = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*")


@dataclass(frozen=True)
class Part:
    """A process. limit: seconds that it may take."""

    name: str
    command: tuple[str, ...]
    limit: float


#: Where tests that need a GPU are. Collecting all others would need Ray, a browser and more.
TESTS = ("tests/lab/test_cuda_graph.py", "tests/lab/test_swap.py", "tests/tensors", "tests/api/test_networks.py")
PARTS = (
    Part("tests", ("-m", "pytest", "-m", "cuda", "-q", "-n", "0", "-p", "no:cacheprovider", *TESTS), 140),
    Part("questions", ("perf/tools/gpu_questions.py", "--seconds", "60"), 110),
    Part("train", ("perf/train.py", "--json", "--norms", "bn,gn", "--engines", "eager,graph", "--rounds", "1"), 90),
    Part("attack", ("perf/attack.py", "--json", "--rounds", "1"), 60),
    Part("packing", ("perf/packing.py", "--json", "--smoke", "--device", "cuda"), 80),
)


def lacking() -> str:
    """Why nothing can be asked here; empty where a GPU is."""
    try:
        import torch
    except ImportError as error:
        return f"torch cannot be imported: {error}"
    if torch.cuda.is_available():
        return ""
    return f"torch {torch.__version__} finds no GPU (torch.cuda.is_available() is False)"


def ran(part: Part) -> dict[str, Any]:
    """How a part ended, with what it said."""
    started = time.perf_counter()
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "benchmark"), os.environ.get("PYTHONPATH", "")])
    }
    try:
        done = subprocess.run(
            [sys.executable, *part.command], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=part.limit
        )
        ended = "ok" if done.returncode == 0 else f"exit code {done.returncode}"
        out, err = done.stdout, done.stderr
    except subprocess.TimeoutExpired as over:
        ended = f"ended after {part.limit:g} s"
        out, err = (t.decode(errors="replace") if isinstance(t, bytes) else t or "" for t in (over.stdout, over.stderr))
    answers, said = [], []
    for line in out.splitlines():
        try:
            answers.append(json.loads(line))
        except ValueError:
            said.append(line)
    said += err.splitlines() if ended != "ok" else []
    return {
        "part": part.name,
        "ended": ended,
        "seconds": round(time.perf_counter() - started, 1),
        "answers": [a for a in answers if isinstance(a, dict)],
        "said": said[-20:],
    }


def asked(parts: Iterable[Part], reason: str, run: Callable[[Part], dict[str, Any]] = ran) -> list[dict[str, Any]]:
    """All parts; each is skipped where there is a reason."""
    if reason:
        return [
            {"part": p.name, "ended": f"skipped: {reason}", "seconds": 0.0, "answers": [], "said": []} for p in parts
        ]
    return [run(part) for part in parts]


def machine() -> dict[str, Any]:
    facts: dict[str, Any] = {"python": platform.python_version(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
    try:
        import torch
    except ImportError:
        return facts
    facts |= {"torch": torch.__version__, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    return facts


def markdown(facts: dict[str, Any], parts: list[dict[str, Any]]) -> str:
    """One table: a row a part, then a row an answer."""
    rows = [
        f"{', '.join(f'{k} {v}' for k, v in facts.items())}",
        "",
        "| part | what | found | good |",
        "| --- | --- | --- | --- |",
    ]
    for part in parts:
        good = None if part["ended"].startswith("skipped") else part["ended"] == "ok"
        last = f" {part['said'][-1]}" if part["said"] else ""
        rows.append(_row(part["part"], f"{part['seconds']:g} s", f"{part['ended']}{last}", good))
        for found in part["answers"]:
            if "question" in found:
                rows.append(_row(part["part"], found["question"], json.dumps(found["found"]), found["good"]))
            else:
                text = f"{found['ours']:.6g} against {found['peer']:.6g} {found['unit']}: {found['ratio']:.2f}x"
                rows.append(_row(part["part"], found["case"], text, None))
    return "\n".join(rows) + "\n"


def _row(part: str, what: str, found: str, good: bool | None) -> str:
    mark = {True: "yes", False: "no", None: ""}[good]
    cells = (part, what, found, mark)
    return f"| {' | '.join(' '.join(c.replace('|', chr(92) + '|').split()) for c in cells)} |"


def needs(have: Iterable[str]) -> list[str]:
    """What the parts use, as it is installed here, without what `have` (lines of `pip freeze`) lists in any version."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    there = {canonicalize_name(re.split(r"[ =@<>~!;\[]", line.strip(), maxsplit=1)[0]) for line in have if line.strip()}
    found: dict[str, str] = {}
    waiting = list(ROOTS)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found or name in there or WITH_TORCH.fullmatch(name):
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
        wanted = [Requirement(text) for text in requires(name) or ()]
        waiting += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [f"{name}=={found[name]}" for name in sorted(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "gpu", help="folder of gpu.json and gpu.md [default: gpu]")
    parser.add_argument("--only", nargs="+", choices=[p.name for p in PARTS], metavar="PART")
    parser.add_argument("--needs", nargs="?", const="", metavar="HAVE", help="list the packages that the parts use")
    given = parser.parse_args()
    if given.needs is not None:
        have = Path(given.needs).read_text(encoding="utf-8").splitlines() if given.needs else []
        print("\n".join(needs(have)))
        return
    facts = machine()
    parts = asked([p for p in PARTS if given.only is None or p.name in given.only], lacking())
    given.out.mkdir(parents=True, exist_ok=True)
    whole = json.dumps({"machine": facts, "parts": parts}, indent=1)
    (given.out / "gpu.json").write_text(whole + "\n", encoding="utf-8")
    text = markdown(facts, parts)
    (given.out / "gpu.md").write_text(text, encoding="utf-8")
    print(text, end="")
    if any(p["ended"] != "ok" and not p["ended"].startswith("skipped") for p in parts):
        sys.exit(1)


if __name__ == "__main__":
    main()
