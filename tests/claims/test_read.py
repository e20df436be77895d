"""Claims that are read off results: planted effects are found, and none where there is none."""

from __future__ import annotations

from normbench.claims import Finding, Trained
from normbench.claims._listed import chosen
from normbench.studies import Evidence, evidence

from tests.studies.test_others import decayed
from tests.studies.test_paper import paper_rows
from tests.studies.test_whitening import CLAIMED, SIZED, whitened

READ = {c.name: c for c in chosen() if isinstance(c, Trained)}


def of(name: str, found: Evidence) -> Finding:
    return READ[name].read({"planted": found})


def test_without_results_all_say_so() -> None:
    for claim in READ.values():
        found = claim.read({})
        assert found.verdict == "not tested"
        assert found.reason
        assert claim.read({"empty": evidence([])}) == found


def test_weight_decay_that_helps_and_that_hurts_is_found() -> None:
    up, down = (evidence(paper_rows(effect)) for effect in (0.05, -0.05))
    for name in ("decay-noise", "decay-bim", "decay-noise-loss", "decay-bim-loss"):
        assert of(name, up).verdict == "holds"
        assert of(name, down).verdict == "refuted"
    assert of("growth-without-decay", up).verdict == "holds"
    assert of("decay-less-growth", up).verdict == "holds"
    assert of("growth-without-decay", evidence(paper_rows(0.0, grows=-1.0))).verdict == "refuted"


def test_findings_on_data_that_the_paper_has_no_table_of_count_without_printed_numbers() -> None:
    for name in ("decay-noise", "decay-bim-loss", "decay-less-growth"):
        here, printed = (of(name, evidence(paper_rows(0.05, dataset=d))) for d in ("svhn", "cifar10"))
        assert [(p.what, p.value, p.low, p.high) for p in here.parts] == [
            (p.what, p.value, p.low, p.high) for p in printed.parts
        ]
        assert here.verdict == "holds"
        assert {p.printed for p in here.parts} == {None}
        assert "svhn" in here.scope


def test_no_effect_is_undecided_with_its_power_and_the_seeds_that_it_would_take() -> None:
    found = of("decay-noise", evidence(paper_rows(0.0, noise=0.01)))
    assert found.verdict == "undecided"
    assert found.power
    assert found.needed
    assert found.needed > 3
    assert "cifar10" in found.scope
    assert "3 seeds" in found.scope


def test_two_seeds_are_too_few() -> None:
    found = of("decay-noise", evidence(paper_rows(0.05, seeds=2)))
    assert (found.verdict, found.reason) == ("not tested", "fewer than three seeds")


def test_ties_of_growth_and_vulnerability_are_read() -> None:
    assert of("growth-vulnerability", decayed(0.1, 0.1)).verdict == "holds"
    assert of("growth-vulnerability", decayed(-0.1, -0.1)).verdict == "refuted"


def test_the_order_of_whitening_is_read() -> None:
    assert of("snd-order-trained", whitened(CLAIMED | SIZED)).verdict == "holds"
    assert of("snd-groups-trained", whitened(CLAIMED | SIZED)).verdict == "holds"
    reversed_ = dict(zip(CLAIMED, reversed(CLAIMED.values()), strict=True))
    assert of("snd-order-trained", whitened(reversed_)).verdict == "refuted"


def test_losses_under_attack_are_read() -> None:
    rows = paper_rows(0.0)
    for row in rows:
        for attack in row["attacks"]:
            if attack["attack"] == "galloway[linf]":
                attack["attack"], attack["threat"], attack["size"] = "bim", "linf", 4 / 255
    assert of("vulnerable-everywhere", evidence(rows)).verdict == "holds"


def test_a_run_without_one_of_the_accuracies_stops_no_claim() -> None:
    """Anybody's row may have attacks and no clean accuracy, or the other way round."""
    rows = paper_rows(0.0)
    for row in rows:
        for attack in row["attacks"]:
            attack["attack"], attack["threat"] = "bim", "linf"
    for row in rows[::2]:
        row |= {"clean_correct": None, "clean_accuracy": None, "clean_outcomes": None}
    for row in rows[1::4]:
        row["attacks"] = []
    found = {name: claim.read({"planted": evidence(rows)}) for name, claim in READ.items()}
    assert all(f.parts or f.reason for f in found.values()), "each says what it found, or why nothing"
