"""The JSON schema of suite files, by which editors check and complete them."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

import normbench.attacks as attacks
import normbench.measures as measures
import normbench.norms as norms
import normbench.statistics as statistics
from normbench.spec.about import Headline
from normbench.spec.plugins import Registry
from normbench.spec.trial import DataSpec, Limits, ModelSpec, TrainSpec
from normbench.suite._methods import FAMILY
from normbench.suite._models import Override, Suite
from normbench.suite._sections import TUNABLE, TuneOptions

_DESCRIBED: tuple[tuple[str, type[BaseModel]], ...] = (
    ("", Suite),
    ("Data", DataSpec),
    ("Train", TrainSpec),
    ("Model", ModelSpec),
    ("Limits", Limits),
    ("Override", Override),
    ("Headline", Headline),
    ("Tune", TuneOptions),
    ("Tune", TrainSpec),
)


class _Plain(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a suite file, with the names and parameters of all registered plug-ins."""
    schema: dict[str, Any] = _replace_families(Suite.model_json_schema(by_alias=True, schema_generator=_Plain))
    schema["description"] = " ".join(schema["description"].split())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    definitions = schema["$defs"]
    for name, model in _DESCRIBED:
        properties = (definitions[name] if name else schema)["properties"]
        for field, text in docstrings(model).items():
            key = model.model_fields[field].alias or field
            if key in properties:
                properties[key]["description"] = text
    for rule in ("When", "Include", "Change"):  # None is the default; a file may not write null there
        for parameter in definitions[rule]["properties"].values():
            parameter.pop("default")
    for key in TUNABLE:
        definitions["Tune"]["properties"][key].pop("default")
    for key in ("tune", "headline"):
        schema["properties"][key].pop("default")
    broken = norms.registry.problems()
    alone = [
        n for n in norms.registry.names() if n in broken or not issubclass(norms.registry.get(n), norms.NormModifier)
    ]
    definitions["Norm"] = {
        "anyOf": [{"enum": alone}, {"type": "string", "pattern": r"[\[+]"}],
        "description": "`gn[groups=8]`, `ws+gn`, `bn+noise`",
    }
    for family, registry in (
        ("Attack", attacks.registry),
        ("Measure", measures.registry),
        ("Statistics", statistics.registry),
    ):
        definitions[family] = _plugins(registry, definitions)
    return schema


def _replace_families(schema: Any) -> Any:
    if isinstance(schema, dict):
        if FAMILY in schema:
            return {"$ref": f"#/$defs/{schema[FAMILY].capitalize()}"}
        return {key: _replace_families(value) for key, value in schema.items()}
    return [_replace_families(value) for value in schema] if isinstance(schema, list) else schema


def _plugins(registry: Registry[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A name, or a mapping of one name to its parameters. Plug-ins that cannot be imported are left out."""
    broken = registry.problems()
    parameters = {}
    for name in registry.names():
        if name not in broken:
            cls = registry.get(name)
            own = cls.model_json_schema(schema_generator=_Plain)
            definitions.update(own.pop("$defs", {}))
            parameters[name] = own | {"title": name, "description": cls.summary}
    mapping = {
        "type": "object",
        "properties": parameters,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [{"enum": list(parameters)}, mapping]}


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a class, on one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    found = {}
    for field, below in itertools.pairwise(tree.body if isinstance(tree, ast.ClassDef) else []):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found
