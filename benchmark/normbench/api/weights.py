"""The trained network of a stored trial."""

from __future__ import annotations

import json
import warnings
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from normbench.api._words import in_python
from normbench.errors import BenchError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normbench.store.store import Store


@in_python()
def load(
    trial_id: str,
    *,
    results: str | PathLike[str] | None = None,
    suite: str | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """The trained network of a trial whose weights were kept (`bench run --keep-weights`), in eval mode.

    It maps images `(N, C, H, W)`, float in [0, 1], to logits `(N, classes)`: the swap is made, the weights are loaded,
    and it standardizes the pixels as in the trial. On the class of device that the trial ran on, with the same
    libraries and code, it classifies each test image as the trial did; where one of these differs, a warning says so.

    trial_id: 16 hexadecimal digits, or the first of them if no other trial begins so. results: a folder, or an address
    such as `s3://bucket/prefix`; None: that of `BENCH_RESULTS`, or `results/`. suite: needed only where several suites
    hold the trial. Raises `StoreError` for a trial that is not there, `WeightsError` where its weights were not kept,
    are damaged or do not fit.
    """
    from normbench.cli.results import open_store
    from normbench.lab.weights import network
    from normbench.store import weights
    from normbench.store.find import find
    from normbench.store.schema import trial_of

    store = open_store(None if results is None else fspath(results), must_exist=True)
    row = find(store, trial_id, suite=suite)
    said = weights.named_by(row["provenance"])
    if said is None:
        raise weights.WeightsError(_without(store, row))
    content = weights.read(store, row["suite"], row["trial_id"], said)
    trial = trial_of(row)
    where = store.files.where(weights.file_of(row["suite"], row["trial_id"]))
    model = network(trial, content, where)
    for reason in _changes(row):
        warnings.warn(f"trial {row['trial_id']} was trained otherwise: {reason}", stacklevel=3)
    model = model.to(device)
    if next(model.parameters()).is_cuda:
        import torch

        model = model.to(memory_format=torch.channels_last)
    return model


def _without(store: Store, row: dict[str, Any]) -> str:
    """Why a row has no weights, and what to do."""
    from normbench.store.weights import PROBLEM

    who = f"trial {row['trial_id']} of suite {row['suite']} in {store.root}"
    if problem := json.loads(row["provenance"] or "{}").get(PROBLEM):
        return f"{who} has no weights: {problem}"
    if row["status"] != "ok":
        return f"{who} has no weights: it ended as {row['status']} ({row['reason']})"
    if row["stage"] != "final":
        return f"{who} has no weights: it is a candidate of tuning, whose weights are not kept"
    return f"{who} was run without keeping its weights: run its suite again with --keep-weights and --retry"


def _changes(row: dict[str, Any]) -> list[str]:
    """What is not as it was when the trial was run."""
    from normbench.plan.identity import identity
    from normbench.store.schema import trial_of

    try:
        return identity(trial_of(row), None).changes_since(json.loads(row["identity_parts"]))
    except BenchError as error:
        return [str(error)]
