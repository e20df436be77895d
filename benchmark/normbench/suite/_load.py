"""Find a suite file, read it, and say all that is wrong with it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from normbench.paths import shipped
from normbench.spec.trial import Trial
from normbench.spec.tuning import TuningSearch
from normbench.suite import _grid, _headline, _value, _yaml
from normbench.suite import _tuning as _search
from normbench.suite._changes import Changes
from normbench.suite._models import NAME, Draft, Suite
from normbench.suite._problems import Finding, Location, Problem, SuiteError, found, nearest, written
from normbench.suite._types import ReadAs


def load(ref: str | Path, changes: Sequence[str] = ()) -> Suite:
    """Read a suite: the path of a file, or a bare name such as `digits`, looked up in `suites/` here and among those
    that ship with the package. changes: values in the place of the file's, as `train.epochs=2` or `norms=bn,gn`.

    Raises `SuiteError` with every problem of the file.
    """
    path = _find(ref)
    try:
        with path.open("rb") as file:
            data = file.read(_yaml.MAX_BYTES + 1)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in _suites(path.parent)], 1)
        raise SuiteError(
            [
                Problem(
                    str(path),
                    None,
                    "there is no such file" + (f"; did you mean {path.parent / near[0]}?" if near else ""),
                )
            ]
        ) from None
    except OSError as error:
        raise SuiteError([Problem(str(path), None, f"cannot be read: {error.strerror}")]) from None
    return read(data, path, changes)


def _suites(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml")) if folder.is_dir() else []


def _folders() -> list[Path]:
    """Where suites are looked up by their name."""
    return list(dict.fromkeys((Path("suites"), shipped("suites"))))


def suite_names() -> list[str]:
    """Names that `load` finds a suite by, sorted."""
    return sorted({path.stem for folder in _folders() for path in _suites(folder)})


def _find(ref: str | Path) -> Path:
    path = Path(ref)
    if isinstance(ref, Path) or not NAME.fullmatch(ref) or path.is_file():
        return path
    for folder in _folders():
        if (folder / f"{ref}.yaml").is_file():
            return folder / f"{ref}.yaml"
    near = nearest(ref, suite_names()) or f"; there are {', '.join(suite_names()) or 'none'}"
    looked = " and ".join(map(str, _folders()))
    raise SuiteError([Problem(ref, None, f"there is no suite of this name in {looked}{near}")])


def place_of(suite: Suite, section: str, key: str, value: object) -> tuple[str, int | None]:
    """The file of a suite and the line that gives a key of a section a value, else that of the key or the section; the
    change in its place that did. Without a line where the file is gone or never was one.
    """
    if flag := suite._changes.flag((section, key)):
        return flag, None
    try:
        document = _yaml.read(suite.source.read_bytes())
    except (OSError, _yaml.UnreadableError):
        return str(suite.source), None
    written = document.value.get(section) if isinstance(document.value, dict) else None
    values = written.get(key) if isinstance(written, dict) else None
    place = next((i for i, v in enumerate(values) if v == value), 0) if isinstance(values, list) else 0
    return str(suite.source), document.line((section, key, place))


def read(data: bytes, source: Path, changes: Sequence[str] = ()) -> Suite:
    """Read a suite from bytes; `source` is named in messages, or the change that is to blame. Raises `SuiteError`."""
    try:
        document = _yaml.read(data)
    except _yaml.UnreadableError as error:
        raise SuiteError([Problem(str(source), error.line, error.message)]) from None
    changed = Changes()
    changed.apply(document, changes)
    suite = _sound(document, str(source), changed)
    suite._source, suite._changes = source, changed
    return suite


def from_values(values: Mapping[str, Any]) -> Suite:
    """A suite from a mapping of the keys that a file would have. Raises `SuiteError`."""
    return _sound(_value.document(values), "suite", Changes(), numbered=False)


def _sound(document: _yaml.Document, source: str, changed: Changes, *, numbered: bool = True) -> Suite:
    """The suite that a document holds. numbered: its lines are those of a file. Raises `SuiteError`."""
    suite, findings = _validate(document.value, document) if () not in document.spoiled else (None, [])
    if changed.any:  # of a part of a suite: rules of the file that were for the rest have no effect
        findings = [f for f in findings if not f.message.startswith(_grid.FITS_NONE) or changed.flag(f.location)]
    findings = document.findings + [f for f in findings if not any(f.location[: len(p)] == p for p in document.spoiled)]
    if findings or suite is None:
        problems = set()
        for f in findings:
            place = document.known(f.location) or f.location
            flag = changed.flag(place)
            line = (f.line or document.line(f.location)) if numbered and not flag else None
            problems.add(Problem(flag or source, line, f"{_prefix(place)}{f.message}"))
        raise SuiteError(sorted(problems, key=lambda p: (p.line or 0, p.message)))
    return suite


def _prefix(location: Location) -> str:
    return f"{written(location)}: " if location else ""


def _validate(value: Any, document: _yaml.Document) -> tuple[Suite | None, list[Finding]]:
    keys = ", ".join(_keys(Suite))
    if value is None:
        return None, [Finding((), f"the file is empty; a suite has the keys {keys}")]
    if not isinstance(value, dict):
        return None, [Finding((), f"expected the keys of a suite ({keys}), found {found(value)}")]
    try:
        suite = Suite.model_validate(value)
    except ValidationError as error:
        findings = list(_findings(error, document))
        bad = {f.location[0] if f.location else "" for f in findings}
        missing = {name for name, f in Suite.model_fields.items() if f.is_required() and (f.alias or name) not in value}
        unsound = {name for name, f in Suite.model_fields.items() if (f.alias or name) in bad} | missing
        rest = {k: v for k, v in value.items() if k not in bad and k != "suite"}
        return None, findings + _check(Draft.model_validate(rest), set(Suite.model_fields) - unsound)
    return suite, _check(suite, set(Suite.model_fields))


def _check(suite: Suite, sound: set[str]) -> list[Finding]:
    search = _search.check(suite, sound)
    follows = {
        f.location[:length] for f in search for length in (1, 2)
    }  # a rule that may not be there needs no second message
    return [f for f in _grid.check(suite, sound) if f.location not in follows] + search + _headline.check(suite, sound)


def _findings(error: ValidationError, document: _yaml.Document) -> Iterator[Finding]:
    """The errors of pydantic, each with its place in the file. Errors of the members of a union become one finding."""
    for e in error.errors(include_url=False):
        location = tuple(e["loc"])
        place = document.known(location)
        if e["type"] == "suite_within":
            yield from (Finding((*place, *within), message) for within, message in e["ctx"]["problems"])
        elif e["type"] == "extra_forbidden":
            yield Finding(place, _unknown_key(location))
        elif e["type"] == "missing":
            yield Finding(place, f"the key {location[-1]!r} is missing")
        elif e["type"] == "too_short":
            if not e["input"]:  # pydantic counts only the valid values of a list
                yield Finding(place, "expected at least one value, found an empty list")
        elif e["type"] in {"model_type", "dict_type"}:
            model = _model_at(location)
            keys = f" ({', '.join(_keys(model))})" if model else ""
            yield Finding(place, f"expected a mapping of keys{keys}, found {found(e['input'])}")
        else:
            yield Finding(place, e["msg"])


def _unknown_key(location: Location) -> str:
    *above, key = location
    model = _model_at(tuple(above))
    keys = _keys(model) if model else []
    hint = nearest(key, keys)
    if not above and not hint:
        inner = {
            k: f"{name}.{k}"
            for name in ("limits", "data", "train")
            if (section := _model_at((name,)))
            for k in _keys(section)
        }
        near = difflib.get_close_matches(str(key), inner, 1)
        hint = f"; did you mean {inner[near[0]]!r}?" if near else ""
    return f"unknown key; allowed are {', '.join(keys)}{hint}"


def _keys(model: type[BaseModel]) -> list[str]:
    return [f.alias or name for name, f in model.model_fields.items()]


def _model_at(location: Location) -> type[BaseModel] | None:
    """The class of the section at a location."""
    model: type[BaseModel] | None = Suite
    for part in location:
        if isinstance(part, str) and model is not None:
            fields = model.model_fields
            model = _model_in(fields[part].rebuild_annotation()) if part in fields else None
    return model


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    read_as = [m.kind for m in get_args(kind) if isinstance(m, ReadAs)]
    return next((m for m in map(_model_in, read_as or get_args(kind)) if m), None)


def expand(suite: Suite) -> list[Trial]:
    """The trials of a suite that are known before anything is run, without duplicates. They stand seed by seed; within
    a seed, trials of one shape stand together.

    Of a suite with `tune` these are the candidates; `searches` also has the final trials that follow from them. Raises
    `SuiteError`.
    """
    return (
        _grid_of(suite) if suite.tune is None else [trial for search in searches(suite) for trial in search.candidates]
    )


def searches(suite: Suite) -> list[TuningSearch]:
    """The choices that a suite with `tune` makes, each with its candidates and its final trials; none without. Raises
    `SuiteError`.
    """
    return [] if suite.tune is None else _search.searches(suite.tune, _grid_of(suite))


def _grid_of(suite: Suite) -> list[Trial]:
    try:
        return _grid.build(suite)[0]
    except _grid.GridError as error:
        raise SuiteError(
            [Problem(str(suite.source), None, f"{_prefix(f.location)}{f.message}") for f in error.findings]
        ) from None
