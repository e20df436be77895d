"""Plug-ins: found by file, read from text, named when they are broken."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from normbench import attacks, measures, norms
from normbench.attacks import Attack
from normbench.spec import plugins
from normbench.spec.plugins import PluginError, Registry
from normbench.spec.text import number, show


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"),
        (0.2, "0.2"),
        (1 / 16, "0.0625"),
        (0.1, "0.1"),
        (3, "3"),
        (True, "true"),
        ((0.5, 1 / 255), "0.5;1/255"),
        (1.0, "1"),
    ],
)
def test_numbers_are_shown_as_people_write_them(value: object, text: str) -> None:
    assert show(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), ("5e-4", 5e-4), (" 1 / 16 ", 1 / 16), ("three", "three"), ("1/0", "1/0"), (3, 3)],
)
def test_numbers_may_be_fractions(text: object, value: object) -> None:
    assert number(text) == value


@pytest.mark.parametrize("registry", [norms.registry, attacks.registry, measures.registry], ids=lambda r: r.kind)
def test_every_plugin_loads_and_describes_itself(registry: Registry) -> None:
    assert registry.problems() == {}
    for name in registry.names():
        cls = registry.get(name)
        assert cls.name == name
        assert cls.summary
        assert cls.source
        assert cls.__doc__ or sys.modules[cls.__module__].__doc__
        made = registry.make(name)
        assert registry.from_component(made.component()) == made


def test_listing_and_loading_plugins_leaves_torch_alone() -> None:
    """Planning asks for names, parameters and claims; none of that may cost the import of torch."""
    code = (
        "import sys; from normbench import norms, attacks, measures\n"
        "for r in (norms.registry, attacks.registry, measures.registry): assert not r.problems(), r.problems()\n"
        "print([m for m in ('torch', 'timm', 'foolbox', 'ray') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groupnorm-s", "no norm is called 'groupnorm-s'"),
        ("ghost-bm", "did you mean 'ghost-bn'"),
        ("gn[grops=8]", "has no parameter 'grops'.*did you mean 'groups'"),
        ("gn[groups=many]", "groups: .*found 'many'"),
        ("gn[groups]", "expected parameter=value"),
        ("gn[groups=2,groups=4]", "given twice"),
        ("gn[groups=2", "is no norm"),
        ("", "is no norm"),
        ("bn+gn", "one weight method, one activation method and one modifier, found 0, 2 and 0"),
        ("bn+", "is no norm"),
    ],
)
def test_wrong_text_is_explained(text: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        norms.resolve(text)


def test_a_label_reads_back_to_the_same_method() -> None:
    label, components = norms.resolve(" gn[ groups = 8 ] ")
    assert label == "gn[groups=8]"
    assert norms.resolve(label) == (label, components)


def test_one_method_has_one_label() -> None:
    assert norms.resolve("wn+none") == norms.resolve("wn")
    assert norms.resolve("gn+ws")[0] == "ws+gn"


def _registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> Registry[Attack]:
    folder = tmp_path / "family"
    folder.mkdir()
    for name, code in {"__init__": "", **files}.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for module in [m for m in sys.modules if m.partition(".")[0] == "family"]:
        monkeypatch.delitem(sys.modules, module)
    return Registry("attack", "family", Attack, "normbench.none")


_GOOD = """
from normbench.attacks.noise import Noise
class Good(Noise):
    name = "{name}"
