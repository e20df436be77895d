"""The site: boards and results as static pages that work from `file://`, without a network and without JavaScript."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import normbench
import normbench.norms as norms
from normbench.pages import (
    batch_page,
    boards_pages,
    claims_page,
    compare_page,
    cost_page,
    craft,
    data_page,
    drawings,
    glossary_page,
    history_page,
    home_page,
    method_pages,
    published_page,
    runs_page,
    search_page,
    study_pages,
    trial_pages,
    tuning_page,
)
from normbench.pages.context import Context
from normbench.pages.press import Press, PressError
from normbench.pages.results import Results, load
from normbench.pages.svg import chart_library, colours_script
from normbench.pages.writer import DOCUMENTATION, SiteError, Writer, environment, replacing
from normbench.paths import shipped
from normbench.plan.origin import Origin, origin
from normbench.spec.cost import Costs
from normbench.store.costs import read_all
from normbench.store.store import Store

__all__ = ["SiteError", "build"]

#: Pages of the navigation: file and text. Those of studies and of tuning are there when a suite has them, those of
#: batch sizes and of cost when there are numbers for them, and the documentation is when it was built.
NAVIGATION = (
    ("index.html", "Overview"),
    ("accuracy.html", "Accuracy"),
    ("robustness.html", "Robustness"),
    ("weight-norm.html", "Weight norms"),
    ("studies.html", "Studies"),
    ("claims.html", "Claims"),
    ("published.html", "Published"),
    ("compare.html", "Compare"),
    ("batch.html", "Batch size"),
    ("cost.html", "Cost"),
    ("methods.html", "Methods"),
    ("tuning.html", "Tuning"),
    ("runs.html", "All runs"),
    ("data.html", "Data"),
)

#: The method whose source the page for contributors shows.
EXAMPLE = "gn.py"


def _example() -> str:
    return (Path(norms.__file__).parent / EXAMPLE).read_text(encoding="utf-8").strip()


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Millions of objects live through a build and hardly any of them in cycles: looking for those took a fifth of the
    time, and freed nothing.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def _drawn(out: Path) -> Iterator[Press]:
    try:
        with Press() as press:
            yield press
    except PressError as error:
        raise SiteError(f"cannot build the site in {out}: {error}") from error


def build(store: Store, out: Path, *, suites: list[str] | None = None) -> Path:
    """Build all pages from the results of `suites` (default: all) into the folder `out`, and return the path of its
    index.html.

    The same results give the same bytes. A site that stands in `out` is replaced when the new one is whole. Raises
    `SiteError` where `out` holds something else.
    """
    with _no_garbage():
        costs = read_all(store)  # first, so that a file which cannot be read is among the problems
        return _build(load(store, suites), costs, out, origin(store.root))


def _build(results: Results, costs: Sequence[Costs], out: Path, come_from: Origin) -> Path:
    evidences = study_pages.evidences(results)
    studies = study_pages.studies(evidences)
    documentation = f"{DOCUMENTATION}/index.html"
    batches = batch_page.several(results.boards)
    found = {
        "studies.html": studies,
        "tuning.html": results.sweeps,
        "batch.html": batches,
        "cost.html": costs,
        documentation: (out / documentation).is_file(),
    }
    hidden = {page for page, there in found.items() if not there}
    with replacing(out) as folder, _drawn(out) as press:
        shared = {
            "site": {
                "nav": [page for page in NAVIGATION if page[0] not in hidden],
                "trials": f"{results.table.num_rows:,}",
                "version": results.version,
                "date": results.date,
                "problems": len(results.problems),
                "normbench": normbench.__version__,
                "origin": come_from,
                "icon": craft.icon(),
                "card": craft.card_text(results.lead()),
                "about": craft.about(come_from, documented=documentation not in hidden),
            }
        }
        writer = Writer(folder, shared, environment())
        shutil.copytree(shipped("site", "assets"), folder / "assets", ignore=shutil.ignore_patterns(".*"))
        writer.text("assets/vega.js", chart_library())
        writer.text("assets/colours.js", colours_script())
        context = Context(results, writer, press, come_from)
        craft.write_card(context)
        boards_pages.write(context)
        trial_pages.write(context)
        claims = claims_page.rows_of(evidences)
        study_pages.write(context, studies, claims)
        home_page.write(context, claims)
        claims_page.write(context, claims, studies)
        published_page.write(context)
        method_pages.write(context)
        tuning_page.write(context)
        batch_page.write(context, batches)
        cost_page.write(context, costs)
        compare_page.write(context)
        runs_page.write(context)
        data_page.write(context)
        glossary_page.write(context)
        history_page.write(context)
        writer.page("contribute.html", "contribute.html", title="Contribute", example_file=EXAMPLE, example=_example())
        search_page.write(context)
    drawings.clean()
    return out.resolve() / "index.html"
