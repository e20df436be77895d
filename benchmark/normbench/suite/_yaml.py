"""YAML as a suite file uses it: mappings with text keys, lists, text, numbers, true, false and null, each with its
line.

Only PyYAML's event parser is used. Values are built here, so nothing in a file can name a Python object. Scalars are
read by the core schema of YAML 1.2: `5e-4` is a number; `no` and `1:30` are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from normbench.suite._problems import Finding, Location, found, short

#: A suite is a page of text; larger files are something else, and are parsed at about 100 kB a second.
MAX_BYTES = 100_000
#: Levels of nesting; a suite needs five.
MAX_DEPTH = 20
#: Most values of a file. Those behind an alias count each time, so nested aliases cannot unfold to more.
MAX_VALUES = 100_000

_INT = re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {**dict.fromkeys(("", "~", "null", "Null", "NULL"), None), **dict.fromkeys(("true", "True", "TRUE"), True)}
_WORDS |= dict.fromkeys(("false", "False", "FALSE"), False)
#: Characters that no text of a suite needs: control characters but tab and newline, and surrogates, which cannot be
#: written as UTF-8.
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class UnreadableError(ValueError):
    """The file cannot be read: it is not text, not YAML, or too large."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line, self.message = line, message


@dataclass
class Document:
    """A file's values, the line of each, and what was wrong with them. `spoiled`: where a value could not be read and
    stands as None.
    """

    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    spoiled: set[Location] = field(default_factory=set)

    def known(self, location: Location) -> Location:
        """The part of `location` that the file has. A position in a list is left out where the file writes a single
        value instead of the list.
        """
        place: Location = ()
        for part in location:
            if (*place, part) in self.lines:
                place = (*place, part)
            elif isinstance(part, str):
                break
        return place

    def line(self, location: Location) -> int:
        return self.lines.get(self.known(location), 1)


def plain(text: str) -> Any:
    """An unquoted scalar. Infinity and NaN come back as floats."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", "", 1))
    return float(text) if _FLOAT.fullmatch(text) else text


def read(data: bytes) -> Document:
    """Read one YAML document. Raises `UnreadableError`; lesser problems are the document's findings."""
    if len(data) > MAX_BYTES:
        raise UnreadableError(None, f"larger than {MAX_BYTES:,} bytes; a suite is a page of YAML text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(
            data[: error.start].count(b"\n") + 1, f"byte {data[error.start]:#04x} is not UTF-8; a suite is a text file"
        ) from None
    if unwanted := _UNWANTED.search(text.replace("\r\n", "\n")):
        line = text.count("\n", 0, unwanted.start()) + 1
        raise UnreadableError(line, f"character {ord(unwanted[0]):#04x} is not text; a suite is a text file")
    return _Builder(text).build()


class _Built(NamedTuple):
    """A value, how many values it holds (itself included), and how many levels."""

    value: Any
    size: int = 1
    height: int = 1


