"""BIM against the worst case, weight decay, the paper's tables, whitening: planted effects found, noise not, too little
data said to be too little.
"""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from normbench.board import compare
from normbench.board.comparison import UNDECIDED
from normbench.spec.robustness import WORST_CASE
from normbench.studies import asked, evidence, registry
from normbench.studies.base import Evidence, Question
from normbench.studies.bim_worst_case import pairs

from tests.studies.planted import TOTAL, row, sections
from tests.studies.test_paper import paper_rows
from tests.studies.test_whitening import CLAIMED, whitened

EPS = 4 / 255


def packed(share: float) -> bytes:
    bits = np.zeros(TOTAL, bool)
    bits[: round(share * TOTAL)] = True
    return np.packbits(bits).tobytes()


def attacked(norm: str, seed: int, clean: float, **accuracies: float) -> dict[str, Any]:
    """A row whose attacks have per-image outcomes: the first images withstand, so that the worst case is the smallest
    accuracy.
    """
    made = row(norm, seed, clean)
    made["attacks"] = [
        {
            "attack": a,
            "threat": "linf",
            "size": EPS,
            "accuracy": round(v * TOTAL) / TOTAL,
            "total": TOTAL,
            "outcomes": packed(v),
        }
        for a, v in accuracies.items()
    ]
    return made


def test_every_question_is_whole():
    assert registry.problems() == {}
    names = registry.names()
    assert names == [
        "batch-width",
        "bim-worst-case",
        "optimizers",
        "paper",
        "stochasticity",
        "weight-decay",
        "weight-norms",
    ]
    for name in names:
        question = registry.make(name)
        assert question.summary.endswith("?")
        assert question.title
        assert question.source
        assert question.method
        assert not question.fits(evidence([]))


# BIM against the worst case

METHODS = {"bn": 0.50, "gn": 0.45, "ln": 0.40, "in": 0.35, "none": 0.30}


SIGNS = {"higher": 1, "lower": -1, UNDECIDED: 0}


def ranked(worst: dict[str, float], **how: Any) -> Evidence:
    return evidence(ranked_rows(worst, **how))


