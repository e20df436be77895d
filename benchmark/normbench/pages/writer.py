"""Writing a site: pages go to a folder of their own, which takes the old one's place when it is whole."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from normbench.board.words import evidence
from normbench.errors import BenchError, on_disk
from normbench.paths import shipped

#: Lies in every site that was built here: a folder without it is somebody else's and is not replaced.
MARKER = ".normbench-site"
#: The documentation's folder in a site (docs/tools/build.py makes it). It stays when the site is built anew.
DOCUMENTATION = "docs"
#: What the site is, in a sentence.
DESCRIPTION = "A benchmark of normalization layers in neural networks: accuracy, robustness, growth of the weights."
#: Address in the site, media type and title of a page's content for programs.
Feed = tuple[str, str, str]


class SiteError(BenchError):
    """The site cannot be built where it was asked for; the message says why."""


class Page(NamedTuple):
    """A page that stands in the site."""

    path: str
    title: str
    description: str


@dataclass(frozen=True)
class Writer:
    """Writes into the folder of a site that is being built. `shared`: what every template may use."""

    folder: Path
    shared: dict[str, Any]
    templates: Environment
    pages: list[Page] = field(default_factory=list)
    """Those written so far, but of trials."""

    def page(
        self, template: str, path: str, *, title: str, description: str = "", feeds: Sequence[Feed] = (), **values: Any
    ) -> None:
        """Render a template to `path`, a relative path with forward slashes.

        description: what a search engine shows of it, and a message that links to it. feeds: its content for programs.
        """
        said = description or f"{title}. {DESCRIPTION}"
        told = {"title": title, "description": said, "feeds": feeds}
        if not path.startswith("trials/"):
            self.pages.append(Page(path, title, said))
        where = {"root": "../" * path.count("/"), "here": path}
        self.text(path, self.templates.get_template(template).render(where | self.shared | told | values) + "\n")

    def text(self, path: str, content: str) -> None:
        self.bytes(path, content.encode())

    def bytes(self, path: str, content: bytes) -> None:
        target = self.folder / path
        if not target.resolve().is_relative_to(self.folder.resolve()):
            raise SiteError(f"a page would be written outside of the site: {path!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def printable(value: Any) -> Any:
    """Text without characters that HTML and XML forbid (controls, halves of pairs), which become U+FFFD; lists and
    dictionaries likewise; the rest as it is.
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {k: printable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [printable(v) for v in value]
    return value


def _final(value: Any) -> Any:
    """`printable` for what a template shows, of which there are millions: nearly all of it passes the first look."""
    return printable(value) if isinstance(value, str) and not value.isprintable() else value


def call(function: str, *values: Any) -> str:
    """A script that hands plain values to a function of the page; no text in it can end the script."""
    texts = (json.dumps(v, allow_nan=False, separators=(",", ":")).replace("</", "<\\/") for v in values)
    return f"{function}({','.join(texts)});\n"


@cache
def environment() -> Environment:
    """Everything is escaped, in files of every name, and a misspelt variable is an error."""
    made = Environment(
        loader=FileSystemLoader(shipped("site", "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_final,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["evidence"] = evidence
    return made


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that replaces it when the block ends well; otherwise `out` stays as it was. Raises
    `SiteError`.
    """
    with on_disk(f"cannot build the site in {out}", SiteError):
        yield from _replacing(out)


def _replacing(out: Path) -> Iterator[Path]:
    try:
        out = out.resolve()
    except RuntimeError as error:  # a loop of links, before Python 3.13
        raise SiteError(f"cannot build the site in {out}: {error}") from error
    if out.exists() and not out.is_dir():
        raise SiteError(f"{out} is a file; a site needs a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise SiteError(
            f"{out} holds files that are no site of normbench (no {MARKER} there); choose another folder or empty "
            "this one"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        fresh.chmod(0o755)
        (fresh / MARKER).write_text("Built by normbench; replaced as a whole at the next build.\n", encoding="utf-8")
        yield fresh
        old = fresh.with_name(fresh.name + ".old")
        if (out / DOCUMENTATION).is_dir():
            (out / DOCUMENTATION).replace(fresh / DOCUMENTATION)
        if out.exists():
            out.replace(old)
        try:
            fresh.replace(out)
        except OSError:
            with suppress(OSError):  # the old site comes back
                old.replace(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
