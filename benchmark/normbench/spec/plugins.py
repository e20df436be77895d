"""Plug-ins: norms, attacks and measures are found, named and given parameters in the same way.

A plug-in is one file with one class in its family's folder; putting the file there registers it. Its name is the file's
name with `_` read as `-` (a trailing `_` avoids Python keywords: `in_.py` is `in`). A package elsewhere registers one
through an entry point (`normbench.norms`, `normbench.attacks`, `normbench.measures`). Names are known without importing
anything; a plug-in's file is imported when it is asked for, and files here import torch only inside the methods that
run in a trial, so that planning never pays for it.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from normbench.errors import BenchError
from normbench.spec.text import closest, show
from normbench.spec.trial import Component


class PluginError(BenchError, ValueError):
    """A plug-in is unknown, broken, registered twice, or was given wrong parameters; the message says which."""


#: The largest whole number that a parameter takes whose field states no other limit. It is above every number of
#: channels, images or steps that is meant; what counts up to a parameter, or makes so many of something, ends soon.
MOST = 1_000_000
#: The kind of error of a number above it.
TOO_LARGE = "too_large"


def _state_limit(schema: dict[str, Any]) -> None:
    """Put `MOST` into the JSON schema of a plug-in, wherever a whole number has no limit of its own."""
    for field_schema in schema.get("properties", {}).values():
        for part in (field_schema, field_schema.get("items", {}), *field_schema.get("anyOf", ())):
            if part.get("type") == "integer" and not {"maximum", "exclusiveMaximum"} & part.keys():
                part["maximum"] = MOST


class Plugin(BaseModel):
    """Base of every plug-in class. Fields are its parameters, typed, with defaults; class variables describe it.

    A subclass states `summary` (a few words for tables) and `source` (paper, equation), and may list `aliases`: names
    that people know it under, by which a wrong name leads to it. They are no names: a suite writes `name`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=_state_limit)

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()

    @field_validator("*")
    @classmethod
    def _of_a_sane_size(cls, value: Any) -> Any:
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) > MOST:
                raise PydanticCustomError(TOO_LARGE, f"expected a whole number of at most {MOST:,}")
        return value

    def lacks(self, data_dir: Path | None) -> str:
        """What it needs and this machine has not, found without running it: a package, files in the data folder. Empty
        where nothing is missing.
        """
        return ""

    def component(self) -> Component:
        """Name and all parameters, defaults included, as plain values."""
        return Component(name=self.name, params=self.model_dump(mode="json"))

    def label(self, without: frozenset[str] = frozenset()) -> str:
        """The name with those parameters in brackets that differ from their defaults: `gn[groups=8]`."""
        defaults = {k: f.get_default(call_default_factory=True) for k, f in type(self).model_fields.items()}
        changed = {
            k: getattr(self, k) for k in type(self).model_fields if k not in without and getattr(self, k) != defaults[k]
        }
        if not changed:
            return self.name
        return f"{self.name}[{','.join(f'{k}={show(v)}' for k, v in changed.items())}]"


def spelling(text: str) -> str:
    """What spellings of one name share: `Batch Normalization`, `batch_norm` and `BatchNorm2d` are `batchnorm`."""
    text = text.casefold()
    for pattern, shared in _SAME:
        text = pattern.sub(shared, text)
    return text


#: Files of a family's folder that hold its contract, its checks and its template instead of a plug-in.
NOT_PLUGINS = frozenset({"base", "check", "scaffold"})

#: Spellings that are one, in the order in which they are read.
_SAME = (
    (re.compile(r"[^a-z0-9]+"), ""),
    (re.compile(r"isation"), "ization"),
    (re.compile(r"normalization"), "norm"),
    (re.compile(r"linfinity"), "linf"),
    (re.compile(r"(?<=[a-z])[123]d$"), ""),
)

P = TypeVar("P", bound=Plugin)
_ITEM = re.compile(r"([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?")