class _Builder:
    def __init__(self, text: str) -> None:
        self.document = Document()
        self.events = self._events(text)
        self.anchors: dict[str, _Built | None] = {}

    def _events(self, text: str) -> Iterator[Any]:
        line = 1
        events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        try:
            for event in events:
                line = event.start_mark.line + 1
                yield event
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            hint = "; indent with spaces, not tabs" if "'\\t'" in (error.problem or "") else ""
            raise UnreadableError(
                line if mark is None else mark.line + 1, f"not valid YAML: {error.problem or error.context}{hint}"
            ) from None
        except (
            yaml.YAMLError,
            ValueError,
            OverflowError,
        ) as error:  # PyYAML lets escapes and version numbers out of range through to chr() and int()
            raise UnreadableError(line, f"not valid YAML: {' '.join(str(error).split())[:120]}") from None

    def build(self) -> Document:
        next(self.events)  # start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return self.document
        self.document.value = self._node(next(self.events), (), 1).value
        next(self.events)  # end of the document
        if not isinstance(event := next(self.events), yaml.StreamEndEvent):
            raise UnreadableError(event.start_mark.line + 1, "a second document starts here; a suite file holds one")
        return self.document

    def _report(self, event: Any, location: Location, message: str) -> None:
        self.document.findings.append(Finding(location, message, event.start_mark.line + 1))

    def _spoil(self, event: Any, location: Location, message: str) -> None:
        self._report(event, location, message)
        self.document.spoiled.add(location)

    def _node(self, event: Any, location: Location, depth: int) -> _Built:
        """The value that starts with `event`."""
        line = event.start_mark.line + 1
        self.document.lines.setdefault(location, line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, location, depth)
        self._check_depth(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.SequenceStartEvent):
            built = self._list(location, depth)
        elif isinstance(event, yaml.MappingStartEvent):
            built = self._mapping(location, depth)
        else:
            built = _Built(self._scalar(event, location))
        if built.size > MAX_VALUES:
            raise UnreadableError(
                line, f"holds more than {MAX_VALUES:,} values, those behind aliases counted each time"
            )
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._spoil(
                event,
                location,
                f"the tag {short(tag)} is not allowed; a suite holds plain text, numbers, lists and mappings",
            )
            built = _Built(None)
        if event.anchor is not None:
            self.anchors[event.anchor] = built
        return built

    def _check_depth(self, event: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise UnreadableError(event.start_mark.line + 1, f"nested deeper than {MAX_DEPTH} levels")

    def _alias(self, event: Any, location: Location, depth: int) -> _Built:
        if event.anchor not in self.anchors:
            self._spoil(event, location, f"the alias *{short(event.anchor)} has no anchor of that name above it")
            return _Built(None)
        known = self.anchors[event.anchor]
        if known is None:
            self._spoil(event, location, f"the alias *{short(event.anchor)} stands inside the value that it names")
            return _Built(None)
        self._check_depth(event, depth + known.height - 1)
        return known

    def _list(self, location: Location, depth: int) -> _Built:
        items: list[_Built] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*location, len(items)), depth + 1))
        return _Built(
            [i.value for i in items], 1 + sum(i.size for i in items), 1 + max((i.height for i in items), default=0)
        )

    def _mapping(self, location: Location, depth: int) -> _Built:
        entries: dict[str, _Built] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, location, depth)
            if key is None:
                self._skip(next(self.events), depth)
                continue
            place = (*location, key)
            if key in entries:
                self._report(
                    event, place, f"the key {found(key)} is given twice, first on line {self.document.lines[place]}"
                )
                self._skip(next(self.events), depth)
                continue
            self.document.lines[place] = event.start_mark.line + 1
            entries[key] = self._node(next(self.events), place, depth + 1)
        size, height = (
            1 + sum(1 + e.size for e in entries.values()),
            1 + max((e.height for e in entries.values()), default=0),
        )
        return _Built({k: e.value for k, e in entries.items()}, size, height)

    def _key(self, event: Any, location: Location, depth: int) -> str | None:
        """The text of a key; None, with a finding, where it cannot be one."""
        if not isinstance(event, yaml.ScalarEvent):
            named = isinstance(event, yaml.AliasEvent)
            self._report(event, location, f"a key must be text, found {'an alias' if named else 'a list or mapping'}")
            if not named:
                self._skip(event, depth)
            return None
        if event.tag is None and event.style is None and event.value == "<<":
            self._report(event, location, "merge keys (<<) are not read; write the keys out")
            return None
        value = plain(event.value) if event.style is None else event.value
        if not isinstance(value, str) or event.tag is not None or event.anchor is not None or _UNWANTED.search(value):
            self._report(event, location, f"a key must be plain text, found {found(value)}")
            return None
        return value

    def _skip(self, event: Any, depth: int) -> None:
        """Pass over a value; what is in it is not reported."""
        level = depth
        while True:
            if isinstance(event, yaml.CollectionStartEvent):
                level += 1
                self._check_depth(event, level)
            level -= isinstance(event, yaml.CollectionEndEvent)
            if level == depth:
                return
            event = next(self.events)

    def _scalar(self, event: Any, location: Location) -> Any:
        value = plain(event.value) if event.style is None else event.value
        if isinstance(value, float) and not math.isfinite(value):
            self._spoil(event, location, f"expected a finite number, found {short(event.value)}")
            return None
        if isinstance(value, str) and (unwanted := _UNWANTED.search(value)):
            self._spoil(event, location, f"the text holds the character {ord(unwanted[0]):#04x}, which is no text")
            return None
        return value
