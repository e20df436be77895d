"""`--set KEY=VALUE`: as if the value stood in the file, checked like it, and the flag is named."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.paths import checkout
from normbench.plan.fingerprints import Fingerprints
from normbench.plan.located import located
from normbench.suite import Suite, SuiteError, expand, load
from normbench.suite._load import read

TEXT = """
suite: small
data: {dataset: digits}
models: [resnet18, {name: resnet18, stem: native}]
norms: [bn, none]
seeds: 2
train: &train {epochs: 3, lr: 0.1}
attacks:
  - bim: {eps: [1/255, 8/255], steps: 3}
overrides:
  - {when: {norm: none}, set: {lr: 0.02}}
"""


def changed(*changes: str, text: str = TEXT) -> Suite:
    return read(text.encode(), Path("small.yaml"), changes)


def written(**keys: object) -> Suite:
    """The suite with other values of keys in the file itself."""
    return read(yaml.safe_dump(yaml.safe_load(TEXT) | keys).encode(), Path("small.yaml"))


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (["train.epochs=2"], {"train": {"epochs": 2, "lr": 0.1}}),
        (["train.lr=0.1,1e-2"], {"train": {"epochs": 3, "lr": [0.1, 0.01]}}),
        (["train.clip_grad=null,1"], {"train": {"epochs": 3, "lr": 0.1, "clip_grad": [None, 1]}}),
        (["train={epochs: 2}"], {"train": {"epochs": 2}}),
        (["norms=none,gn[groups=4],ws+gn"], {"norms": ["none", "gn[groups=4]", "ws+gn"]}),
        (["norms=[none, gn]"], {"norms": ["none", "gn"]}),
        (["norms=none"], {"norms": "none"}),
        (["widths=1/2,1"], {"widths": ["1/2", 1]}),
        (["models.0=resnet34"], {"models": ["resnet34", {"name": "resnet18", "stem": "native"}]}),
        (["models.1.stem=cifar"], {"models": ["resnet18", {"name": "resnet18", "stem": "cifar"}]}),
        (["attacks.0.bim.steps=5"], {"attacks": [{"bim": {"eps": ["1/255", "8/255"], "steps": 5}}]}),
        (["attacks=noise,bim: {eps: 8/255}"], {"attacks": ["noise", {"bim": {"eps": "8/255"}}]}),
        (["attacks=[]"], {"attacks": []}),
        (["limits.time=5m", "limits.cpu=2"], {"limits": {"time": "5m", "cpu": 2}}),
        (["headline={attack: bim, size: 8/255}"], {"headline": {"attack": "bim", "size": "8/255"}}),
        (["headline.attack=bim", "headline.size=8/255"], None),
        (["tune.weight_decay=0,1e-4"], {"tune": {"weight_decay": [0, 1e-4]}}),
        (["about='one, two'"], {"about": "one, two"}),
        (['about="it\'s"'], {"about": "it's"}),
        (["keep=weights", "log=mlflow,wandb"], {"keep": "weights", "log": ["wandb", "mlflow"]}),
        (["seeds=5", "seeds=1"], {"seeds": 1}),
        ([" seeds = 1"], {"seeds": 1}),
    ],
)
def test_a_value_is_as_in_the_file(changes: list[str], keys: dict[str, object] | None) -> None:
    if keys is None:  # a section is made key by key
        with pytest.raises(SuiteError, match="the key 'size' is missing"):
            changed(changes[0])
        keys = {"headline": {"attack": "bim", "size": "8/255"}}
    suite = changed(*changes)
    assert suite == written(**keys)
    assert expand(suite) == expand(written(**keys))


def test_the_commands_of_the_page_work() -> None:
    root = checkout()
    assert root is not None
    blocks = re.findall(r"<!-- plan -->\n```sh\n(.*?)```", (root / "docs" / "suites.md").read_text(), re.DOTALL)
    sizes = []
    for command in "".join(blocks).splitlines():
        program, verb, suite, *options = shlex.split(command)
        assert (program, verb, set(options[::2])) == ("bench", "plan", {"--set"})
        sizes.append(len(expand(load(suite, options[1::2]))))
    assert sizes == [6, 2, 15]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epoch=2", "train.epoch: unknown key; allowed are epochs, .*did you mean 'epochs'"),
        ("trian.epochs=2", "trian: unknown key; .*did you mean 'train'"),
        ("epochs=2", "epochs: unknown key; .*did you mean 'train.epochs'"),
        ("train.epochs=x", "train.epochs: expected a whole number from 1 to 100000, found 'x'"),
        ("norms=bn,gm", r"norms\[1\]: no norm is called 'gm'; did you mean 'gn' or 'gw'"),
        ("norms=bn,", r"norms\[1\]: "),
        ("attacks.0.bim.stepz=1", r"attacks\[0\]\.bim.*stepz.*'steps'"),
        ("train=3", "train: expected a mapping of keys"),
        ("models.0.name=x", r"models\[0\] is 'resnet18' in the file, which has no keys: set models\[0\] itself"),
        ("models.2=x", "models is a list of 2 values in the file, and '2' is none of them"),
        ("models.name=x", "and 'name' is none of them: set models itself, or one as models.0"),
        ("seeds.0=1", "seeds is 2 in the file, which has no keys: set seeds itself"),
        ("norms=[bn", "not valid YAML"),
        ("train.lr=.inf", "expected a finite number"),
        ("about=!!python/none x", "the tag .* is not allowed"),
        ("overrides=[{when: {norm: gn}, set: {lr: 1}}]", r"overrides\[0\]: fits no trial"),
        ("train.epochs", "expected key=value, for example train.epochs=2"),
        ("=2", "expected key=value"),
        ("train..epochs=2", "expected key=value"),
        ("suite=../x", "suite: expected a name"),
    ],
)
def test_what_is_wrong_names_the_flag(change: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message) as refused:
        changed(change)
    assert all(p.file == f"--set {change}" and p.line is None for p in refused.value.problems)


def test_what_the_file_has_wrong_names_the_file() -> None:
    with pytest.raises(SuiteError) as refused:
        changed("train.epochs=x", text=TEXT.replace("seeds: 2", "seeds: many"))
    assert [p.file for p in refused.value.problems] == ["--set train.epochs=x", "small.yaml"]
    mended = changed("seeds=2", text=TEXT.replace("seeds: 2", "seeds: !!int 2"))
    assert mended == changed()


def test_rules_of_the_file_may_be_for_what_is_not_asked_for() -> None:
    """`--set norms=bn` of a suite with an override for `none`; in the file itself such a rule is a mistake."""
    assert {t.norm_label for t in expand(changed("norms=bn"))} == {"bn"}
    with pytest.raises(SuiteError, match="fits no trial"):
        written(norms=["bn"])


def test_an_alias_keeps_its_own_value() -> None:
    text = TEXT + "include:\n  - &rule {norm: gn, lr: 0.2}\n  - *rule\n"
    assert changed("include.0.lr=0.3", text=text).include[1].named()["lr"] == (0.2,)


#: Keys that lead somewhere, and values made of what YAML and this syntax are made of; or any text at all.
KEYS = st.sampled_from(["train", "norms", "models.0", "attacks.0.bim", "data", "seeds"]) | st.text(max_size=30)
VALUES = st.text("[]{},:'\"a1 &*!", max_size=12) | st.text(max_size=30)


@settings(max_examples=40)
@given(KEYS, VALUES)
def test_any_text_is_a_suite_or_messages(key: str, value: str) -> None:
    with contextlib.suppress(SuiteError):
        assert isinstance(changed(f"{key}={value}"), Suite)


@pytest.mark.parametrize("change", ["data.dataset=cifr10", "data={dataset: cifr10}"])
def test_a_dataset_that_is_not_there_is_blamed_on_the_change_that_names_it(change: str) -> None:
    with pytest.raises(SuiteError) as error, located(suite := changed(change, "train.epochs=2")):
        Fingerprints(None, download=False).of(expand(suite)[0])
    assert str(error.value).startswith(f"--set {change}: there is no dataset 'cifr10'")
    assert "did you mean 'cifar10'? Others" in str(error.value)


def test_a_dataset_of_the_file_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(TEXT.replace("digits", "digts"), encoding="utf-8")
    with pytest.raises(SuiteError) as error, located(suite := load(tmp_path / "small.yaml", ["train.epochs=2"])):
        Fingerprints(None, download=False).of(expand(suite)[0])
    assert str(error.value).startswith(f"{tmp_path / 'small.yaml'}:3: there is no dataset 'digts'")
