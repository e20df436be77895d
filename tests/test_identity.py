"""Identity: what makes a result stale, and what does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import normbench
import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.plan import digests
from normbench.plan import identity as identities
from normbench.plan.identity import Identity, closure, identity, modules_of, source_digest
from normbench.spec.architectures import builder
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import UNWRITTEN, Component, DataSpec, ModelSpec, TrainSpec, Trial, digest
from normbench.store.texts import SPEC

from tests.conftest import MakeTrial, make_plain

PLAN = """
import json, sys
from pathlib import Path
from normbench.plan import plan
from normbench.store import store
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
trials = [Trial.model_validate_json(t) for t in json.loads(Path(sys.argv[1]).read_text())]
kept = store.Store(Path(sys.argv[2]))
made = plan.make("s", trials, kept, Path(sys.argv[3]))
if sys.argv[4] == "fill":
    for item in made.items:
        kept.write("s", item.trial, item.identity.to_dict(), Outcome(status=Status.OK))
print(json.dumps({i.trial.norm_label: [i.state.value, list(i.reasons)] for i in made.items}))
print([m for m in ("torch", "timm", "ray", "foolbox") if m in sys.modules])
"""

IDENTITY = Identity(
    spec="s", data="d" * 64, code={"a": "1", "b": "2"}, protocol=1, versions={"torch": "2.9", "timm": "1.0"}
)

Ask = Callable[[str], dict[str, tuple[str, list[str]]]]


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    """What an earlier test asked for is not remembered."""
    for known in (closure, source_digest, digests._file, identities.library_versions):
        known.cache_clear()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that tests may edit."""
    target = tmp_path / "checkout" / "benchmark" / "normbench"
    shutil.copytree(Path(normbench.__file__).parent, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.fixture
def ask(copy: Path, tmp_path: Path, data_dir: Path, make_trial: MakeTrial) -> Ask:
    """Plan bn, gn and bw-zca in a fresh process on the copy; the results were stored before any edit."""
    listed = tmp_path / "trials.json"
    listed.write_text(json.dumps([make_trial(norm).model_dump_json() for norm in ("bn", "gn", "bw-zca")]))

    def run(what: str) -> dict[str, tuple[str, list[str]]]:
        answer = subprocess.run(
            [sys.executable, "-c", PLAN, str(listed), str(tmp_path / "results"), str(data_dir), what],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(copy.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        *_, states, imported = answer.stdout.splitlines()
        assert imported == "[]"
        return json.loads(states)

    assert {state for state, _ in run("fill").values()} == {"missing"}
    assert {state for state, _ in run("look").values()} == {"cached"}
    return run


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_change_in_a_method_makes_exactly_its_trials_stale(copy: Path, ask: Ask) -> None:
    path = copy / "norms" / "gn.py"
    path.write_text(path.read_text() + "\n\nADDED = 1\n")
    found = ask("look")
    assert {norm: state for norm, (state, _) in found.items()} == {"bn": "cached", "gn": "stale", "bw-zca": "cached"}
    assert found["gn"][1] == ["normbench.norms.gn: source changed"]


@pytest.mark.matrix
def test_a_change_in_a_helper_reaches_all_that_import_it(copy: Path, ask: Ask) -> None:
    path = copy / "norms" / "layers" / "whitening.py"
    path.write_text(path.read_text() + "\n\nADDED = 1\n")
    found = ask("look")
    assert {norm: state for norm, (state, _) in found.items()} == {"bn": "cached", "gn": "cached", "bw-zca": "stale"}
    base = copy / "norms" / "base.py"
    base.write_text(base.read_text() + "\n\nADDED = 1\n")
    assert {state for state, _ in ask("look").values()} == {"stale"}


@pytest.mark.matrix
def test_a_change_in_a_family_of_networks_makes_its_trials_alone_stale(copy: Path, ask: Ask) -> None:
    families = copy / "lab" / "network" / "families"
    (families / "another.py").write_text("FAMILY = None\n")
    (copy / "norms" / "another.py").write_text((copy / "norms" / "rms.py").read_text().replace('"rms"', '"another"'))
    architectures = copy / "spec" / "architectures.py"
    _edit(architectures, "FAMILIES = {\n", 'FAMILIES = {\n    "xcit": "another",\n')
    assert {state for state, _ in ask("look").values()} == {"cached"}, "a network or a method more changes no other"
    densenet = families / "densenet.py"
    densenet.write_text(densenet.read_text() + "\n\nADDED = 1\n")
    assert {state for state, _ in ask("look").values()} == {"cached"}
    resnet = families / "resnet.py"
    resnet.write_text(resnet.read_text() + "\n\nADDED = 1\n")
    found = ask("look")
    assert {state for state, _ in found.values()} == {"stale"}
    assert found["bn"][1] == ["normbench.lab.network.families.resnet: source changed"]


def test_comments_docstrings_prose_and_other_methods_change_nothing(copy: Path, ask: Ask) -> None:
    for name in ("gn", "bn", "bw_zca", "base"):
        path = copy / "norms" / f"{name}.py"
        path.write_text("# a comment\n" + path.read_text())
    _edit(copy / "norms" / "gn.py", '"""', '"""Another first line.\n\n')
    _edit(copy / "norms" / "gn.py", 'summary: ClassVar[str] = "', 'summary: ClassVar[str] = "So: ')
    (copy / "norms" / "iternorm.py").write_text("raise RuntimeError('broken')")
    assert {state for state, _ in ask("look").values()} == {"cached"}


def test_the_closure_holds_plugin_helpers_and_base_but_no_machinery() -> None:
    found = closure(frozenset({"normbench.norms.bw_zca"}))
    assert {"normbench.norms.bw_zca", "normbench.norms.base", "normbench.norms.layers.whitening"} <= found
    assert not any(name.startswith(("normbench.spec", "normbench.lab", "normbench.errors")) for name in found)
    assert closure(frozenset({"normbench.errors", "normbench.spec", "normbench.spec.trial"})) == frozenset()
    network = closure(frozenset({builder("resnet18", "cifar", 1.0)}))
    assert {"normbench.lab.network.families.resnet", "normbench.lab.network.surgery"} <= network
    assert not any(name.startswith("normbench.lab.network.families.densenet") for name in network)


def test_relative_imports_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "thirdparty"
    (package / "deep").mkdir(parents=True)
    for name, code in {
        "__init__": "",
        "method": "from .helper import f\nfrom .deep import inner\nfrom . import beside\nimport json",
        "helper": "def f(): ...",
        "deep/__init__": "from .leaf import h",
        "deep/leaf": "h = 1",
        "beside": "",
        "deep/inner": "from ..other import g",
        "other": "g = 1",
        "alone": "",
    }.items():
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    found = {"method", "helper", "beside", "deep", "deep.leaf", "deep.inner", "other"}
    assert closure(frozenset({"thirdparty.method"})) == {"thirdparty", *(f"thirdparty.{name}" for name in found)}
    assert "thirdparty" not in sys.modules


def test_a_setting_that_came_later_changes_no_earlier_id() -> None:
    """Ids of stored results, which were made before there were these settings."""
    assert make_plain().trial_id == "cf3506baa4287c1d"
    assert not set(UNWRITTEN) & set(TrainSpec().model_dump())
    assert TrainSpec.model_validate(UNWRITTEN) == TrainSpec()
    for key, value in {"ema": 0.9, "milestones": (0.3,), "nesterov": True, "mixup": 0.2}.items():
        train = TrainSpec.model_validate({key: value})
        assert train.model_dump()[key] == value
        trial = make_plain().model_copy(update={"train": train})
        assert SPEC.problem(trial.model_dump_json()) == ""
        assert trial.entry != make_plain().model_copy(update={"train": TrainSpec()}).entry


def test_each_part_has_its_reason(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    now = identity(make_trial(), "d" * 64)
    stored = json.loads(json.dumps(now.parts()))
    assert now.changes_since(stored) == []
    assert identity(make_trial(), None).changes_since(stored) == []  # a dataset that is not here yet
    assert now.changes_since(stored | {"data": "e" * 64}) == ["the dataset's content changed (eeeeeeee -> dddddddd)"]
    assert now.changes_since(stored | {"protocol": 0}) == ["the numeric protocol changed (0 -> 1)"]
    older = stored | {"versions": stored["versions"] | {"torch": "1.0"}}
    assert now.changes_since(older) == [f"torch: version changed (1.0 -> {now.versions['torch']})"]
    placed = now.placed(Outcome(status=Status.OK, provenance={"device": "NVIDIA H200", "precision": "bf16"}))
    assert (placed.device_class, placed.precision) == ("NVIDIA H200", "bf16")
    assert placed.hash != now.hash
    assert now.changes_since(placed.parts()) == [], "a result of any device is good"
    monkeypatch.setattr(identities, "library_versions", lambda: stored["versions"] | {"torch": "9"})
    assert identity(make_trial(), None).hash != now.hash


def test_the_parts_are_kept_under_their_names() -> None:
    placed = replace(IDENTITY, device_class="cpu", precision="bf16")
    parts = {
        "spec": "s",
        "data": "d" * 64,
        "code": {"a": "1", "b": "2"},
        "protocol": 1,
        "versions": {"torch": "2.9", "timm": "1.0"},
        "device_class": "cpu",
        "precision": "bf16",
    }
    assert placed.parts() == parts
    assert placed.to_dict() == {"hash": digest(parts)[:32], **parts}
    assert replace(placed, no_choice="why").parts() == parts | {"no_choice": "why"}


def test_what_is_new_or_gone_or_chosen_otherwise_has_its_reason() -> None:
    other = replace(IDENTITY, code={"b": "3", "c": "4"}, versions={"torch": "2.10", "numpy": "2.0"})
    code = ["a: source is gone", "b: source changed", "c: source is new"]
    versions = ["numpy: version is new", "timm: version is gone", "torch: version changed (2.9 -> 2.10)"]
    assert other.changes_since(IDENTITY.parts()) == code + versions
    assert other.changes_since(IDENTITY.parts(), accept_versions=True) == code
    assert IDENTITY.changes_since(IDENTITY.parts() | {"code": None, "versions": None}) == [
        "a: source is new",
        "b: source is new",
        "timm: version is new",
        "torch: version is new",
    ]
    none = replace(IDENTITY, no_choice="all diverged")
    assert none.changes_since(none.parts()) == []
    assert none.changes_since(IDENTITY.parts()) == ["tuning ended otherwise: all diverged"]
    assert IDENTITY.changes_since(none.parts()) == ["tuning ended otherwise: now its settings are chosen"]


def test_an_identity_is_of_the_trial_and_of_the_libraries_that_decide_its_numbers(make_trial: MakeTrial) -> None:
    trial = make_trial()
    now = identity(trial, "d" * 64)
    assert (now.spec, now.data, now.protocol) == (trial.trial_id, "d" * 64, 1)
    assert now.versions == {n: version(n).split("+")[0] for n in ("torch", "timm", "foolbox", "numpy", "pillow")}
    assert now.code == {name: source_digest(name) for name in closure(modules_of(trial))}
    strong = trial.model_copy(update={"attacks": (Component(name="autoattack-l2"),)})
    assert identity(strong, None).versions == now.versions | {"pyautoattack": version("pyautoattack")}


def test_a_build_tag_is_no_part_of_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up-1.2.dist-info").mkdir()
    (tmp_path / "made_up-1.2.dist-info" / "METADATA").write_text("Name: made-up\nVersion: 1.2+cpu\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(identities, "LIBRARIES", ("made-up", "not-installed"))
    assert identities.library_versions() == {"made-up": "1.2", "not-installed": "absent"}
    identities.library_versions.cache_clear()


@pytest.mark.parametrize(
    ("model", "builds"),
    [
        ({"name": "resnet18", "width": 0.5}, "normbench.lab.network.families.resnet"),
        ({"name": "resnet18", "stem": "native"}, "normbench.lab.network.family"),
        ({"name": "resnet18", "stem": "native", "width": 0.5}, "normbench.lab.network.families.resnet"),
        ({"name": "not-known"}, None),
    ],
)
def test_the_modules_of_a_trial_are_those_of_all_that_it_names(
    make_trial: MakeTrial, model: dict[str, object], builds: str | None
) -> None:
    trial = make_trial("ws+gn", adversarial=Component(name="pgd"))
    named = {"norms.ws", "norms.gn", "attacks.noise", "attacks.bim", "attacks.pgd", "measures.weight_norm"}
    expected = {"normbench.lab.network.construct", *(f"normbench.{name}" for name in named), *filter(None, [builds])}
    assert modules_of(trial.model_copy(update={"model": ModelSpec(**model)})) == expected


@given(
    st.integers(0, 3),
    st.sampled_from([16, 32]),
    st.sampled_from([0.1, 0.2]),
    st.integers(0, 3),
    st.sampled_from([16, 32]),
    st.sampled_from([0.1, 0.2]),
)
def test_trials_have_one_id_exactly_when_they_are_equal(
    seed_a: int, batch_a: int, lr_a: float, seed_b: int, batch_b: int, lr_b: float
) -> None:
    def make(seed: int, batch: int, lr: float) -> Trial:
        values = {
            "data": {"dataset": "x"},
            "model": {"name": "m"},
            "norm": [{"name": "bn"}],
            "norm_label": "bn",
            "train": {"lr": lr},
        }
        return Trial.model_validate(values | {"batch_size": batch, "seed": seed})

    a, b = make(seed_a, batch_a, lr_a), make(seed_b, batch_b, lr_b)
    assert (a.trial_id == b.trial_id) == (a == b)
    assert Trial.model_validate_json(a.model_dump_json()).trial_id == a.trial_id


def test_an_id_does_not_depend_on_the_order_of_keys_and_knows_every_field(make_trial: MakeTrial) -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    trial = make_trial()
    for change in ({"data": DataSpec(dataset="other")}, {"attacks": ()}, {"measures": ()}, {"norm_label": "x"}):
        assert trial.model_copy(update=change).model_dump() != trial.model_dump()
        assert Trial.model_validate(trial.model_dump() | change).trial_id != trial.trial_id


def test_a_digest_is_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in {"one_a": "x = 1\n", "one_b": '"""Doc."""\n\nx   =  1  # why\n', "one_c": "x = 2\n"}.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert source_digest("one_a") == source_digest("one_b") != source_digest("one_c")
    assert source_digest("one_missing") == "absent"
