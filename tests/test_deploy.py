"""The recipes in `deploy/`: no cluster runs them here, but every command, option and setting in them exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
BIN = Path(sys.executable).parent
CLOSED = {"RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0", "RAY_memory_monitor_refresh_ms=0"}


def help_of(*command: str) -> str:
    answer = subprocess.run(
        [str(BIN / command[0]), *command[1:], "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    return {
        "ray start": options(help_of("ray", "start")),
        "ray symmetric-run": options(help_of("ray", "symmetric-run")) | options(help_of("ray", "start")),
        "ray get-auth-token": options(help_of("ray", "get-auth-token")),
        "bench run": options(help_of("bench", "run")),
    }


def commands(text: str) -> list[tuple[str, str]]:
    """(command, its line) for every call of ray or bench, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.partition(" # ")[0] for line in joined.splitlines() if not line.lstrip().startswith("#")]
    parts = [part for line in lines for part in re.split(r" -- (?=bench)", line)]
    found = (re.search(r"\b(ray (?:start|symmetric-run|get-auth-token)|bench run)\b(.*)", part) for part in parts)
    return [(match[1], match[2]) for match in found if match]


def test_every_option_in_the_recipes_exists(known: dict[str, set[str]]) -> None:
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL))
    manifest = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    texts = [blocks, (DEPLOY / "slurm.sh").read_text(), manifest["spec"]["entrypoint"]]
    found = [c for text in texts for c in commands(text)]
    assert {name for name, _ in found} == set(known)
    for name, line in found:
        assert options(line) <= known[name], (name, line)


def test_every_recipe_closes_its_doors() -> None:
    assert set(re.findall(r"\bRAY_\w+=\w+", (DEPLOY / "README.md").read_text())) >= CLOSED
    assert set(re.findall(r"\bRAY_\w+=\w+", (DEPLOY / "slurm.sh").read_text())) >= CLOSED
    cluster = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())["spec"]["rayClusterSpec"]
    for pod in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        (container,) = pod["template"]["spec"]["containers"]
        assert {f"{e['name']}={e.get('value')}" for e in container["env"]} >= CLOSED
        assert pod["rayStartParams"]["disable-usage-stats"] == "true"


def test_the_manifest_has_the_shape_of_a_ray_job(known: dict[str, set[str]]) -> None:
    job: dict[str, Any] = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) <= {
        "entrypoint",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        assert {f"--{name}" for name in pod["rayStartParams"]} <= known["ray start"]
        spec = pod["template"]["spec"]
        (container,) = spec["containers"]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
    assert len({pod["template"]["spec"]["containers"][0]["image"] for pod in pods}) == 1
    constraints = (DEPLOY.parent / "constraints.txt").read_text()
    assert f"ray=={cluster['rayVersion']}" in constraints


def test_the_slurm_script_runs_up_to_srun(tmp_path: Path) -> None:
    """With `scontrol` and `ray` that only say what they were given, and an `srun` that starts a command here."""
    script = DEPLOY / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", str(script)]).returncode == 0
    (tmp_path / "scontrol").write_text("#!/bin/sh\nprintf 'node-a\\nnode-b\\n'\n")
    (tmp_path / "srun").write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
    (tmp_path / "ray").write_text(
        '#!/bin/sh\necho "$@"\necho "token $(wc -c < "$RAY_AUTH_TOKEN_PATH") $RAY_AUTH_MODE"\nstat -c %a '
        '"$RAY_AUTH_TOKEN_PATH" "$RAY_TMPDIR"\n'
    )
    for name in ("scontrol", "srun", "ray"):
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
    }
    environment = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path)}
    answer = subprocess.run(
        ["bash", str(script), "my.yaml", "--jobs", "3"], env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    first = answer.stdout.splitlines()[0]
    assert first.startswith("symmetric-run --address node-a:6634 --min-nodes 2 --temp-dir /tmp/normbench-")
    assert first.endswith("--num-cpus=8 --num-gpus=0 -- bench run my.yaml --jobs 3 --address node-a:6634")
    assert "token 64 token\n600\n700\n" in answer.stdout
    assert not Path(first.partition("--temp-dir ")[2].split()[0]).parent.exists()
    assert not list(tmp_path.glob(".ray-token*"))
    for bad in ([], ["my.yaml"]):
        outside = {k: v for k, v in environment.items() if not k.startswith("SLURM_")}
        assert subprocess.run(["bash", str(script), *bad], env=outside, capture_output=True).returncode == 2
