"""The JSON schema of suite files, and the page that explains them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from normbench import attacks, measures, norms
from normbench.paths import checkout, shipped
from normbench.spec.trial import DataSpec, Limits, TrainSpec
from normbench.suite import Suite, SuiteError, TuneOptions, expand, json_schema, load
from normbench.suite._load import read
from normbench.suite._yaml import read as read_yaml


def test_the_schema_that_ships_is_the_one_printed() -> None:
    assert json.loads(shipped("suites", "schema.json").read_text()) == json_schema(), (
        "run `bench schema > suites/schema.json`"
    )


def test_the_schema_names_plugins_and_explains_keys() -> None:
    schema = json_schema()
    properties = schema["properties"]
    assert next(iter(properties)) == "suite"
    assert all("description" in p for p in properties.values())
    definitions = schema["$defs"]
    assert definitions["Norm"]["anyOf"][0]["enum"] == [
        n for n in norms.registry.names() if not issubclass(norms.registry.get(n), norms.NormModifier)
    ]
    for name, registry in (("Attack", attacks.registry), ("Measure", measures.registry)):
        assert definitions[name]["anyOf"][0]["enum"] == registry.names()
        for plugin, parameters in definitions[name]["anyOf"][1]["properties"].items():
            assert set(parameters["properties"]) == set(registry.get(plugin).model_fields)
    for section, model in (("Data", DataSpec), ("Train", TrainSpec), ("Limits", Limits)):
        assert set(definitions[section]["properties"]) == set(model.model_fields)
    assert definitions["Train"]["properties"]["lr"]["default"] == TrainSpec().lr
    assert "description" in definitions["Train"]["properties"]["warmup"]


def test_references_in_the_schema_lead_somewhere() -> None:
    schema = json_schema()
    references = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert references == set(schema["$defs"])


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("path", sorted(shipped("suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_suites_that_ship_fit_the_schema(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(read_yaml(path.read_bytes()).value)  # YAML 1.2, as editors read it: `on` is a word


GOOD = {"suite": "x", "data": {"dataset": "digits"}, "models": "resnet18", "norms": "gn"}
WRONG: list[dict[str, Any]] = [
    {"suite": "../x"},
    {"norms": "gnn"},
    {"train": {"epochs": 0}},
    {"train": {"epoch": 1}},
    {"train": {"lr": "high"}},
    {"attacks": ["bmi"]},
    {"attacks": [{"bim": {"step": 1}}]},
    {"seeds": 0},
    {"seeds": []},
    {"overrides": [{"when": {"norm": "gn"}}]},
    {"models": {"stem": "native"}},
    {"tune": {"lr": [0.1, "high"]}},
    {"tune": {"epochs": [1, 2]}},
    {"tune": {"lr": [0.1, 0.2], "scheduler": "random"}},
    {"tune": {"lr": [0.1, 0.2], "per": ["seed"]}},
    {"tune": None},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_the_schema_refuses_what_the_loader_refuses(
    change: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    assert validator.is_valid(GOOD)
    assert not validator.is_valid(GOOD | change)
    with pytest.raises(SuiteError):
        read(yaml.safe_dump(GOOD | change).encode(), Path("f.yaml"))


def _page() -> str:
    root = checkout()
    if root is None:
        pytest.skip("the documentation is part of a checkout only")
    return (root / "docs" / "suites.md").read_text()


def test_every_example_of_the_page_is_read(tmp_path: Path) -> None:
    """A block that starts with `suite:` is a whole file; any other is added to the first one, in place of what that
    says under the same keys.
    """
    blocks = re.findall(r"^```yaml\n(.*?)^```$", _page(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 10
    whole = read_yaml(blocks[0].encode()).value
    for block in blocks:
        text = (
            block
            if block.startswith("suite:")
            else yaml.safe_dump({**whole, **read_yaml(block.encode()).value}, sort_keys=False)
        )
        (tmp_path / "example.yaml").write_text(text)
        assert expand(load(tmp_path / "example.yaml")), block


def test_the_page_names_every_key() -> None:
    page = _page()
    keys = [f.alias or k for k, f in Suite.model_fields.items()]
    keys += [*DataSpec.model_fields, *TrainSpec.model_fields, *Limits.model_fields, *TuneOptions.model_fields]
    assert [k for k in keys if f"`{k}`" not in page] == []


def test_messages_of_the_page_are_those_of_the_program() -> None:
    page = _page()
    wrong, shown = (
        re.search(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) for kind in ("yaml wrong", "text wrong")
    )
    assert wrong is not None
    assert shown is not None
    with pytest.raises(SuiteError) as caught:
        read(wrong[1].encode(), Path("mine.yaml"))
    assert str(caught.value) == shown[1].strip()