@dataclass
class Registry(Generic[P]):
    """The plug-ins of one family.

    `package`: the folder, as a module name. `base`: the class that they derive from. `group`: entry points of other
    packages.
    """

    kind: str
    package: str
    base: type[P]
    group: str
    _loaded: dict[str, type[P]] = field(default_factory=dict)

    @cached_property
    def _files(self) -> dict[str, str]:
        path = importlib.import_module(self.package).__path__
        found = (
            m.name
            for m in pkgutil.iter_modules(path)
            if not m.ispkg and m.name not in NOT_PLUGINS and not m.name.startswith("_")
        )
        return {name.rstrip("_").replace("_", "-"): f"{self.package}.{name}" for name in found}

    @cached_property
    def _entries(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for entry in entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        return found

    def names(self) -> list[str]:
        """All registered names, sorted, without importing any plug-in."""
        return sorted({*self._files, *self._entries})

    def get(self, name: str) -> type[P]:
        """The class of a name. Raises `PluginError` when it is unknown, registered twice, or cannot be imported."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> type[P]:
        entries = self._entries.get(name, [])
        if name not in self._files and not entries:
            raise PluginError(f"no {self.kind} is called {name!r}{self._nearest(name)}")
        if len(entries) + (name in self._files) > 1:
            origins = [self._files[name]] if name in self._files else []
            raise PluginError(
                f"{self.kind} {name!r} is registered more than once: {', '.join(origins + [e.value for e in entries])}"
            )
        origin = self._files[name] if name in self._files else entries[0].value
        try:
            found = self._in_module(origin) if name in self._files else entries[0].load()
        except PluginError:
            raise
        except Exception as error:  # a plug-in is foreign code: whatever it raises is reported under its name
            raise PluginError(
                f"{self.kind} {name!r} cannot be imported from {origin}: {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise PluginError(
                f"{self.kind} {name!r}: {origin} is not a subclass of {self.base.__module__}.{self.base.__name__}"
            )
        if getattr(found, "name", None) != name:
            raise PluginError(
                f"{self.kind} {name!r}: the class in {origin} calls itself {getattr(found, 'name', None)!r}"
            )
        return found

    def _in_module(self, module_name: str) -> type[P]:
        module = importlib.import_module(module_name)
        own = [
            c
            for _, c in inspect.getmembers(module, inspect.isclass)
            if issubclass(c, self.base)
            and c.__module__ == module_name
            and not inspect.isabstract(c)
            and "name" in vars(c)
        ]
        if len(own) != 1:
            raise PluginError(
                f"{module_name} must define exactly one {self.base.__name__} with a `name`, found {len(own)}"
            )
        return own[0]

    def problems(self) -> dict[str, str]:
        """Import everything; what is broken, by name."""
        found = {}
        for name in self.names():
            try:
                self.get(name)
            except PluginError as error:
                found[name] = str(error)
        return found

    def make(self, name: str, params: dict[str, Any] | None = None) -> P:
        """An instance with checked parameters. Raises `PluginError` naming each wrong one."""
        cls = self.get(name)
        try:
            return cls(**(params or {}))
        except ValidationError as error:
            known = list(cls.model_fields)
            lines = []
            for problem in error.errors():
                where = ".".join(str(p) for p in problem["loc"])
                if problem["type"] == "extra_forbidden":
                    near = difflib.get_close_matches(where, known, 1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    lines.append(
                        f"{self.kind} {name!r} has no parameter {where!r}; it has {', '.join(known) or 'none'}{hint}"
                    )
                else:
                    found = repr(problem["input"])
                    found = found if len(found) <= 60 else f"{found[:50]}... ({len(found):,} characters)"
                    lines.append(
                        f"{self.kind} {name!r}: {where or 'parameters'}: "
                        f"{problem['msg'][:1].lower()}{problem['msg'][1:]}, found {found}"
                    )
            raise PluginError("; ".join(lines)) from None

    def parse(self, text: str) -> P:
        """Read `gn`, `gn[groups=8]` or `x[a=1,b=8/255]`; the values of a list stand between semicolons: `x[a=1;2]`."""
        match = _ITEM.fullmatch(text.strip())
        if not match:
            raise PluginError(f"{text!r} is no {self.kind}: expected a name, or a name[parameter=value,...]")
        params: dict[str, Any] = {}
        for part in filter(None, (p.strip() for p in (match[2] or "").split(","))):
            key, equals, value = (s.strip() for s in part.partition("="))
            if not equals or not key or not value:
                raise PluginError(f"{text!r}: expected parameter=value in the brackets, found {part!r}")
            if key in params:
                raise PluginError(f"{text!r}: parameter {key!r} is given twice")
            params[key] = [v.strip() for v in value.split(";")] if ";" in value else value
        return self.make(match[1].strip(), params)

    def from_component(self, component: Component) -> P:
        """The instance that a stored component describes."""
        return self.make(component.name, component.params)

    def known_as(self, text: str) -> list[str]:
        """Names of the plug-ins that people know as `text`, in whatever spelling: `LayerNorm` gives `ln` and `ln-tok`.

        They know a plug-in by its name, by its aliases, and by what its summary says before a colon.
        """
        return self._spellings.get(spelling(text), [])

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        """Names by the `spelling` of all that a plug-in is known as. A broken one is known by its name alone."""
        found: dict[str, list[str]] = {}
        for name in self.names():
            known = [name]
            with suppress(PluginError):
                cls = self.get(name)
                # A parent's aliases are not those of the plug-in that derives from it.
                known += [*vars(cls).get("aliases", ()), cls.summary.partition(":")[0]]
            for text in dict.fromkeys(map(spelling, known)):
                found.setdefault(text, []).append(name)
        return found

    def _nearest(self, name: str) -> str:
        near = closest(spelling(name), self._spellings, 0.5)
        if not near:
            return f"; there are {', '.join(self.names())}"
        names = dict.fromkeys(n for text in near for n in self._spellings[text])
        return f"; did you mean {' or '.join(map(repr, names))}?"
