"""Studies: an index of the questions that the results answer, and a page for each question and suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from normbench.board import slugify
from normbench.claims._listed import Listed
from normbench.claims.base import SOURCES
from normbench.pages.context import Context
from normbench.pages.results import Results
from normbench.pages.svg import draw
from normbench.pages.verdicts import forests, mark, shares, typeset
from normbench.spec.about import Role
from normbench.studies import Cell, Evidence, Section, Study, Table, asked
from normbench.studies.base import gather

#: Sections that have charts, of the whole site: the first of every study come first.
DRAWN = 12
#: Sections of a study above which its card counts them.
FEW = 4
#: Trials of a suite above which curves are not read: studies then rest on the numbers of its boards.
CURVES = 5000
LIGHT = ("suite", "trial_id", "stage", "validation_accuracy", "audit")


def evidences(results: Results) -> dict[str, Evidence]:
    """The evidence of every suite, with the curves that the questions need for whose shape its trials are."""
    suites = sorted(pc.unique(results.table.column("suite")).to_pylist())
    return {suite: _of_suite(results, suite) for suite in suites}


def studies(found: Mapping[str, Evidence]) -> list[Study]:
    """What every suite's trials say to the questions that they have the shape for, by question and suite."""
    made = (q.study(evidence) for evidence in found.values() for q in asked(evidence))
    return sorted((s for s in made if s), key=lambda s: (s.name, s.suite))


def _of_suite(results: Results, suite: str) -> Evidence:
    boards = [b for b in results.boards if suite in b.suites]
    table = results.table.filter(pc.equal(results.table.column("suite"), suite))
    light = table.select(LIGHT)
    found = gather(suite, boards, light.to_pylist())
    prefixes = tuple(p for q in asked(found) for p in q.reads)
    if not prefixes or table.num_rows > CURVES:
        return found
    curves = [_starting(c, prefixes) for c in table.column("curves").chunks]
    rows = light.append_column("curves", pa.chunked_array(curves, table.schema.field("curves").type)).to_pylist()
    return gather(suite, boards, rows, prefixes)


def _starting(curves: pa.ListArray, prefixes: Sequence[str]) -> pa.ListArray:
    """Of each list of readings, those of quantities that start with one of `prefixes`."""
    readings = curves.flatten()
    keep = pa.array([False] * len(readings), pa.bool_())
    for prefix in prefixes:
        keep = pc.or_(keep, pc.starts_with(readings.field("measure"), prefix))
    kept = pc.cumulative_sum(pc.cast(keep, pa.int32())).to_pylist()
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(curves), 0)).to_pylist()
    return pa.ListArray.from_arrays(
        pa.array([0, *(kept[end - 1] if end else 0 for end in ends)], pa.int32()), readings.filter(keep)
    )


def addresses(made: Sequence[Study]) -> dict[int, str]:
    """File names of pages, by the id of the study."""
    paths: dict[int, str] = {}
    for study in made:
        path = f"study-{slugify(study.name)}-{slugify(study.suite, 40)}"
        while f"{path}.html" in paths.values():
            path += "-x"
        paths[id(study)] = f"{path}.html"
    return paths


def write(context: Context, made: Sequence[Study], claims: Sequence[Listed]) -> None:
    """Write studies.html and a page for each study; nothing where no results answer any question."""
    if not made:
        return
    paths = addresses(made)
    by_study: dict[str, list[dict[str, Any]]] = {}
    for row in claims:
        if row.claim.study:
            by_study.setdefault(row.claim.study, []).append(
                {"name": row.claim.name, "claim": typeset(row.claim.summary), "mark": mark(row.finding.verdict)}
                | {"source": SOURCES[row.claim.source].short, "place": row.claim.place}
            )
    roles = {suite: b.role for b in sorted(context.results.boards, key=lambda b: b.role.height) for suite in b.suites}
    in_turn = sorted((i, number) for number, study in enumerate(made) for i in range(len(study.sections)))
    drawn = set(in_turn[:DRAWN])
    for number, study in enumerate(made):
        base = paths[id(study)].removesuffix(".html")
        sections = [
            _section(context, section, f"{base}-{i}", drawn=(i, number) in drawn)
            for i, section in enumerate(study.sections)
        ]
        others = [(s.suite, paths[id(s)], s is study) for s in made if s.name == study.name]
        context.writer.page(
            "study.html",
            paths[id(study)],
            title=f"{study.title} · {study.suite}",
            study=study,
            sections=sections,
            suites=others,
            claims=by_study.get(study.name, []),
        )
    questions = []
    heights = {s.name: max(roles.get(o.suite, Role.STUDY).height for o in made if o.name == s.name) for s in made}
    for name in sorted(heights, key=lambda n: -heights[n]):
        own = [s for s in made if s.name == name]
        answers = [_suite(s, paths[id(s)], example=roles.get(s.suite) is Role.EXAMPLE) for s in own]
        questions.append(
            {
                "study": own[0],
                "name": name,
                "claims": by_study.get(name, []),
                "answers": [a for a in answers if not a["example"]],
                "examples": [a for a in answers if a["example"]],
            }
        )
    context.writer.page("studies.html", "studies.html", title="Studies", questions=questions)


def _suite(study: Study, href: str, *, example: bool) -> dict[str, Any]:
    """What one suite answers, in short: the verdict of each section, or how often each was given."""
    return {
        "suite": study.suite,
        "href": href,
        "example": example,
        "sections": [(s.heading, mark(s.verdict)) for s in study.sections] if len(study.sections) <= FEW else [],
        "shares": shares(s.verdict for s in study.sections),
        "count": len(study.sections),
        "findings": shares(f.verdict for s in study.sections for f in s.findings),
    }


def _section(context: Context, section: Section, base: str, *, drawn: bool) -> dict[str, Any]:
    figures = section.figures if drawn else ()
    return {
        "id": base,
        "section": section,
        "mark": mark(section.verdict),
        "forests": forests(section.findings),
        "tables": [_table(context, t) for t in section.tables],
        "charts": [draw(context, f"{base}-{f.name}", f.title, f.caption, f.spec, f.families) for f in figures],
        "undrawn": bool(section.figures) and not drawn,
    }


def _table(context: Context, table: Table) -> dict[str, Any]:
    rows = [[_cell(context, c) for c in row] for row in table.rows]
    return {"title": table.title, "caption": table.caption, "head": table.head, "rows": rows, "numbers": table.numbers}


def _cell(context: Context, cell: Cell | str) -> dict[str, Any]:
    made = cell if isinstance(cell, Cell) else Cell(cell)
    return {
        "text": made.text,
        "note": made.note,
        "failed": made.failed,
        "links": [context.trial_href(t) for t in made.trials],
    }
