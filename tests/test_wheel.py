"""The wheel holds everything: installed alone in another folder, it plans, shows boards and builds a site without a
checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import normbench
import pytest

ROOT = Path(normbench.__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but what the wheel brings."""
    uv = shutil.which("uv")
    if uv is None or not (ROOT / "pyproject.toml").is_file():
        pytest.skip("needs uv and a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves files behind
    names = [
        n
        for n in subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout.split("\0")
        if n
    ]
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "results/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    subprocess.run(
        [uv, "build", "--wheel", "--out-dir", str(folder / "dist"), str(source)], check=True, capture_output=True
    )
    (wheel,) = (folder / "dist").glob("normbench-*.whl")
    subprocess.run(
        [
            uv,
            "pip",
            "install",
            "--no-deps",
            "--python",
            sys.executable,
            "--target",
            str(folder / "packages"),
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(source)
    return folder / "packages"


def bench(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-m", "normbench.cli.main", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_is_the_wheel_that_runs(installed: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import normbench; print(normbench.__file__)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)


@pytest.mark.matrix
def test_it_plans_and_builds_a_site_anywhere(installed: Path, tmp_path: Path) -> None:
    planned = bench(installed, tmp_path, "plan", "digits")
    assert planned.returncode == 0, planned.stderr
    assert "digits: 15 trials (15 missing)" in planned.stdout
    if (ROOT / "results" / "digits").is_dir():
        shutil.copytree(ROOT / "results" / "digits", tmp_path / "results" / "digits")
        shown = bench(installed, tmp_path, "board", "digits")
        assert shown.returncode == 0, shown.stderr
        assert "Robust accuracy" in shown.stdout
        built = bench(installed, tmp_path, "site")
        assert built.returncode == 0, built.stderr
        assert (tmp_path / built.stdout.split()[-1]).is_file()


def test_every_suite_of_the_checkout_ships(installed: Path) -> None:
    shipped = {p.name for p in installed.rglob("*.yaml")}
    assert {p.name for p in (ROOT / "suites").glob("*.yaml")} <= shipped
