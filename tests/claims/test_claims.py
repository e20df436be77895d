"""Claims: each computed one comes out as recorded, with other seeds too, and the other way round when it is turned."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from normbench.claims import SOURCES, Claim, Computed, Finding, Part, Trained, Untested, registry
from normbench.claims._listed import chosen, listed
from normbench.claims.base import DECIDED, EQUAL, FOUND, exact, record, recorded, vanishes
from normbench.errors import BenchError

CLAIMS = {c.name: c for c in chosen()}
COMPUTED = {name: c for name, c in CLAIMS.items() if isinstance(c, Computed)}
KEPT = recorded()
#: Seconds each: they train or draw much. One of them is in every run.
SLOW = {name for name, c in COMPUTED.items() if c.test == "trained" or name.startswith("snd-")} | {
    *("wd-equilibrium", "auto-tuning", "constraint-numbers-dataset", "whole-orthogonality"),
}
SAMPLE = "bn-conditioning"

every = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.matrix if n in SLOW - {SAMPLE} else ()) for n in sorted(COMPUTED)]
)
#: What a claim that is turned round must come out as.
TURNED = {
    "holds": {"refuted"},
    "holds in part": {"refuted", "holds"},
    "refuted": {"holds", "holds in part"},
    "undecided": {"undecided", "refuted"},
}


@every
def test_the_finding_is_the_recorded_one_and_that_of_other_seeds(name: str) -> None:
    claim = COMPUTED[name]
    found = claim.compute()
    assert found.verdict == KEPT[name].verdict
    assert [p.what for p in found.parts] == [p.what for p in KEPT[name].parts]
    for part, kept in zip(found.parts, KEPT[name].parts, strict=True):
        near = max(EQUAL, 0.05 * abs(kept.value), 0.5 * kept.half)
        assert part.value == pytest.approx(kept.value, abs=near)
    other = claim.compute(seed=1)
    if found.verdict in DECIDED and claim.test != "trained":
        assert other.verdict == found.verdict
    # A single repetition of small trainings may leave a part open; it must not say the opposite.
    assert {found.verdict, other.verdict} != {"holds", "refuted"}


@every
def test_a_claim_that_is_turned_round_comes_out_turned_round(name: str) -> None:
    claim = COMPUTED[name]
    turned = claim.compute(claim.turned())
    assert turned.verdict in TURNED[KEPT[name].verdict]
    assert turned.parts != claim.compute().parts


# The list


def test_every_claim_is_whole() -> None:
    assert registry.problems() == {}
    for name, claim in CLAIMS.items():
        assert claim.source in SOURCES, name
        assert claim.summary, name
        assert claim.place, name
        assert not claim.summary.endswith("."), name
        assert isinstance(claim, Computed | Trained | Untested), name
        if isinstance(claim, Untested):
            assert claim.reason, name
        else:
            assert claim.scope, name
    texts = [c.summary for c in CLAIMS.values()]
    assert len(set(texts)) == len(texts)


def test_there_are_as_many_as_the_sources_make_and_most_are_decided() -> None:
    rows = listed(CLAIMS.values(), dict)
    assert len(rows) >= 45
    assert all(r.finding.parts or r.finding.reason for r in rows)
    assert sum(r.finding.verdict in DECIDED for r in rows) >= 30
    assert {c.source for c in CLAIMS.values()} == set(SOURCES)


def test_studies_that_claims_name_exist() -> None:
    from normbench.studies import registry as studies

    assert {c.study for c in CLAIMS.values() if c.study} <= set(studies.names())


def test_the_record_holds_computed_claims_and_no_others() -> None:
    assert set(KEPT) == set(COMPUTED)


# Parts and findings


def part(value: float, half: float, claimed: tuple[float, float] = (0.0, math.inf), n: int = 5) -> Part:
    return Part("x", value, value - half, value + half, claimed, n)


def test_a_part_is_judged_by_its_whole_interval() -> None:
    assert part(2, 1).verdict == "holds"
    assert part(-2, 1).verdict == "refuted"
    assert part(0.5, 1).verdict == "undecided"
    assert part(math.nan, 1).verdict == "undecided"
    assert vanishes("x", 1e-12).verdict == "holds"
    assert vanishes("x", 1e-3).verdict == "refuted"
    assert exact("x", 3, equal=3).verdict == "holds"
    assert exact("x", 4, equal=3).verdict == "refuted"


numbers = st.floats(-100, 100)
parts = st.builds(part, numbers, st.floats(0.001, 100), st.just((-1.0, 2.0)), st.integers(2, 40))


@given(parts)
def test_seeds_that_are_needed_would_decide(p: Part) -> None:
    if p.verdict != "undecided":
        assert p.needed is None
    elif p.needed is not None:
        assert p.needed > p.n
        # the interval of so many seeds, widened to 80 % power, reaches the nearer end at most
        nearer = min(abs(p.value - end) for end in p.claimed)
        assert FOUND * p.half * math.sqrt(p.n / p.needed) <= nearer * (1 + 1e-9)


@given(st.lists(parts, max_size=5))
def test_a_finding_holds_where_all_parts_do_and_is_refuted_where_none_does(several: list[Part]) -> None:
    verdict = Finding(tuple(several)).verdict
    said = [p.verdict for p in several]
    assert (verdict == "not tested") == (not said)
    assert (verdict == "holds") == (bool(said) and all(v == "holds" for v in said))
    assert (verdict == "refuted") == ("refuted" in said and "holds" not in said)


@given(st.lists(parts, max_size=5))
def test_what_holds_in_part_says_how_much_and_where_most_clearly(several: list[Part]) -> None:
    found = Finding(tuple(several))
    held = [p for p in several if p.verdict == "holds"]
    in_part = 0 < len(held) < len(several)
    assert bool(found.split) == in_part == (found.clearest is not None)
    if found.clearest:
        assert found.split.startswith(f"{len(held)} of {len(several)} numbers hold")
        assert sum(map(int, re.findall(r"(\d+) (?:is|are) ", found.split))) == len(several) - len(held)
        assert found.clearest in held
        assert all(p.margin <= found.clearest.margin for p in held)


@given(parts, st.floats(0.5, 2))
def test_the_margin_is_how_much_wider_an_interval_may_be(p: Part, share: float) -> None:
    if p.verdict == "holds" and abs(share - 1) > 1e-6:
        half = share * p.margin * p.half
        wider = replace(p, low=p.value - half, high=p.value + half)
        assert (wider.verdict == "holds") == (share < 1)


def test_power_is_said_where_chance_has_a_part() -> None:
    assert Finding((part(1, 2), part(3, 4))).power == f"{FOUND * 2:.2g} to {FOUND * 4:.2g}"
    assert Finding((vanishes("x", 0.0),)).power == ""


def test_findings_are_kept_as_they_are(tmp_path) -> None:
    found = {"a": Finding((part(1.5, 0.5), exact("y", 2, at_most=3)), scope="here")}
    record(found, tmp_path / "f.json")
    assert recorded(tmp_path / "f.json") == found
    assert recorded(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"parts": [{}], "scope": ""}}', '{"a": 3}'])
def test_a_damaged_record_is_said_to_be_one(tmp_path, text: str) -> None:
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(BenchError, match="no record of findings"):
        recorded(tmp_path / "f.json")


def test_findings_are_json(tmp_path) -> None:
    told = json.loads(json.dumps([row.plain() for row in listed(CLAIMS.values(), dict)], allow_nan=False))
    assert len(told) == len(CLAIMS)


# The sources' list of what was missing, by number, and the claims that cover it

MISSING = {
    1: ("scale-dynamics-unnormalized", "scale-dynamics-normalized"),
    2: ("ln-invariance", "weight-moving-invariance"),
    3: ("ws-is-cwn", "bn-becomes-wn"),
    4: ("batch-permutation", "batch-of-two"),
    5: ("gaussian-mean", "gaussian-deviation"),
    6: ("snd-pca-batch",),
    7: ("constraint-numbers", "constraint-numbers-dataset", "solvable-range"),
    8: ("large-groups", "small-batch-whitening", "bn-small-batches"),
    9: ("lipschitz-theorem", "smoothness-theorem"),
    10: ("emd-bound",),
    11: ("gamma-approaches-sigma", "ellipsoid-converges"),
    12: ("sn-lipschitz", "certified-accuracy"),
    13: ("bn-higher-rates", "bn-saturating", "bn-less-dropout"),
    14: ("noise-behind-bn",),
    15: ("similar-units-removed",),
    16: ("wd-equilibrium",),
    17: ("mean-field", "half-space", "two-layer-wn", "bn-not-recurrent", "ln-recurrent"),
}


@pytest.mark.parametrize("number", MISSING)
def test_what_was_missing_is_there(number: int) -> None:
    for name in MISSING[number]:
        claim: Claim = CLAIMS[name]
        assert isinstance(claim, Untested) == (number == 17)
