"""Every command and snippet of the documentation runs as it stands there, or says why it does not."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import normbench
import pytest
import yaml
from normbench.pages import build
from normbench.store.store import Store

from tests.snippets import RUN, SHOWN, Page, blocks, small

ROOT = Path(normbench.__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (
        *(ROOT / name for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
#: Pages whose snippets other tests run, which know what they need.
ELSEWHERE = {
    "docs/data.md": "tests/test_data_docs.py",
    "docs/python.md": "tests/api/test_docs.py",
    "docs/results.md": "tests/store/test_docs.py",
    "docs/tutorials/method.md": "tests/test_docs.py::test_the_tutorial_on_methods",
}
#: Pages with parts of suites, which tests/suite/test_schema.py and tests/test_data_docs.py read.
PARTS = {"docs/suites.md", "docs/data.md"}
#: Files that the site has and the checkout has not.
GENERATED = {"suite.schema.json"}
#: How many blocks of a page are not run. Each says why.
NOT_RUN = {
    "AGENTS.md": 1,
    "CONTRIBUTING.md": 4,
    "README.md": 2,
    "deploy/README.md": 4,
    "docs/gpu.md": 4,
    "docs/reliability.md": 1,
    "docs/results.md": 2,
    "docs/start.md": 1,
    "docs/weights.md": 2,
}


#: Pages that train or plan for a quarter of a minute and more.
LONG = {"CONTRIBUTING.md", "docs/start.md", "docs/suites.md", "docs/tutorials/question.md"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.matrix] if n in LONG else []) for n in PAGES if n not in ELSEWHERE],
)
def test_every_snippet_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "bench " in PAGES[name].read_text():
        shutil.copytree(ROOT / "suites", tmp_path / "suites")
        first = tmp_path / "suites" / "first.yaml"
        first.write_text(small(first.read_text()))
        shutil.copytree(ROOT / "results" / "digits", tmp_path / "results" / "digits")  # of all, a site takes a minute
    page = Page(tmp_path, {"BENCH_RESULTS": str(tmp_path / "results")})
    for block in blocks(PAGES[name]):
        page.go(block)


@pytest.mark.matrix
def test_the_tutorial_on_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy of the package, as a contributor's checkout: what the page writes is found there."""
    copied = tmp_path / "benchmark" / "normbench"
    shutil.copytree(Path(normbench.__file__).parent, copied, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "suites", tmp_path / "suites")
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    page = Page(tmp_path, {"PYTHONPATH": str(tmp_path / "benchmark")})
    for block in blocks(PAGES["docs/tutorials/method.md"]):
        page.go(block)
    assert page.ran >= 5


def test_every_block_has_a_language() -> None:
    odd = [f"{name}:{b.line}" for name, page in PAGES.items() for b in blocks(page) if b.language not in {*RUN, *SHOWN}]
    assert odd == []
    assert {n for n, p in PAGES.items() for b in blocks(p) if b.language == "yaml" and not b.title} <= PARTS


def test_what_is_not_run_says_why() -> None:
    found = Counter(name for name, page in PAGES.items() for block in blocks(page) if block.reason)
    assert dict(found) == NOT_RUN


def test_the_readme_names_the_verbs() -> None:
    commands = [c for block in blocks(PAGES["README.md"]) if block.language == "sh" for c in block.commands]
    verbs = {c.split()[1] for c in commands if c.startswith("bench ")}
    assert verbs >= {"plan", "run", "status", "board", "site", "norms", "audit", "doctor", "results"}


def test_the_gate_runs_what_the_readme_says() -> None:
    """`.ci/run` takes the commands behind two markers."""
    text = PAGES["README.md"].read_text()
    assert re.findall(r"<!-- ([\w-]+) -->\n```sh\n[^\n]+\n```", text) == ["main-job", "tests"]
    assert not (ROOT / "results" / "first").exists(), "committed results would answer the first command"


def test_the_image_runs_the_main_job() -> None:
    """`Dockerfile` installs and starts what the README says."""
    (main_job,) = [b.text for b in blocks(PAGES["README.md"]) if "first.yaml" in b.text]
    said = re.sub(r"(?<=uv)==[\d.]+| --no-cache(-dir)?", "", (ROOT / "Dockerfile").read_text())
    lines = dict(re.findall(r"^(RUN|ENTRYPOINT|CMD) (.+)$", said, re.MULTILINE))
    start = [*json.loads(lines["ENTRYPOINT"]), *json.loads(lines["CMD"])]
    assert f"{lines['RUN']} && {' '.join(start)}" == main_job.strip()


def test_a_release_takes_the_changes_along() -> None:
    """Each has a kind that towncrier knows, and one sentence or more."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = [kind["directory"] for kind in settings["type"]]
    for path in (ROOT / "changes").glob("*.md"):
        assert re.fullmatch(rf"(\+[\w-]+|\d+)\.({'|'.join(kinds)})\.md", path.name), path.name
        assert path.read_text().strip().endswith("."), path.name


def test_the_site_keeps_the_documentation_and_links_to_it(tmp_path: Path) -> None:
    store, out = Store(tmp_path / "results"), tmp_path / "site"
    assert "Documentation" not in build(store, out).read_text()
    (out / "docs").mkdir()
    (out / "docs" / "index.html").write_text("a page")
    assert 'href="docs/index.html"' in build(store, out).read_text()
    assert (out / "docs" / "index.html").read_text() == "a page"


def test_links_between_pages_lead_somewhere() -> None:
    for name, page in PAGES.items():
        for target, _ in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", page.read_text()):
            assert (page.parent / target).exists() or target in GENERATED, f"{name}: {target}"


def test_the_citation_is_of_this_version() -> None:
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(about)
    assert about["version"] == normbench.__version__
