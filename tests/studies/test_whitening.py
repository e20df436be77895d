"""Orders of whitening's disturbance: planted ones found, noise not."""

from __future__ import annotations

import json

import numpy as np
from normbench.studies import evidence
from normbench.studies.base import Evidence

from tests.studies.planted import row, sections


def whitened(levels: dict[str, float], *, seeds: int = 4, noise: float = 0.05, draw: int = 0) -> Evidence:
    rng = np.random.default_rng(draw)
    rows = []
    for norm, level in levels.items():
        for seed in range(seeds):
            curves = {
                ("disturbance.mean", layer): (1.0, level * 2 ** (noise * float(rng.normal()))) for layer in ("a", "b")
            }
            made = row(norm, seed, 0.9, curves=curves)
            spec = json.loads(made["spec"])
            spec["measures"] = [{"name": "disturbance", "params": {}}]
            rows.append(made | {"spec": json.dumps(spec, sort_keys=True, separators=(",", ":"))})
    return evidence(rows)


CLAIMED = {"bw-pca": 4.0, "bw-cd": 2.0, "bw-zca": 1.0, "bn": 0.5}
SIZED = {f"bw-zca[group={g}]": 0.25 * g**0.5 for g in (2, 4, 8)}


def test_the_claimed_order_and_the_effect_of_groups_are_found():
    (found,) = sections("stochasticity", whitened(CLAIMED | SIZED))
    assert found.verdict == "yes"
    assert "The disturbance of bw-pca is 2." in found.answer or "of bw-pca is 1.9" in found.answer
    groups = next(t for t in found.tables if t.title == "Effect of the group size")
    assert str(groups.rows[0][2]).startswith("0.5")


def test_a_reversed_order_is_no_and_noise_cannot_be_told():
    (found,) = sections("stochasticity", whitened(CLAIMED | {"bn": 8.0}))
    assert found.verdict == "no"
    verdicts = [sections("stochasticity", whitened(dict.fromkeys(CLAIMED, 1.0), draw=i))[0].verdict for i in range(80)]
    assert verdicts.count("cannot be told") >= 70
    assert "yes" not in verdicts


def test_a_claimed_order_of_two_seeds_is_not_tested():
    (found,) = sections("stochasticity", whitened(CLAIMED, seeds=2))
    assert found.verdict == "not tested"
    assert "The claimed order was not tested: 2 seeds in common, 3 needed" in found.answer
    (found,) = sections("stochasticity", whitened(SIZED))
    assert found.verdict == "not tested"
    assert "The claimed order was not tested" in found.answer
