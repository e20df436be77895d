"""Every wrong suite file has its message."""

from __future__ import annotations

from pathlib import Path

import pytest
from normbench import attacks
from normbench.spec import architectures
from normbench.suite import SuiteError, expand, load
from normbench.suite._load import read

from tests.suite.bad_files import BASE, NO_TAGS, NOT_A_SUITE, ONE_PROBLEM, REPLACED


def messages(text: str | bytes) -> list[str]:
    """What is wrong with a file called `f.yaml`."""
    with pytest.raises(SuiteError) as caught:
        expand(read(text if isinstance(text, bytes) else text.encode(), Path("f.yaml")))
    assert str(caught.value).split("\n") == [str(p) for p in caught.value.problems]
    return [str(p) for p in caught.value.problems]


@pytest.mark.parametrize(("text", "message"), NOT_A_SUITE.values(), ids=NOT_A_SUITE)
def test_not_a_suite(text: str | bytes, message: str) -> None:
    assert messages(text) == [message]


@pytest.mark.parametrize(("added", "message"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_one_problem(added: str, message: str) -> None:
    assert messages(BASE + added) == [
        f"f.yaml:{message.replace('{bim}', ', '.join(attacks.registry.get('bim').model_fields))}"
    ]


@pytest.mark.parametrize(("line", "text", "message"), REPLACED.values(), ids=REPLACED)
def test_replaced_line(line: int, text: str, message: str) -> None:
    lines = BASE.splitlines()
    lines[line - 1] = text
    (found,) = messages("\n".join(lines))
    assert found.split(":", 2)[2].removeprefix(" ") == message


def test_stem_and_width_come_from_the_architecture() -> None:
    name = next(
        n
        for n in architectures.architectures()
        if architectures.stem_problem(n, "cifar") and not architectures.norm_problem(n)
    )
    assert messages(BASE.replace("resnet18", name)) == [
        f"f.yaml:3: models: {architectures.stem_problem(name, 'cifar')}"
    ]
    native = BASE.replace("resnet18", f"{{name: {name}, stem: native}}")
    assert messages(native + "widths: [1, 2]") == [f"f.yaml:5: widths: {architectures.width_problem(name, 2)}"]


def test_all_problems_are_reported_together_in_the_order_of_the_file() -> None:
    text = """\
suite: Sweep 1
data: {dataset: digits, augment: [rotate]}
models: [resnet18, resnet19]
norms: [bn, xn]
batch_sizes: [64, 4096]
train:
  epochs: three
  lr: .nan
  lr: 0.1
  weight_decay: [0, -1]
attacks:
  - bim: {eps: 16, step: 3}
overrides:
  - {when: {norm: ws+bn+gn}, set: {lr: fast}}
limits: {time: soon}
"""
    found = messages(text)
    assert [m.split(": ")[0].removeprefix("f.yaml:") for m in found] == [
        "1",
        "2",
        "3",
        "4",
        "7",
        "8",
        "9",
        "10",
        "12",
        "12",
        "14",
        "14",
        "15",
    ]
    assert "batch_sizes: a batch of 4,096 is larger than the 1,437" not in str(found), (
        "what data there are is not known while `data` is wrong"
    )
    assert messages(text.replace(", augment: [rotate]", ""))[3].startswith(
        "f.yaml:5: batch_sizes: a batch of 4,096 is larger than the 1,437"
    )


def test_a_key_that_cannot_be_read_hides_no_other_problem() -> None:
    assert messages(f"{BASE}3: 4\nseeds: 0\nabout: !x y") == [
        "f.yaml:5: a key must be plain text, found 3",
        "f.yaml:6: seeds: expected a number of seeds (3 means 0, 1, 2) or a list of them, found 0",
        f"f.yaml:7: about: the tag !x {NO_TAGS}",
    ]


def test_a_missing_file_names_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(BASE, encoding="utf-8")
    for ref, message in [
        ("min.yaml", "min.yaml: there is no such file; did you mean mine.yaml?"),
        (tmp_path / "nowhere" / "x.yaml", f"{tmp_path}/nowhere/x.yaml: there is no such file"),
        (tmp_path, f"{tmp_path}: cannot be read: Is a directory"),
        ("x" * 5000 + ".yaml", f"{'x' * 5000}.yaml: cannot be read: File name too long"),
    ]:
        with pytest.raises(SuiteError) as caught:
            load(ref)
        assert str(caught.value) == message
    with pytest.raises(
        SuiteError, match=r"digit: there is no suite of this name in suites and .*suites; did you mean 'digits'\?"
    ):
        load("digit")


def test_a_network_that_needs_a_norm_is_refused_without_one() -> None:
    text = "suite: x\ndata: {dataset: digits}\nmodels: [{name: resnetv2_50x1_bit, stem: native}]\nnorms: [bn, none]\n"
    assert messages(text) == [f"f.yaml:4: norms: {architectures.norm_problem('resnetv2_50x1_bit', 'none')}"]
