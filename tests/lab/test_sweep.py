"""A sample of timm's networks under every kind of method; all 127 by `tox -e sweep`."""

from __future__ import annotations

import pytest
from normbench.lab.network import ModelError
from normbench.spec.architectures import norm_problem
from timm_sweep import NETWORKS, NORMS, SAMPLE, STRICT, Case, missing_files, ready, sweep, table

from tests.matrix import sample


def test_every_file_of_timm_is_swept() -> None:
    assert missing_files() == set()
    assert len(set(NETWORKS)) == len(NETWORKS) >= 127
    assert len(SAMPLE) == 12
    assert set(SAMPLE) <= set(NETWORKS)
    assert not [n for n in NETWORKS if norm_problem(n)]


@pytest.mark.parametrize("name", sample(SAMPLE, ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050"]))
def test_sample(name: str) -> None:
    cases = list(sweep(name))
    assert [(c.norm, c.problem) for c in cases if c.problem] == []
    assert [c.norm for c in cases] == list(NORMS)
    assert {c.replaced for c in cases} != {0}


def test_what_fails_is_told() -> None:
    (case,) = sweep("resnet10t", ["gn[groups=64]"])
    assert case.problem.startswith("NormSiteError: conv1.1: 64 groups do not divide")
    with pytest.raises(ModelError, match="no architecture is called"):
        ready("no_such_network")


def test_table() -> None:
    page = table([Case("resnet10t", "bn", 64, "", 1.0, 12), Case("resnet10t", "gn", 64, "ValueError: no", 1.0, 12)])
    assert "| passes | 1 of 1 | 0 of 1 |" in page
    assert "| resnet10t | resnet | 64 | 12 | ok | fails |" in page
    assert "- `resnet10t` with `gn`: ValueError: no" in page
    assert "| network | file | image side | norms replaced | in (strict) |" in table(
        [Case("resnet10t", STRICT, 64, "", 1.0, 12)]
    )


def test_what_no_suite_may_ask_for_is_told_apart() -> None:
    bit, wn = sweep("resnetv2_50x1_bit", ["none", "wn"])
    assert bit.mark == wn.mark == "refused"
    assert "overflow" in table([bit])
    (strict,) = sweep("convnext_zepto_rms", [STRICT])
    assert (strict.mark, strict.refused) == ("fails", "")
