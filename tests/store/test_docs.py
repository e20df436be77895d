"""The commands in docs/results.md, as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import normbench
from normbench.store.schema import SCHEMA, SCHEMA_VERSION
from normbench.store.store import Store
from normbench.store.verify import verify

from tests.command import bench
from tests.store.samples import FIRST_VERSION

DOCS = Path(normbench.__file__).parents[2] / "docs" / "results.md"
BLOCK = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)


def test_every_command_works(tmp_path: Path) -> None:
    commands = [line for block in BLOCK.findall(DOCS.read_text()) for line in block.splitlines()]
    assert len(commands) >= 9
    shutil.copytree(FIRST_VERSION, tmp_path / "results")
    migration = next(c for c in commands if " migrate " in c)
    for command in [migration, *commands]:
        program, *arguments = shlex.split(command)
        assert program == "bench"
        if "gn" in arguments:
            arguments[arguments.index("gn")] = next(r["norm"] for r in Store(tmp_path / "results").rows())
        answer = bench(*arguments, cwd=tmp_path)
        assert answer.returncode == 0, (command, answer.stdout, answer.stderr)
    assert verify(Store(tmp_path / "collected"))[0] >= 1


def test_every_column_and_command_is_told() -> None:
    text = DOCS.read_text()
    assert all(f"`{name}`" in text for name in SCHEMA.names)
    assert f"The schema's version is {SCHEMA_VERSION}." in text
    for verb in ("verify", "compact", "export", "merge", "gc", "migrate"):
        assert f"bench results {verb}" in text