"""


def test_a_broken_plugin_is_named_and_takes_nothing_else_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = _registry(
        tmp_path,
        monkeypatch,
        {
            "good": _GOOD.format(name="good"),
            "broken": "import nowhere_to_be_found",
            "nothing": "x = 1",
            "misnamed": _GOOD.format(name="other"),
        },
    )
    assert registry.make("good").name == "good"
    problems = registry.problems()
    assert set(problems) == {"broken", "nothing", "misnamed"}
    assert "nowhere_to_be_found" in problems["broken"]
    assert "exactly one Attack" in problems["nothing"]
    assert "calls itself 'other'" in problems["misnamed"]


def test_entry_points_register_and_duplicates_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = _registry(
        tmp_path, monkeypatch, {"good": _GOOD.format(name="good"), "_elsewhere": _GOOD.format(name="far")}
    )
    entries = [
        EntryPoint("far", "family._elsewhere:Good", "g"),
        EntryPoint("good", "family._elsewhere:Good", "g"),
        EntryPoint("odd", "json:dumps", "g"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    assert registry.names() == ["far", "good", "odd"]
    assert registry.make("far").name == "far"
    problems = registry.problems()
    assert set(problems) == {"good", "odd"}
    assert "registered more than once: family.good, family._elsewhere:Good" in problems["good"]
    assert "not a subclass" in problems["odd"]


#: What people write who know a method from its paper, from torch or from foolbox, and what is meant.
KNOWN = (
    (
        norms.registry,
        {
            "layernorm": {"ln", "ln-tok"},
            "LayerNorm": {"ln", "ln-tok"},
            "batchnorm": {"bn"},
            "BatchNorm2d": {"bn"},
            "batch_norm": {"bn"},
            "Batch normalisation": {"bn"},
            "rmsnorm": {"rms"},
            "groupnorm": {"gn"},
            "instancenorm": {"in"},
            "InstanceNorm2d": {"in"},
            "weightnorm": {"wn"},
            "spectralnorm": {"sn"},
            "SyncBatchNorm": {"syncbn"},
            "weight standardization": {"ws"},
            "evonorm": {"evonorm-b0", "evonorm-s0"},
            "BN": {"bn"},
            "layernom": {"ln", "ln-tok"},  # misspelt too
            "gruopnorm": {"gn"},
        },
    ),
    (
        attacks.registry,
        {
            "pgd-linf": {"pgd"},
            "PGD (L-infinity)": {"pgd"},
            "fgsm-linf": {"fgsm"},
            "bim-linf": {"bim"},
            "mim-linf": {"mim"},
            "projected_gradient_descent": {"pgd"},
            "deepfool-l2": {"deepfool"},
            "cw": {"cw-l2"},
            "pgd-l22": {"pgd-l2"},
        },
    ),
)


@pytest.mark.parametrize(
    ("registry", "text", "meant"),
    [pytest.param(r, text, meant, id=text) for r, known in KNOWN for text, meant in known.items()],
)
def test_a_name_that_people_know_leads_to_what_it_means_and_to_nothing_else(
    registry: Registry, text: str, meant: set[str]
) -> None:
    with pytest.raises(PluginError) as caught:
        registry.get(text)
    hint = str(caught.value).partition("; ")[2]
    assert hint.startswith("did you mean ")
    assert set(hint.removeprefix("did you mean ").removesuffix("?").split(" or ")) == {repr(name) for name in meant}


@pytest.mark.parametrize("registry", [norms.registry, attacks.registry, measures.registry], ids=lambda r: r.kind)
def test_aliases_lead_to_their_plugin_and_are_nobodys_name(registry: Registry) -> None:
    for name in registry.names():
        for alias in vars(registry.get(name)).get("aliases", ()):
            assert name in registry.known_as(alias)
            assert alias not in registry.names()


def test_an_attack_within_a_ball_is_known_by_its_name_with_the_ball() -> None:
    """`pgd-l2` is an attack of its own, so that people expect a `pgd-linf`."""
    for name in attacks.registry.names():
        threat = attacks.registry.get(name).threat
        if threat in {"linf", "l2", "l1"} and not name.endswith(threat):
            assert name in attacks.registry.known_as(f"{name}-{threat}")


def test_a_plugin_does_not_go_by_the_aliases_of_the_one_it_derives_from() -> None:
    assert issubclass(attacks.registry.get("pgd-l2"), attacks.registry.get("pgd"))
    assert attacks.registry.known_as("projected-gradient-descent") == ["pgd"]
