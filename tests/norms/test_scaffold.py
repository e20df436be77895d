"""A new method starts as a file that passes its own checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from normbench import norms
from normbench.attacks.scaffold import scaffold as new_attack
from normbench.measures.scaffold import scaffold as new_measure
from normbench.norms.check import check
from normbench.norms.scaffold import scaffold
from normbench.spec.plugins import Registry

SCAFFOLDS = {"norm": scaffold, "attack": new_attack, "measure": new_measure}


def registry_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[norms.Norm]:
    """A registry of the plug-ins in `folder`, a package of its own."""
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(folder.parent))
    return Registry("norm", folder.name, norms.Norm, "no.such.group")


@pytest.mark.parametrize("name", ["mynorm", "my-own-norm", "lambda"])
def test_a_new_method_passes_its_checks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"methods_{name.replace('-', '_')}"
    folder.mkdir()
    path = scaffold(name, folder)
    assert path.name == {"mynorm": "mynorm.py", "my-own-norm": "my_own_norm.py", "lambda": "lambda_.py"}[name]
    registry = registry_of(folder, monkeypatch)
    assert registry.names() == [name]
    method = registry.parse(f"{name}[eps=1e-3]")
    assert [r for r in check(method) if not r.ok] == []


@pytest.mark.matrix
def test_the_files_are_clean(tmp_path: Path) -> None:
    paths = [str(write(f"my-own-{kind}", tmp_path)) for kind, write in SCAFFOLDS.items()]
    config = str(Path(__file__).parents[2] / "pyproject.toml")
    for command in (
        ["ruff", "check", "--config", config],
        ["ruff", "format", "--check", "--config", config],
        ["mypy", "--strict", "--config-file", config],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command, *paths], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_names_that_cannot_be(tmp_path: Path) -> None:
    for name in ("", "My-Norm", "my_norm", "1norm", "../up", "base", "layers", "a--b"):
        with pytest.raises(ValueError, match="cannot name a norm"):
            scaffold(name, tmp_path)
    with pytest.raises(ValueError, match="a norm is called 'gn' already"):
        scaffold("gn", tmp_path)
    scaffold("mine", tmp_path)
    with pytest.raises(FileExistsError, match=r"mine\.py is there already"):
        scaffold("mine", tmp_path)
