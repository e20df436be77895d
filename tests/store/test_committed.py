"""The results of this repository: their numbers are those that were measured, whatever became of the columns around
them.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import normbench
import pytest
from normbench.plan.digests import source_digest
from normbench.plan.identity import identity
from normbench.store.schema import trial_of
from normbench.store.store import Store
from normbench.store.verify import verify

RESULTS = Path(normbench.__file__).parents[2] / "results"
#: What was measured, and of what.
MEASURED = (
    *("suite", "trial_id", "seed", "norm", "stage", "status", "epoch", "clean_correct", "test_total"),
    *("clean_outcomes", "test_loss", "train_loss", "validation_accuracy", "attacks", "robustness", "health", "curves"),
)
#: Rows, and the digest of what they measured, of all that had run by then. Who runs one of these trials again, and
#: commits another row, computes the digest of its suite anew.
UNTIL = datetime(2026, 11, 27, 12, tzinfo=UTC)
KNOWN = {
    "batch_width-digits": (166, "cab88af6b9217ec5"),  # less 44 final trials at rates that a wider grid did not choose
    "cifar-narrow": (120, "b6d209c2bd8b75f0"),
    "cifar-smoke": (16, "346999be24631b7a"),
    "digits": (15, "9a88b2c894caa3f7"),
    "digits-measures": (5, "63f910b4e2ecd26d"),
    "digits-tuned": (15, "f17a2cea80005f6b"),
    "methods": (33, "5be3534e10140f14"),
    "stochasticity": (39, "6e0a61f97def434b"),
}


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(RESULTS)


@pytest.mark.parametrize("suite", KNOWN)
def test_what_was_measured_stays(store: Store, suite: str) -> None:
    rows = [r for r in store.rows([suite], [*MEASURED, "started"]) if r["started"] < UNTIL]
    plain = [_plain({k: r[k] for k in MEASURED}) for r in sorted(rows, key=lambda r: r["trial_id"])]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert (len(rows), hashlib.sha256(text.encode()).hexdigest()[:16]) == KNOWN[suite]


def test_every_row_holds_together_and_is_of_the_code_here(store: Store) -> None:
    good, findings = verify(store)
    assert not findings
    assert good >= 453
    for row in store.rows(columns=["spec", "identity_parts", "content"]):
        parts = json.loads(row["identity_parts"])
        assert identity(trial_of(row), row["content"]).changes_since(parts, accept_versions=True) == []
        assert parts["code"] == {module: source_digest(module) for module in parts["code"]}
        assert (parts["device_class"], parts["precision"]) in {("cpu", "float32"), (None, None)}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