def ranked_rows(
    worst: dict[str, float], *, seeds: int = 3, noise: float = 0.003, draw: int = 0
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(draw)
    made = []
    for norm, bim in METHODS.items():
        for seed in range(seeds):
            moved = noise * float(rng.normal())
            made.append(
                attacked(norm, seed, 0.9, bim=bim + moved, square=worst[norm] + moved + noise * float(rng.normal()))
            )
    return made


def test_a_ranking_that_turns_over_is_found():
    (found,) = sections("bim-worst-case", ranked(dict(zip(METHODS, (0.05, 0.10, 0.15, 0.20, 0.25), strict=True))))
    assert found.verdict == "yes"
    assert "10 changed places" in found.answer
    assert "tau of the means is -1.00" in found.answer


def test_a_ranking_that_stays_is_found():
    (found,) = sections("bim-worst-case", ranked({norm: v - 0.1 for norm, v in METHODS.items()}))
    assert found.verdict == "no"
    assert "0 changed places, 10 kept their order, and 0 cannot be told" in found.answer


def test_methods_that_are_alike_do_not_change_places_but_cannot_be_told():
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(60):
        same = []
        for norm in METHODS:
            for seed in range(3):
                a, b = 0.4 + 0.01 * rng.normal(size=2)
                same.append(attacked(norm, seed, 0.9, bim=a, square=b - 0.1))
        (found,) = sections("bim-worst-case", evidence(same))
        verdicts.append(found.verdict)
    assert verdicts.count("cannot be told") >= 55
    assert verdicts.count("yes") <= 3


def test_pairs_are_those_that_the_board_tells_apart():
    """So that page and board agree, pair by pair; a method of two seeds is in no pair that was tested."""
    worst = dict(zip(METHODS, (0.30, 0.29, 0.20, 0.25, 0.10), strict=True))
    rows = ranked_rows(worst, noise=0.01)
    found = evidence([r for r in rows if not (json.loads(r["spec"])["norm_label"] == "none" and r["seed"] == 2)])
    (board,) = found.boards
    bim, other = (next(m for m in board.of("robust") if m.attack == a) for a in ("bim", WORST_CASE))
    made = pairs(board.entries, bim, other)
    counts = {1: 0, -1: 0, 0: 0, None: 0}
    for a, b in combinations(board.entries, 2):
        said = [SIGNS.get(compare(board, a, b, m).verdict) for m in (bim, other)]
        counts[None if None in said else said[0] * said[1]] += 1
    assert (made.kept, made.changed, made.open, made.untested) == (counts[1], counts[-1], counts[0], counts[None])
    assert made.untested == 4
    assert made.kept
    assert made.open
    (section,) = sections("bim-worst-case", found)
    assert f"{made.open} cannot be told; 4 were not tested" in section.answer


def test_without_repeats_no_pair_is_compared():
    (found,) = sections("bim-worst-case", ranked(dict(METHODS), seeds=1))
    assert found.verdict == "not tested"
    assert "not tested: 1 seed, 3 needed" in found.answer


def test_bim_alone_has_no_worst_case_to_compare_with():
    rows = [attacked(norm, s, 0.9, bim=0.4) for norm in METHODS for s in range(3)]
    assert not registry.make("bim-worst-case").fits(evidence(rows))


# Weight decay

DECAYS = (0.0, 1e-4, 5e-4, 2e-3)
NORMS = ("bn", "gn", "ln", "in", "rms", "wn", "cwn", "sn")


def decayed(
    across: float,
    within: float,
    *,
    seeds: int = 3,
    noise: float = 0.01,
    draw: int = 0,
    norms=NORMS,
    odd: float = 0.0,
    **extra: Any,
) -> Evidence:
    """Growth of 1 to 3 octaves over methods and up to 1 within; vulnerability moves by `across` and `within` an octave,
    and by `odd` for the last method, which then grows by two octaves more.
    """
    rng = np.random.default_rng(draw)
    rows = []
    for i, norm in enumerate(norms):
        base = 1 + 2 * float(rng.random()) if draw else 1 + 2 * i / (len(norms) - 1)
        stands_out = odd if norm == norms[-1] else 0.0
        base += 2 * bool(stands_out)
        for k, decay in enumerate(DECAYS):
            inside = 1 - k / (len(DECAYS) - 1)
            for seed in range(seeds):
                turned = 0.4 + stands_out + across * (base - 2) + within * (inside - 0.5) + noise * float(rng.normal())
                grown = 2.0 ** (base + inside + 0.01 * float(rng.normal()))
                curves = {
                    ("weight-norm.raw", ""): (10.0, 10.0 * grown),
                    ("weight-norm.raw", "conv1"): (4.0, 4.0 * grown),
                } | extra.get("curves", {})
                attacks = {("bim", "linf", EPS): 0.9 * (1 - turned)}
                rows.append(
                    row(norm, seed, 0.9, weight_decay=decay, curves=curves, attacks=attacks, invariant=["conv1"])
                )
    return evidence(rows)


def test_growth_that_goes_with_vulnerability_everywhere_is_found():
    (found,) = sections("weight-decay", decayed(0.1, 0.1))
    assert found.verdict == "yes"
    assert "says nothing of causes" in found.answer


def test_growth_that_goes_with_vulnerability_across_methods_alone_is_not_enough():
    (found,) = sections("weight-decay", decayed(0.1, -0.2))
    assert found.verdict == "no"
    (found,) = sections("weight-decay", decayed(0.1, 0.0, noise=0.05))
    assert found.verdict == "cannot be told"


def test_one_method_far_from_the_others_is_no_tie():
    (found,) = sections("weight-decay", decayed(0.0, 0.1, noise=0.02, odd=0.3, draw=3))
    pearson, spearman = (
        next(f.estimate.value for f in found.findings if f.of == f"across methods, {name}" and f.estimate)
        for name in ("Pearson", "Spearman")
    )
    assert pearson > 0.8 > 0.6 > spearman
    assert found.verdict == "cannot be told"


@pytest.mark.matrix
def test_noise_is_rarely_called_a_tie():
    verdicts = [sections("weight-decay", decayed(0.0, 0.0, draw=i))[0].verdict for i in range(1, 81)]
    assert verdicts.count("yes") <= 2
    assert verdicts.count("no") <= 10


def test_too_few_methods_have_no_correlation():
    (found,) = sections("weight-decay", decayed(0.1, 0.1, norms=("bn", "gn")))
    assert found.verdict == "cannot be told"
    assert "too few units" in found.answer


def test_every_reading_of_the_intervention_is_shown():
    found = decayed(0.1, 0.1, curves={("rescaling.clean@0.1", ""): (0.9,), ("rescaling.bim@10", ""): (0.3, 0.41)})
    (section,) = sections("weight-decay", found)
    table = next(t for t in section.tables if "intervention" in t.title.lower())
    assert table.head[1:] == ("Accuracy under BIM, weights times 10", "Clean accuracy, weights times 0.1")
    assert len(table.rows) == len(NORMS) * len(DECAYS)
    assert all("0.410" in str(r[1]) and "0.900" in str(r[2]) for r in table.rows)
    (without,) = sections("weight-decay", decayed(0.1, 0.1))
    assert any("was not recorded" in n for n in without.notes)


def test_questions_are_asked_where_the_shape_fits_and_nowhere_else():
    def names(found: Evidence) -> list[str]:
        return [q.name for q in asked(found)]

    assert names(ranked(dict(METHODS))) == ["bim-worst-case"]
    assert names(decayed(0.1, 0.1)) == ["weight-decay"]
    assert names(whitened(CLAIMED)) == ["stochasticity"]
    assert "paper" in names(evidence(paper_rows(0.0)))


@pytest.mark.parametrize("name", registry.names())
def test_a_suite_where_everything_failed_gives_an_honest_answer_or_none(name):
    rows = [
        row(n, s, None, weight_decay=d, width=w, batch_size=b)
        for n in ("bn", "gn")
        for s in (0, 1)
        for d in (0.0, 1e-3)
        for w in (0.5, 1.0)
        for b in (8, 16, 32)
    ]
    question: Question = registry.make(name)
    found = evidence(rows)
    if question.fits(found):
        assert all(s.verdict == "not tested" for s in question.sections(found))
