"""What is known of architectures without torch is what timm has and what the builder does."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest
import timm
from normbench.lab.network import families
from normbench.lab.network.family import Family
from normbench.spec.architectures import (
    CIFAR_RESNETS,
    FAMILIES,
    FIXED,
    architectures,
    builder,
    file_of,
    listed,
    norm_problem,
    problem_with,
    stem_problem,
    unknown,
    wide_resnet,
    width_problem,
)


def test_names_are_timms() -> None:
    assert set(architectures()) == set(timm.list_models())
    for name, file in architectures().items():
        assert timm.models.model_entrypoint(name).__module__ == f"timm.models.{file}"


def test_nothing_heavy_is_imported() -> None:
    calls = "problem_with('resnet18', 'cifar', 2.0); norm_problem('vgg11')"
    code = (
        f"import sys; from normbench.spec.architectures import *; {calls}; print({{'torch', 'timm'}} & "
        "set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_families_are_those_of_the_builder() -> None:
    """Each family has a file, no file is left over, and each file of timm's is there."""
    files = {m.name for m in pkgutil.iter_modules(families.__path__)}
    assert files == {*FAMILIES.values(), "wrn", "cifar_resnet"}
    assert set(FAMILIES) <= set(architectures().values())
    for name, stem, width in (
        *(("resnet18", "cifar", 1), ("wrn-16-4", "cifar", 2), ("resnet18", "native", 1)),
        *(("resnet20", "cifar", 0.5), ("resnet110", "native", 1)),
    ):
        assert isinstance(importlib.import_module(builder(name, stem, width)).FAMILY, Family)


def test_unknown_names() -> None:
    assert unknown("resnet18") is None
    assert unknown("wrn-28-10") is None
    assert "did you mean 'resnet18'" in (unknown("resnet_18") or "")
    assert "as in 'wrn-28-10'" in (unknown("wrn-27-10") or "")
    assert "no architecture is called 'zzz'" in (unknown("zzz") or "")
    assert (problem_with("resnet_18", "cifar", 1) or "").startswith("no architecture")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wrn-28-10", (28, 10)),
        ("wrn-10-1", (10, 1)),
        ("wrn-28-0", None),
        ("wrn-12-4", None),
        ("wrn-4-4", None),
        ("wrn-28", None),
        ("resnet18", None),
    ],
)
def test_wide_residual_networks(name: str, expected: tuple[int, int] | None) -> None:
    assert wide_resnet(name) == expected


def test_no_name_of_our_own_is_one_of_timms() -> None:
    assert not set(CIFAR_RESNETS) & set(architectures())
    names = [row["name"] for row in listed()]
    assert names[:6] == [*CIFAR_RESNETS, "wrn-DEPTH-FACTOR"]
    assert set(names[6:]) == set(architectures())
    assert "did you mean 'resnet56'" in (unknown("resnet_56") or "")


def test_stems_and_widths() -> None:
    for name in ("resnet18", "resnet56", "wrn-16-4", "vgg11_bn", "convnext_atto", "swin_tiny_patch4_window7_224"):
        assert stem_problem(name, "cifar") is None
        assert width_problem(name, 0.25) is None
    for name in ("levit_128s", "inception_v3"):
        assert stem_problem(name, "native") is None
        assert width_problem(name, 1) is None
        assert f"{name} (timm.models.{file_of(name)}) has no stem for small images; write `stem: native`" in (
            stem_problem(name, "cifar") or ""
        )
        assert f"{name} (timm.models.{file_of(name)}) takes no width; write `widths: [1]`" in (
            width_problem(name, 2) or ""
        )
    assert "efficientnet_x_b3" in (width_problem("efficientnet_x_b3", 2) or "")
    assert len(FIXED) == 2


def test_networks_without_norms() -> None:
    assert "vgg11_bn" in (norm_problem("vgg11") or "")
    assert "without a classifier" in (norm_problem("gemma4_vit_167m_enc") or "")
    for name in ("nfnet_f0", "dm_nfnet_f0", "test_nfnet", "nf_resnet50", "resmlp_12_224"):
        assert (norm_problem(name) or "").startswith(f"{name}: it ")
    assert "overflow" in (norm_problem("resnetv2_50x1_bit", "none") or "")
    assert (
        norm_problem("resnetv2_50x1_bit", "bn")
        is norm_problem("resnetv2_50x1_bit")
        is norm_problem("resnet18", "none")
        is None
    )
    for name in ("resnet18", "vgg11_bn", "wrn-28-10", "mixer_s32_224"):
        assert norm_problem(name) is None
