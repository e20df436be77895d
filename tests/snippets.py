"""What stands between fences on a page of the documentation, and how it is run.

A block in `sh` or `bash` is commands, one in `python` is a program, one in `yaml` a suite or a part of one. A block
with a title is a file of that name, but for one that begins with "prints": that is what the command before it printed.

A line of emphasis behind a block says that it is not run, and why: `*Not run by the tests: it installs.*`. One at the
top of a page may say so for all of it. What stands behind a marker for the gate, `.ci/run` runs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from normbench.lab import data, trial_run
from normbench.plan import plan
from normbench.plan.provenance import provenance
from normbench.store.about import keep
from normbench.store.store import Store
from normbench.suite import about, expand, load

from tests.command import bench

#: Languages whose blocks are run, or say why not.
RUN = ("sh", "bash", "python", "yaml")
#: Languages of what is only shown.
SHOWN = ("text", "json", "toml", "html")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<gate>main-job|tests) -->\n)?"
    r"^```(?P<language>[a-z]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$"
    r"(?:\s+^\*Not run by the tests: (?P<reason>[^*]+)\*$)?",
    re.MULTILINE | re.DOTALL,
)
_NONE = re.compile(r"^\*Not run by the tests, on all of this page: (.+?)\*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str
    reason: str
    """Why it is not run; empty where it is."""
    line: int

    @property
    def commands(self) -> list[str]:
        """Its lines, continued ones joined, without comments."""
        lines = re.sub(r"\\\n\s*", " ", self.text).splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    none = _NONE.search(text)
    for match in _BLOCK.finditer(text):
        title = re.search(r'title="([^"]+)"', match["rest"])
        line = text.count("\n", 0, match.start()) + 1
        reason = "the gate runs it" if match["gate"] else match["reason"] or (none[1] if none else "")
        found.append(Block(match["language"], title[1] if title else "", match["text"], reason, line))
    return found


def small(suite: str) -> str:
    """A suite with the same trials, each as short as can be."""
    said = yaml.safe_load(suite)
    said["data"] |= {"train_examples": 48, "test_examples": 32}
    said["train"] = said.get("train", {}) | {"epochs": 1}
    said["widths"] = [0.125]
    return yaml.safe_dump(said, sort_keys=False)


def run_here(suite: str, results: str) -> None:
    """What `bench run SUITE --results RESULTS` stores, made in this process: without Ray, site and boards."""
    loaded, store = load(suite), Store(results)
    made = plan.make(loaded.name, expand(loaded), store, None)
    for item in made.todo:
        source = data.locate(item.trial.data, None, download=False)
        assert source is not None
        context = trial_run.Context(
            data_dir=None, fingerprint=data.fingerprint(source), provenance=provenance(), identity=item.identity.hash
        )
        outcome = trial_run.run(item.trial, context, lambda _: None)
        store.write(loaded.name, item.trial, item.identity.placed(outcome).to_dict(), outcome)
    keep(store, loaded.name, about(loaded).model_copy(update={"datasets": made.datasets}))


@dataclass
class Page:
    """A page that is gone through from top to bottom, in a folder of its own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    printed: str = ""
    ran: int = 0

    def go(self, block: Block) -> None:
        """Run a block, in the folder, which is the working directory."""
        if block.reason:
            return
        if block.title.startswith("prints"):
            for line in block.text.splitlines():
                assert line.strip() in self.printed, f"line {block.line}: not printed: {line}\n{self.printed}"
        elif block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(small(block.text) if block.language == "yaml" else block.text)
        elif block.language == "python":
            exec(compile(block.text, f"line {block.line}", "exec"), self.names)
            self.ran += 1
        elif block.language in {"sh", "bash"}:
            for command in block.commands:
                self.command(command)

    def command(self, line: str) -> None:
        program, *arguments = shlex.split(line, comments=True)
        assert program in {"bench", "normbench"}, f"{line}: mark the block as not run, and say why"
        if arguments[0] == "run":
            # Whole runs are what the gate and the tests of the runner make. Here a suite whose results have a folder of
            # their own is run in this process; of others a plan is made.
            if "--results" in arguments and (self.folder / arguments[1]).is_file():
                self.train(arguments[1], arguments[arguments.index("--results") + 1])
                self.ran += 1
                return
            arguments[0] = "plan"
        if arguments[0] == "site" and "--out" not in arguments:
            arguments += ["--out", "site"]
        done = bench(*arguments, cwd=self.folder, BROWSER="true", **self.environment)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert done.stdout.strip(), line
        self.printed = done.stdout
        self.ran += 1

    def train(self, suite: str, results: str) -> None:
        """In this process, or in one that imports another copy of the package."""
        if not (copied := self.environment.get("PYTHONPATH")):
            return run_here(suite, results)
        program = f"from tests.snippets import run_here; run_here({suite!r}, {results!r})"
        paths = {"PYTHONPATH": f"{copied}{os.pathsep}{Path(__file__).parents[1]}"}
        done = subprocess.run([sys.executable, "-c", program], env=os.environ | paths, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return None
