"""What Tab offers, asked as a shell asks; --version and -h."""

from __future__ import annotations

import normbench
import pytest

from tests.cli.conftest import Bench


def offers(shown: Bench, line: str) -> list[str]:
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_ROOT_COMPLETE": "complete_bash"}
    return shown(**asked).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bench board digits-", ["digits-measures", "digits-tuned"]),
        ("bench plan suites/cifar-j", ["suites/cifar-jpeg.yaml"]),
        ("bench audit resnet18 ws+bw", ["ws+bw-cd", "ws+bw-pca", "ws+bw-zca"]),
        ("bench plan digits --only nor", ["norm="]),
        ("bench plan digits --only norm=l", ["norm=ln"]),
        ("bench check norm gh", ["ghost-bn"]),
        ("bench results export out --norm gh", ["ghost-bn"]),
        ("bench results rm --suite digits-m", ["digits-measures"]),
        ("bench rerun 08464b --suite digits-m", ["digits-measures"]),
        ("bench check attack fgsm-", ["fgsm-l1", "fgsm-l2"]),
        ("bench compare bn evonorm-s", ["evonorm-s0"]),
        ("bench audit resnetv2_50x3_bit.goog", []),
        ("bench plan nosuch --only norm=", []),
    ],
)
def test_offers(shown: Bench, line: str, offered: list[str]) -> None:
    assert offers(shown, line) == offered


def test_trials_are_offered_by_the_beginning_of_their_id(shown: Bench) -> None:
    found = offers(shown, "bench compare bn 1")
    assert len(found) > 10
    assert all(len(i) == 16 and i.startswith("1") for i in found)
    assert offers(shown, "bench rerun 08464b") == offers(shown, "bench results rm 08464b") == ["08464b8967d06e39"]


def test_version_and_help(shown: Bench) -> None:
    assert shown("--version") == f"normbench {normbench.__version__}\n"
    for verb in ((), ("board",), ("results",), ("results", "verify"), ("new",), ("compare",)):
        assert shown(*verb, "-h") == shown(*verb, "--help")
    assert "[default: BENCH_DATA]" in " ".join(shown("plan", "-h").split())
