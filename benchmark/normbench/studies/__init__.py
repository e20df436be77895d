"""Studies: questions to the results of a suite, each answered in numbers with intervals. Pure functions from values to
values; no input or output, no torch.

One file a question; putting it there registers it, and `normbench.studies` is the group of entry points for those of
other packages. A question is put to every suite whose trials have the shape that it needs, whoever wrote the suite.
"""

from __future__ import annotations

from normbench.spec.plugins import Registry
from normbench.studies.base import Cell, Evidence, Figure, Question, Record, Section, Study, Table, evidence

__all__ = [
    "Cell",
    "Evidence",
    "Figure",
    "Question",
    "Record",
    "Section",
    "Study",
    "Table",
    "asked",
    "evidence",
    "registry",
]

#: All questions, by name.
registry: Registry[Question] = Registry(
    kind="study",
    package="normbench.studies",
    base=Question,  # type: ignore[type-abstract]
    group="normbench.studies",
)


def asked(found: Evidence) -> list[Question]:
    """The questions that these trials have the shape for, by name; one that cannot be imported is left out
    (`registry.problems` names it).
    """
    broken = registry.problems()
    questions = [registry.make(name) for name in registry.names() if name not in broken]
    return [q for q in questions if q.fits(found)]
