"""No number of a suite makes something of its size: each has a limit, which its message says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from normbench import attacks, measures, norms
from normbench.norms.base import NormSiteError, Site
from normbench.spec.plugins import MOST, Plugin, PluginError, Registry
from normbench.suite import SuiteError
from normbench.suite._load import read
from normbench.suite._types import parts

HUGE = 10**9
#: Processor seconds within which a message comes. What makes a billion of anything takes minutes.
AT_ONCE = 10.0
FIVE_LINES = "suite: s\ndata: {dataset: digits}\nmodels: [resnet18]\nnorms: [bn, gn]\n"


def whole_numbers() -> Iterator[tuple[Registry[Plugin], str, str]]:
    """Every parameter of every plug-in that is a whole number, or a list of them."""
    for registry in (norms.registry, attacks.registry, measures.registry):
        for name in registry.names():
            for key, field in registry.get(name).model_fields.items():
                if int in [k for kind, _ in parts(field.annotation) for k in (kind, *getattr(kind, "__args__", ()))]:
                    yield registry, name, key


@pytest.mark.parametrize(
    ("registry", "name", "key"),
    [pytest.param(*each, id=f"{each[0].kind} {each[1]} {each[2]}") for each in whole_numbers()],
)
def test_every_whole_number_of_every_method_has_a_limit(registry: Registry[Plugin], name: str, key: str) -> None:
    for wrong in (HUGE, 10**30, -HUGE):
        with pytest.raises(PluginError, match=f"^{registry.kind} '{name}': {key}.*, found "):
            registry.make(name, {key: wrong})
    with pytest.raises(PluginError, match=r"found '1000000000'$"):
        registry.parse(f"{name}[{key}={HUGE}]")


@pytest.mark.parametrize(
    ("added", "expected"),
    {
        "attacks: [bim: {steps: %d}]": "attacks[0].bim.steps: expected a whole number from 1 to 10000",
        "measures: [weight-norm: {every: %d}]": "measures[0].weight-norm.every: expected a whole number of at most",
        "batch_sizes: %d": "batch_sizes: expected a whole number from 1 to 1000000",
        "widths: %d": "widths: expected a number above 0 and at most 64",
        "train: {epochs: %d}": "train.epochs: expected a whole number from 1 to 100000",
        "seeds: %d": "seeds: the grid has 2,000,000,000 trials (seeds 1,000,000,000 x norms 2), more than the 100,000",
        "seeds: [%d0]": "seeds[0]: expected a whole number of at least 0 and below 2147483648",
        "tune: {lr: [0.1, 0.2], seeds: %d}": "tune: 4,000,000,000 candidates beside 6 final trials are more than",
        "tune: {lr: [0.1, 0.2], seeds: %d, scheduler: asha}": "tune.seeds: asha takes one seed, found 1,000,000,000",
        "limits: {cpu: %d}": "limits.cpu: expected a whole number from 1 to 4096",
        "include: {batch_size: %d}": "include.batch_size: expected a whole number from 1 to 1000000",
    }.items(),
)
def test_a_suites_numbers_have_limits(added: str, expected: str) -> None:
    began = time.process_time()
    with pytest.raises(SuiteError) as caught:
        read((FIVE_LINES + added % HUGE).encode(), Path("f.yaml"))
    (problem,) = caught.value.problems
    assert problem.message.startswith(expected)
    assert time.process_time() - began < AT_ONCE


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{dataset: digits}", "{dataset: a, train_examples: %d0}", "data.train_examples: expected a whole number from"),
        ("{dataset: digits}", "{dataset: a, test_examples: %d0}", "data.test_examples: expected a whole number from"),
        (
            "{dataset: digits}",
            "{dataset: a, image_size: %d}",
            "data.image_size: expected a whole number from 4",
        ),
        ("gn]", '"gn[groups=%d]"]', "norms[1]: norm 'gn': groups: expected a whole number of at most 1,000,000"),
        ("[resnet18]", "{name: resnet18, kwargs: {layers: [1, 1, 1, %d]}}", "models.kwargs.layers: expected no number"),
        ("[resnet18]", "wrn-%d-1", "models: no architecture is called"),
    ],
)
def test_other_numbers_of_a_suite_have_limits(old: str, new: str, expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        read(FIVE_LINES.replace(old, new % HUGE).encode(), Path("f.yaml"))
    (problem,) = caught.value.problems
    assert problem.message.startswith(expected)


def test_many_settings_to_choose_from_are_counted_and_not_made() -> None:
    values = [i / 1000 for i in range(1, 1001)]
    with pytest.raises(SuiteError) as caught:
        read(f"{FIVE_LINES}tune: {{lr: {values}, weight_decay: {values}, warmup: {values[:-1]}}}".encode(), Path("f"))
    assert "1,998,000,000 candidates" in str(caught.value)


@pytest.mark.parametrize("norm", ["gn[groups=%d]", "bcn[groups=%d]", "evonorm-s0[groups=%d]", "gw[groups=%d]"])
def test_case_huge_groups(norm: str) -> None:
    """The largest number that is taken is answered at once, with a divisor of the channels as its advice."""
    method = norms.registry.parse(norm % MOST)
    site = Site(
        name="x", channels=16, eps=1e-5, momentum=0.1, affine=True, positions=4, activated=False, ends_branch=False
    )
    began = time.process_time()
    with pytest.raises(NormSiteError, match=r"16 channels; the nearest (number|size) that does is 16"):
        method.layer(site)  # type: ignore[attr-defined]
    assert time.process_time() - began < AT_ONCE
