"""The worst case of several attacks, and the growth of the weights."""

from __future__ import annotations

import numpy as np
from normbench.board import boards, growth
from normbench.spec.outcome import AttackResult, Outcome, Status
from normbench.spec.robustness import WORST_CASE

from tests.site import synthetic


def attacked(results, clean=40):
    """A board of one trial with these results: attack, threat, size and which images are right."""

    def outcome(trial):
        attacks = [
            AttackResult(
                attack=name,
                threat=threat,
                size=size,
                correct=int(np.sum(bits)),
                total=len(bits),
                outcomes=np.packbits(bits).tobytes(),
                seconds=0,
                model_calls=0,
            )
            for name, threat, size, bits in results
        ]
        return Outcome(status=Status.OK, clean_correct=clean, test_total=clean, attacks=attacks, started=1.0)

    (board,) = boards(synthetic.rows([synthetic.trial()], outcome))
    return board


def worst_of(board):
    return {(m.threat, m.size): board.entries[0].cells[m.key].value for m in board.metrics if m.attack == WORST_CASE}


def test_worst_case_is_image_by_image():
    a, b = np.array([1, 1, 0, 0] * 10, bool), np.array([1, 0, 1, 0] * 10, bool)
    board = attacked([("bim", "linf", 8 / 255, a), ("pgd", "linf", 8 / 255, b)])
    headline = board.headline("robust")
    assert headline.label == "worst case linf 8/255"
    assert board.entries[0].cells[headline.key].value == 0.25


def test_a_worst_case_counts_every_attack_at_this_or_a_smaller_size():
    few, most = np.arange(40) < 4, np.arange(40) < 34
    board = attacked([("pgd", "linf", 4 / 255, few), ("bim", "linf", 2 / 255, most), ("bim", "linf", 8 / 255, most)])
    assert worst_of(board) == {("linf", 4 / 255): 0.1, ("linf", 8 / 255): 0.1}


def test_the_worst_case_of_a_single_attack_is_that_attack():
    right = np.arange(40) < 20
    board = attacked([("bim", "linf", 1 / 255, right), ("bim", "linf", 2 / 255, right), ("pgd-l2", "l2", 0.5, right)])
    assert worst_of(board) == {}
    assert {m.attack for m in board.of("robust")} == {"bim", "pgd-l2"}


def test_without_a_ball_or_the_same_images_there_is_no_worst_case():
    right, fewer = np.arange(40) < 20, np.arange(24) < 20
    assert worst_of(attacked([("noise", "noise", 0.1, right), ("uniform-noise", "noise", 0.1, right)])) == {}
    assert worst_of(attacked([("bim", "linf", 0.1, right), ("pgd", "linf", 0.1, fewer)])) == {}


def test_growth_is_last_over_first_of_the_whole_network():
    curves = [
        {"step": s, "epoch": s, "measure": m, "layer": layer, "value": v}
        for m, layer, values in (
            ("weight-norm.raw", "", [2.0, 3.0, 5.0]),
            ("weight-norm.raw", "conv", [1, 9, 9]),
            ("weight-norm.effective", "", [1.0, None, None]),
        )
        for s, v in enumerate(values)
    ]
    assert growth(reversed(curves)) == {"weight-norm.raw": (2.0, 5.0)}
