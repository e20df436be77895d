"""Builds the documentation site (`tox -e docs`) beside the leaderboard, into `docs/` of its folder.

    python docs/tools/build.py [--site site/build] [--no-execute]

The pages are those of `docs/`, those of the root that readers look for (CONTRIBUTING.md and the like), the notebooks as
they run now, and what is generated in the place of `<!-- generated: NAME -->`. They are put together in `build/docs/`,
where Zensical makes a site of them; every warning of it is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import typer
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from nbconvert.writers import FilesWriter
from normbench import attacks, measures, norms
from normbench.cli.main import app
from normbench.pages.writer import DOCUMENTATION, MARKER
from normbench.suite import json_schema
from typer.cli import get_docs_for_click

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs"
STAGED = ROOT / "build" / "docs"
#: Pages that stand elsewhere in the checkout, and their places in the site.
ELSEWHERE = {
    "AGENTS.md": "agents.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changes.md",
    "deploy/README.md": "clusters.md",
}
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FETCHED = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//[^"]+|<link\b[^>]*\bhref="(?:https?:)?//[^"]+'
)
_PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def stage(*, execute: bool) -> None:
    """Put all pages together in `STAGED`."""
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.copytree(SOURCE, STAGED, ignore=shutil.ignore_patterns("tools", "*.ipynb", ".*"))
    pages = {path: path.relative_to(SOURCE) for path in SOURCE.rglob("*.md")}
    pages |= {ROOT / name: Path(target) for name, target in ELSEWHERE.items()}
    for path, target in pages.items():
        (STAGED / target).write_text(_page(path, target))
    for path in sorted((SOURCE / "notebooks").glob("*.ipynb")):
        notebook(path, execute=execute)
    (STAGED / "reference" / "suite.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n")


def _page(path: Path, target: Path) -> str:
    """A page with its generated parts, and with links that hold in the site."""

    def generated(place: re.Match[str]) -> str:
        return "\n".join(GENERATED[place[1]]())

    def link(found: re.Match[str]) -> str:
        return f"]({_link(path, target, found[1])}{found[2] or ''})"

    return _LINK.sub(link, _PLACE.sub(generated, path.read_text(encoding="utf-8")))


def _link(path: Path, target: Path, to: str) -> str:
    """Where a link of the checkout leads in the site. Raises `SystemExit` where that is nowhere."""
    file = (path.parent / to).resolve()
    if file.is_relative_to(SOURCE):
        place = file.relative_to(SOURCE).with_suffix(".md" if file.suffix == ".ipynb" else file.suffix)
    elif (name := file.relative_to(ROOT).as_posix()) in ELSEWHERE:
        place = Path(ELSEWHERE[name])
    elif name == "README.md":  # the first page stands in its place
        place = Path("index.md")
    else:
        sys.exit(f"{path}: the link to {to} leads out of the site")
    return "../" * (len(target.parts) - 1) + place.as_posix()


def notebook(path: Path, *, execute: bool) -> None:
    """Run a notebook in the checkout and write it as a page. An error in a cell is an error here."""
    content = nbformat.read(path, as_version=4)
    if execute:
        where = {"metadata": {"path": str(ROOT)}}
        NotebookClient(content, timeout=300, kernel_name="python3", resources=where).execute()
    for cell in (c for c in content.cells if c.cell_type == "code"):  # warnings of libraries are of this machine
        cell.outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    body, resources = MarkdownExporter().from_notebook_node(content, {"output_files_dir": f"{path.stem}_files"})
    FilesWriter(build_directory=str(STAGED / "notebooks")).write(body, resources, notebook_name=path.stem)


def commands() -> Iterator[str]:
    """Every verb with its arguments and options, from the command itself."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="bench")
    yield text.split("\n", 1)[1]  # the page has a title


def plugins() -> Iterator[str]:
    """A table for each kind of plug-in."""
    for title, kind in (("Methods", norms), ("Attacks", attacks), ("Measures", measures)):
        registry = kind.registry
        yield from ("", f"## {title}", "", "| name | what | parameters | source |", "| --- | --- | --- | --- |")
        for name in registry.names():
            card = registry.get(name)
            parameters = ", ".join(f"`{k}`" for k in card.model_fields)
            yield f"| `{name}` | {_cell(card.summary)} | {parameters} | {_cell(card.source)} |"


def schema() -> Iterator[str]:
    """The keys of a suite file, then those of its sections."""
    made = json_schema()
    for name, part in {"suite file": made, **made["$defs"]}.items():
        if keys := part.get("properties"):
            title = name if name[0].islower() else f"`{name.lower()}`"
            yield from ("", f"## {title}", "", "| key | what |", "| --- | --- |")
            yield from (f"| `{key}` | {_cell(what.get('description', ''))} |" for key, what in keys.items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def outside(site: Path) -> list[str]:
    """What pages would fetch from elsewhere: scripts, styles, pictures, fonts. A link to follow is none of it."""
    pages = sorted(site.rglob("*.html"))
    return [f"{page.relative_to(site)}: {found}" for page in pages for found in _FETCHED.findall(page.read_text())]


GENERATED: dict[str, Callable[[], Iterator[str]]] = {"commands": commands, "plugins": plugins, "schema": schema}


def build(site: Path, *, execute: bool) -> Path:
    """Build the site and put it where the leaderboard stands, or will. Returns the path of its index.html."""
    stage(execute=execute)
    subprocess.run([Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"], cwd=ROOT, check=True)
    if found := outside(ROOT / "build" / "site"):
        sys.exit("\n".join(["the site must work offline, and these pages fetch from elsewhere:", *found]))
    site.mkdir(parents=True, exist_ok=True)
    if not any(site.iterdir()):
        (site / MARKER).write_text("Begun by the documentation.\n")
    shutil.rmtree(site / DOCUMENTATION, ignore_errors=True)
    return Path(shutil.copytree(ROOT / "build" / "site", site / DOCUMENTATION)) / "index.html"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, default=ROOT / "site" / "build", help="the folder of the leaderboard")
    parser.add_argument("--no-execute", action="store_true", help="show notebooks as they lie there")
    arguments = parser.parse_args()
    print(f"documentation: {build(arguments.site, execute=not arguments.no_execute)}")
