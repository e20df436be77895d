"""What the datasets of a plan hold: each is looked at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normbench.lab import data as datasets
from normbench.lab.data.images import images, unlike
from normbench.spec.about import Images
from normbench.spec.trial import Trial


class UnusableDataError(datasets.DataError):
    """Of a dataset that a suite names, nothing can be trained; `dataset` is how it names it."""

    def __init__(self, dataset: str, message: str) -> None:
        super().__init__(message)
        self.dataset = dataset


class Fingerprints:
    """Fingerprints of what datasets hold, each computed once. Trials that see only the training split have a
    fingerprint of that split.
    """

    def __init__(self, data_dir: Path | None, *, download: bool) -> None:
        self._data_dir, self._download = data_dir, download
        self._known: dict[tuple[Any, ...], str | None] = {}
        self._unlike: dict[tuple[Any, ...], str] = {}
        """Of a dataset whose training and test images differ in size, what is said of it."""
        self.datasets: dict[str, Images] = {}
        """What the datasets with a test split hold, by fingerprint."""
        self.sides: dict[str, int] = {}
        """Pixels along a side of their images, by the dataset's name."""

    def of(self, trial: Trial) -> str | None:
        """None when the dataset is not on this machine and may not be fetched."""
        spec, test = trial.data, trial.stage == "final"
        key = (spec.dataset, spec.train_split, spec.test_split if test else None, spec.image_column, spec.label_column)
        if key not in self._known:
            try:
                source = datasets.locate(spec, self._data_dir, download=self._download, test=test)
                self._known[key] = found = self._checked(source) if source else None
            except datasets.DataError as error:
                raise UnusableDataError(spec.dataset, str(error)) from error
            if source and found and test and (there := images(source)):
                self.datasets[found] = there
                self._unlike[key] = unlike(source)
                if there.side:
                    self.sides[spec.dataset] = there.side
        if spec.image_size is None and (problem := self._unlike.get(key)):
            raise UnusableDataError(spec.dataset, problem)
        return self._known[key]

    @property
    def absent(self) -> tuple[str, ...]:
        """Datasets that are not on this machine and may not be fetched."""
        return tuple(dict.fromkeys(key[0] for key, found in self._known.items() if found is None))

    def _checked(self, source: datasets.Source) -> str:
        """The fingerprint of what can be trained on. Raises `DataError` for labels that cannot."""
        survey = datasets.survey(source)
        datasets.classes_of(source.name, survey.train, survey.test, survey.names)
        return survey.fingerprint
