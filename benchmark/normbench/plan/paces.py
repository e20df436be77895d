"""How long a trial should take, judged by stored ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from statistics import median
from typing import Any

import pyarrow as pa

from normbench.spec.outcome import Status
from normbench.spec.trial import Trial
from normbench.store.store import Store

#: What rows of other suites are read for.
COLUMNS = (
    "suite",
    "trial_id",
    "dataset",
    "model",
    "width",
    "stage",
    "norm",
    "status",
    "wall_seconds",
    "epochs",
    "spec",
)

_By = dict[tuple[Any, ...], list[tuple[str, str, float]]]


class Paces:
    """Seconds of whole trials, scaled by epochs: the median over rows of the suite of the same dataset, model, width,
    stage and method; without any, of the same stage; without those, of the same shape. A suite that has no such row
    is judged by those of other suites, if they see as many pixels of as many images.
    """

    def __init__(self, store: Store, suite: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self._store, self._suite = store, suite
        self._own = _paces(rows)
        self._elsewhere: dict[str, _By] = {}
        self._used: set[tuple[str, str]] = set()

    @property
    def judged_by(self) -> dict[str, int]:
        """By suite, the number of stored trials that estimates were made from."""
        return dict(sorted(Counter(suite for suite, _ in self._used).items()))

    def estimate(self, trial: Trial) -> float | None:
        """Seconds, or None where no stored trial tells."""
        pace = self._median(self._own, trial)
        if pace is None:
            pace = self._median(self._similar(trial), trial)
        return None if pace is None else pace * trial.train.epochs

    def _median(self, paces: _By, trial: Trial) -> float | None:
        shape = (trial.data.dataset, trial.model.name, trial.model.width)
        for key in ((*shape, trial.stage, trial.norm_label), (*shape, trial.stage), shape):
            if found := paces.get(key):
                self._used |= {(suite, trial_id) for suite, trial_id, _ in found}
                return median(pace for _, _, pace in found)
        return None

    def _similar(self, trial: Trial) -> _By:
        """Paces of other suites' trials on the same data with the same network."""
        images = _images(trial.model_dump(mode="json"))
        if images not in self._elsewhere:
            places = self._places.get((trial.data.dataset, trial.model.name), [])
            rows = ({name: self._others.column(name)[place].as_py() for name in COLUMNS} for place in places)
            self._elsewhere[images] = _paces(r for r in rows if _images(json.loads(r["spec"])) == images)
        return self._elsewhere[images]

    @cached_property
    def _places(self) -> dict[tuple[str, str], list[int]]:
        """Rows of `_others` by dataset and model. A filter of pyarrow's would import pandas, for a second."""
        places: dict[tuple[str, str], list[int]] = {}
        named = (self._others.column(name).to_pylist() for name in ("dataset", "model"))
        for place, key in enumerate(zip(*named, strict=True)):
            places.setdefault(key, []).append(place)
        return places

    @cached_property
    def _others(self) -> pa.Table:
        suites = [s for s in self._store.suites() if s != self._suite]
        return self._store.table(suites, COLUMNS)


def _images(spec: Mapping[str, Any]) -> str:
    """What of a specification decides how much there is to compute for an epoch, besides the width."""
    seen = {k: spec["data"][k] for k in ("dataset", "image_size", "train_examples")}
    return json.dumps([seen, spec["model"]["name"], spec["model"]["kwargs"], spec["model"]["stem"]], sort_keys=True)


def _paces(rows: Iterable[Mapping[str, Any]]) -> _By:
    """Suite, trial and seconds an epoch of whole trials, by shape; by shape and stage; and by these and the method."""
    by: _By = {}
    for row in rows:
        if row["status"] != Status.OK or not row["wall_seconds"]:
            continue
        pace = (row["suite"], row["trial_id"], row["wall_seconds"] / row["epochs"])
        shape = (row["dataset"], row["model"], row["width"])
        for key in ((*shape, row["stage"], row["norm"]), (*shape, row["stage"]), shape):
            by.setdefault(key, []).append(pace)
    return by


def total(times: Sequence[float | None]) -> float | None:
    """The sum, where unknown ones take as long as the others on average; None where all are unknown."""
    known = [seconds for seconds in times if seconds is not None]
    if not times:
        return 0.0
    return sum(known) / len(known) * len(times) if known else None
