"""What a suite says of itself, beside its results in `results/<suite>/suite.json`: its role, its headline, and what its
datasets hold. `bench run` writes it; boards and pages read it. No row and no identity depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from normbench.spec.about import About
from normbench.store.reading import StoreError, told
from normbench.store.store import Store

FILE = "suite.json"


def read(store: Store, suite: str) -> About:
    """What `suite` says of itself; the defaults where it says nothing, and where its file cannot be read, which
    `store.problems` then names.
    """
    return _read(store, suite) or About()


def read_all(store: Store, suites: Iterable[str] | None = None) -> dict[str, About]:
    """What each of the suites (default: all that have results) says of itself."""
    return {suite: read(store, suite) for suite in (store.suites() if suites is None else suites)}


def keep(store: Store, suite: str, about: About) -> None:
    """Write what `suite` says of itself, if that is new. Datasets that were known stay known. Raises `StoreError`."""
    there = _read(store, suite)
    kept = about.model_copy(update={"datasets": (there.datasets if there else {}) | about.datasets})
    if kept == there:
        return
    try:
        store.files.write(f"{suite}/{FILE}", f"{kept.model_dump_json(indent=2)}\n".encode())
    except OSError as error:  # often the first write of a run: that the folder cannot be written to shows here
        raise StoreError(
            f"cannot write to the results folder {store.files.where('')}: {error.strerror or error}"
        ) from error


def bring(source: Store, target: Store, suite: str) -> None:
    """Copy from one results folder to another. Where both say something, the words of `target` stay, and it learns of
    datasets that it did not know.
    """
    if (new := _read(source, suite)) is not None:
        keep(target, suite, new if (there := _read(target, suite)) is None else _with(there, new))


def _with(there: About, new: About) -> About:
    return there.model_copy(update={"datasets": new.datasets | there.datasets})


def _read(store: Store, suite: str) -> About | None:
    name = f"{suite}/{FILE}"
    try:
        return About.model_validate_json(store.files.read(name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        store.problems[store.files.where(name)] = f"it does not say what a suite is for: {place or first['msg']}"[:300]
    except OSError as error:
        store.problems[store.files.where(name)] = told(error)
    return None
