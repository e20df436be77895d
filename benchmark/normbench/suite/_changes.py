"""`--set train.epochs=2`: values in the place of a suite file's own, checked as if they stood there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from normbench.suite import _yaml
from normbench.suite._problems import Location, Problem, SuiteError, found, short, written

FLAG = "--set"
_CLOSES = {"[": "]", "{": "}", "(": ")"}


@dataclass
class Changes:
    """The changes that were asked for, and which places of a document they made. Suites are equal by what they say, not
    by what said it.
    """

    _whole: dict[Location, str] = field(default_factory=dict, compare=False)
    """Places whose value a flag gave, with the flag."""
    _made: dict[Location, str] = field(default_factory=dict, compare=False)
    """Sections that the file lacks and a flag needed."""

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._whole)

    def flag(self, location: Location) -> str | None:
        """The flag that a place of the document comes from; None for one that the file has."""
        for length in range(len(location), 0, -1):
            if text := self._whole.get(location[:length]):
                return text
        return self._made.get(location)

    def apply(self, document: _yaml.Document, texts: Sequence[str]) -> None:
        """Put each `key=value` into a document, in order. A key is that of a section with its own, `train.epochs`; an
        item of a list is named by its place, `models.0.width`. A value is written as in the file; commas make a list.

        Raises `SuiteError` for what is no such text, and for a key that leads into what has no keys.
        """
        for text in texts:
            said = f"{FLAG} {short(text)}"
            key, equals, value = text.partition("=")
            parts = key.strip().split(".")
            if not equals or not all(parts):
                raise SuiteError([Problem(said, None, "expected key=value, for example train.epochs=2 or norms=bn,gn")])
            if isinstance(document.value, dict):
                self._put(document, parts, value, said)

    def _put(self, document: _yaml.Document, parts: Sequence[str], text: str, said: str) -> None:
        lines: dict[Location, int] = {}
        value = _value(text, said, lines)
        document.value, place = self._within(document.value, parts, value, (), said)
        for known in (document.lines, self._whole):
            for location in [each for each in known if each[: len(place)] == place]:
                del known[location]
        document.spoiled = {each for each in document.spoiled if each[: len(place)] != place}
        document.findings = [f for f in document.findings if f.location[: len(place)] != place]
        document.lines |= {(*place, *within): line for within, line in lines.items()}
        self._whole[place] = said
        for length in range(1, len(place)):
            if place[:length] not in document.lines:
                document.lines[place[:length]] = 1
                self._made[place[:length]] = said

    def _within(self, node: Any, parts: Sequence[str], value: Any, above: Location, said: str) -> tuple[Any, Location]:
        """`node` with the value at its place below, and that place. Nothing is changed where it stands, as an alias of
        the file may stand there too.
        """
        if not parts:
            return value, above
        head, *rest = parts
        if isinstance(node, list):
            if not (head.isascii() and head.isdigit() and int(head) < len(node)):
                raise SuiteError([Problem(said, None, _no_item(written(above), head, len(node)))])
            inner, place = self._within(node[int(head)], rest, value, (*above, int(head)), said)
            return [*node[: int(head)], inner, *node[int(head) + 1 :]], place
        if node is not None and not isinstance(node, dict):
            message = f"{written(above)} is {found(node)} in the file, which has no keys: set {written(above)} itself"
            raise SuiteError([Problem(said, None, message)])
        section = node or {}
        inner, place = self._within(section.get(head), rest, value, (*above, head), said)
        return {**section, head: inner}, place


def _no_item(name: str, head: str, count: int) -> str:
    many = "a list of one value" if count == 1 else f"a list of {count} values"
    return f"{name} is {many} in the file, and {found(head)} is none of them: set {name} itself, or one as {name}.0"


def _value(text: str, said: str, lines: dict[Location, int]) -> Any:
    """What a text holds, and in `lines` the places within it. Raises `SuiteError`."""
    parts = list(_split(text))
    values, problems = [], []
    for number, part in enumerate(parts):
        try:
            read = _yaml.read(part.strip().encode(errors="surrogateescape"))
        except _yaml.UnreadableError as error:
            raise SuiteError([Problem(said, None, error.message)]) from None
        problems += [Problem(said, None, f.message) for f in read.findings]
        values.append(read.value)
        within: Location = (number,) if len(parts) > 1 else ()
        lines |= {(*within, *place): 1 for place in ((), *read.lines)}
    if problems:
        raise SuiteError(problems)
    lines[()] = 1
    return values if len(parts) > 1 else values[0]


def _split(text: str) -> Iterator[str]:
    """The parts of a text between commas, of those outside of brackets and of quotes."""
    part, closing, quote = "", "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not part.strip():
            quote = character
        elif character in _CLOSES:
            closing += _CLOSES[character]
        elif closing and character == closing[-1]:
            closing = closing[:-1]
        elif character == "," and not closing:
            yield part
            part = ""
            continue
        part += character
    yield part
