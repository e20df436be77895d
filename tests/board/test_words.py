"""Keys in words: every one that is recorded has words of its own, and any other reads as text."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench import attacks
from normbench.board.words import NAMES, attacked, evidence, quantity, spelled

RESULTS = Path(__file__).parents[2] / "results"

#: A key as files have it: parts joined by dots, or a coordinate.
RAW = re.compile(r"\b[a-z][a-z-]*\.[a-z][\w-]*|@")


def recorded() -> set[str]:
    """Keys in the committed results, of one trial of each suite and specification of measures."""
    found: set[str] = set()
    for suite in sorted(RESULTS.iterdir()):
        for shard in sorted(suite.rglob("*.parquet"))[:3]:
            curves = pq.read_table(shard, columns=["curves"])["curves"].combine_chunks()
            found |= set(pc.unique(curves.flatten().field("measure")).to_pylist())
    return found


def test_recorded_keys_have_words_of_their_own() -> None:
    keys = recorded()
    assert len(keys) > 20
    for key in sorted(keys):
        words = quantity(key)
        assert not RAW.search(words), (key, words)
        assert ":" not in words, f"{key} is spelled out: {words}"


def test_no_two_keys_share_their_words() -> None:
    keys = sorted(recorded() | set(NAMES))
    assert len({quantity(k) for k in keys}) == len(keys)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("conditioning.gradient@0.5", "condition number of the gradients, at 0.5 of the directions"),
        ("rank.fan-in", "inputs of a unit"),
        ("rescaling.clean@10", "clean accuracy, weights times 10"),
        ("growth:weight-norm.raw-invariant", "growth of the weights, scale-invariant ones"),
        ("hessian.trace.error", "trace of the Hessian, standard error"),
        ("my-measure.some_thing@2,-1", "my measure: some thing, at 2, −1"),
    ],
)
def test_words(key: str, words: str) -> None:
    assert quantity(key) == words


@given(st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z][a-z0-9_-]{0,8}){1,2}(@[0-9.,-]{1,6})?", fullmatch=True))
def test_any_key_reads_as_text(key: str) -> None:
    assert not RAW.search(quantity(key))


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (
            "at 2/255, BIM and FGSM: 30 and 28 of 64 stand; the second may be lower by 5.12",
            "at 2/255, BIM and FGSM: 30 of 64 images withstand the first, 28 the second; more than 5.12 fewer would be "
            "a fault",
        ),
        ("0 of 64 stand BIM at eps 0.5", "0 of 64 images withstand BIM at eps 0.5"),
        ("rows sum to 1", "rows sum to 1"),
    ],
)
def test_evidence_of_health_checks_is_a_sentence(stored: str, said: str) -> None:
    assert evidence(stored) == said


@pytest.mark.parametrize(
    ("attack", "threat", "size", "words"),
    [
        ("bim[steps=20]", "linf", 4 / 255, "BIM (20 steps) at 4/255"),
        ("bim_l2[steps=1]", "l2", 0.25, "BIM (1 step) at 0.25 in L2"),
        ("pgd[steps=10,loss=dlr]", "linf", 2 / 255, "PGD (10 steps, DLR loss) at 2/255"),
        ("worst case", "linf", 2 / 255, "worst case of all attacks within 2/255 in L∞"),
        ("worst case", "l2", None, "worst case of all attacks in L2"),
        ("noise", "noise", 0.1, "Gaussian noise at 0.1"),
        ("corruptions[kinds=shot_noise]", "corruption", 3.0, "corruptions (shot noise) of severity 3"),
        ("noise under batch[size=64]", "noise", 0.1, "Gaussian noise at 0.1, by statistics of the batch (size 64)"),
        ("clean under precise", "clean", 0.0, "clean accuracy, by precise statistics"),
        ("my_attack[restarts=2,fast=true]", "l1", 1.0, "my attack (2 restarts, fast) at 1 in L1"),
    ],
)
def test_attacks_in_words(attack: str, threat: str, size: float | None, words: str) -> None:
    assert attacked(attack, threat, size) == words


def test_no_two_attacks_share_their_words() -> None:
    kinds = [attacks.registry.get(name) for name in attacks.registry.names()]
    said = {attacked(kind.name, kind.threat, 0.5) for kind in kinds}
    assert len(said) == len(kinds)
    assert not [text for text in said if re.search(r"_|\[", text)]


def test_methods_within_a_text() -> None:
    assert spelled("SND of bw-pca[group=16] over x[0, 1], bn") == "SND of bw-pca (group 16) over x[0, 1], bn"
