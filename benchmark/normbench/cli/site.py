"""`bench site`: built where something has changed since it was built, else left as it is."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import normbench
from normbench.cli import completion
from normbench.cli.planned import new_console, warn
from normbench.cli.results import Results, known_suites, open_store
from normbench.cli.say import say
from normbench.paths import cache_dir, checkout, default_site, shipped

if TYPE_CHECKING:
    from normbench.store.store import Store

#: Libraries that the bytes of pages depend on, besides this package.
LIBRARIES = ("altair", "vl-convert-python", "jinja2", "markupsafe", "pyarrow", "numpy", "scipy")


def site(
    results: Results = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to build [default: site/build].", metavar="DIR")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help="Just this suite; may be repeated.", metavar="SUITE", autocompletion=completion.suites
        ),
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Build the static site from the results, unless nothing has changed since it was built."""
    store = open_store(results, reads=True)
    index, fresh = current(store, out or default_site(), known_suites(store, only) if only else None)
    told = " (nothing has changed since it was built)" if fresh else ""
    new_console().print(f"site: {index}{told}", highlight=False, soft_wrap=True)
    warn(store)
    if opens:
        show(Path(os.path.realpath(index)))


def show(page: Path) -> None:
    """Open a page in the browser. Where there is none, its path is what helps."""
    import webbrowser

    try:
        webbrowser.get().open_new_tab(page.as_uri())
    except webbrowser.Error:
        say(f"bench: no browser was found here; open {page}", file=sys.stderr)


def current(store: Store, out: Path, suites: Sequence[str] | None = None) -> tuple[Path, bool]:
    """The index of a site of these suites (default: all) in the folder `out`, and whether it was there already. Raises
    as `normbench.pages.build`.
    """
    record = _record(out)
    key = _key(store, suites)
    index = Path(os.path.realpath(out)) / "index.html"
    if record.get("key") == key and record.get("site") == _held(out):
        store.problems |= record["problems"]
        return index, True
    from normbench.pages import build
    from normbench.store.files import write_atomically

    build(store, out, suites=None if suites is None else list(suites))
    content = {"key": key, "site": _held(out), "problems": store.problems}
    try:
        _place(out).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_place(out), json.dumps(content).encode())
    except OSError:  # a cache that cannot be written is no reason to fail: the site is built again next time
        pass
    return index, False


def _place(out: Path) -> Path:
    """Beside the user's other caches: the same results give the same site, to the byte, and this would differ."""
    return cache_dir() / "sites" / f"{hashlib.sha256(os.fsencode(Path(os.path.realpath(out)))).hexdigest()[:32]}.json"


def _record(out: Path) -> dict[str, Any]:
    try:
        found = json.loads(_place(out).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(store: Store, suites: Sequence[str] | None) -> str:
    """Changes with whatever a site is made from: results, code, templates, versions."""
    from normbench.plan.origin import origin
    from normbench.store import costs
    from normbench.store.releases import FILE

    folders = [*(store.suites() if suites is None else sorted(suites)), costs.FOLDER]
    entries = [(f, e.name, e.size, e.modified) for f in folders for e in store.entries(f) if e.name[:1] != "."]
    code = [Path(normbench.__file__).parent, shipped("site", "templates"), shipped("site", "assets")]
    entries += [("", e.name, e.size, e.modified) for e in store.entries() if e.name == FILE]
    versions = [platform.python_version(), *map(version, LIBRARIES)]
    told = [*asdict(origin(store.root)).values(), *_files(*(root / "changes" for root in [checkout()] if root))]
    made_from = [str(store.root), suites is None, entries, [*_files(*code)], versions, told]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def _held(out: Path) -> str:
    """Changes with whatever somebody does to a site."""
    return hashlib.sha256(json.dumps([*_files(out)]).encode()).hexdigest()


def _files(*folders: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of every file, but of compiled ones."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix != ".pyc" and path.is_file():
                found = path.stat()
                yield str(path), found.st_size, found.st_mtime_ns
