"""Weights of trained networks, beside the results that they gave: `results/<suite>/weights/<trial_id>.safetensors`.

The row of a trial names its file by size and SHA-256, in `provenance.weights`; a file that no row names so is refused.
A trial writes its weights before its row, so a crash between the two leaves a file that the next run replaces, or that
`bench results gc` removes. What a file holds: see `normbench.lab.weights`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from normbench.errors import BenchError
from normbench.spec.outcome import Outcome
from normbench.spec.trial import Value
from normbench.store.files import Files, FilesError, open_files
from normbench.store.reading import told
from normbench.store.store import Store, shard_name

FOLDER = "weights"
SUFFIX = ".safetensors"
#: Bytes of the largest file that is written or read: weights of 500 million parameters.
MOST = 2**31
#: Where a row's provenance names its weights, or says why they could not be kept.
KEY, PROBLEM = "weights", "weights_problem"


class WeightsError(BenchError):
    """The weights of a trial are not there, damaged, or of another trial; the message says what to do."""


class Kept(Value):
    """What a row says of its file of weights."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the file's bytes."""
    size: Annotated[int, Field(ge=0)]
    """In bytes."""

    def fits(self, content: bytes) -> bool:
        """Whether a file of this content is the one that is meant."""
        return len(content) == self.size and hashlib.sha256(content).hexdigest() == self.sha256


def file_of(suite: str, trial_id: str) -> str:
    """Where the weights of a trial lie, relative to the results folder. Raises `StoreError` for what are no names."""
    folder, _, last = shard_name(suite, trial_id).rpartition("/")
    return f"{folder}/{FOLDER}/{last.removesuffix('.parquet')}{SUFFIX}"


def put(root: str, suite: str, trial_id: str, content: bytes) -> Kept:
    """Write the weights of a trial in one step into the results folder or address `root`. Raises `OSError`, and
    `FilesError` where there is no such folder here: one that is made here, on a node of a cluster, would not be that of
    the run.
    """
    if len(content) > MOST:
        raise FilesError(f"they have {len(content):,} bytes; at most {MOST:,} are kept")
    files = _here(root)
    files.write(file_of(suite, trial_id), content)
    return Kept(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def _here(root: str) -> Files:
    if "://" not in root and not Path(root).is_dir():
        raise FilesError(f"the results folder {root} is not on this machine: nodes of a cluster must share one")
    return open_files(root)


def named_by(provenance: str | Mapping[str, Any] | None) -> Kept | None:
    """What a row's provenance (JSON, or its content) says of its weights; None where it has none."""
    said = json.loads(provenance or "{}") if isinstance(provenance, str | None) else provenance
    try:
        return Kept.model_validate(said[KEY])
    except (KeyError, TypeError, ValidationError):
        return None


def confirmed(store: Store, suite: str, trial_id: str, outcome: Outcome) -> Outcome:
    """The outcome of a trial whose weights lie in `store`, if it says that they were kept. A node of a cluster may have
    written to a folder of the same name that is not this one: then the outcome says so instead.
    """
    said = named_by(outcome.provenance)
    if said is None or sizes(store, suite).get(trial_id) == said.size:
        return outcome
    problem = f"its weights are on another machine, not in {store.files.where(suite)}: nodes must share the folder"
    facts = {k: v for k, v in outcome.provenance.items() if k != KEY}
    return outcome.model_copy(update={"provenance": facts | {PROBLEM: problem}})


def kept(store: Store, suite: str) -> set[str]:
    """The trials whose weights lie there in the size that their rows say."""
    there = sizes(store, suite)
    return {trial_id for trial_id, said in _named(store, suite).items() if there[trial_id] == said.size}


def sizes(store: Store, suite: str) -> dict[str, int]:
    """Bytes of the files of weights in a suite's folder, by the names of their trials."""
    entries = store.entries(f"{suite}/{FOLDER}")
    return {e.name.removesuffix(SUFFIX): e.size for e in entries if e.name.endswith(SUFFIX) and not e.is_folder}


def read(store: Store, suite: str, trial_id: str, said: Kept) -> bytes:
    """The file that a row names so. Raises `WeightsError` for any other."""
    name = file_of(suite, trial_id)
    where = store.files.where(name)
    try:
        content = store.files.read(name, MOST)
    except FileNotFoundError:
        raise WeightsError(
            f"the weights of trial {trial_id} were kept, but {where} is not there: exports leave weights out; copy the "
            "file from the results folder where the trial was run"
        ) from None
    except OSError as error:
        raise WeightsError(f"{where} cannot be read: {told(error)}") from None
    if not said.fits(content):
        raise WeightsError(
            f"{where} is damaged, or of another run: its {len(content):,} bytes are not those that the row of trial "
            f"{trial_id} names ({said.size:,} bytes, SHA-256 {said.sha256[:12]}...)"
        )
    return content


def damaged(store: Store, suite: str) -> Iterator[tuple[str, str]]:
    """The files of weights that are not what their rows name, each with the reason. Those that no row names are left
    over, not damaged; see `unnamed`.
    """
    for trial_id, said in _named(store, suite).items():
        try:
            read(store, suite, trial_id, said)
        except WeightsError as error:
            yield file_of(suite, trial_id), str(error)


def unnamed(store: Store, suite: str, running: Set[str]) -> Iterator[str]:
    """The files of weights that no row names: of trials that ended otherwise, were run again without keeping them, or
    were removed. running: trials whose row is still to come. Where a row cannot be read, none: it may name one.
    """
    there = sizes(store, suite)
    named = _named(store, suite)
    if any(store.files.where(name) in store.problems for name in (store.shards(suite) if there else ())):
        return
    wanted = named.keys() | running
    yield from (f"{suite}/{FOLDER}/{trial_id}{SUFFIX}" for trial_id in there if trial_id not in wanted)


def _named(store: Store, suite: str) -> dict[str, Kept]:
    """What rows name of the files that are there."""
    there = sizes(store, suite)
    rows = store.rows([suite], ["trial_id", "provenance"]) if there else ()
    found = ((r["trial_id"], named_by(r["provenance"])) for r in rows)
    return {trial_id: said for trial_id, said in found if said and trial_id in there}


def bring(source: Store, target: Store, suite: str, trial_id: str) -> None:
    """Copy the weights of a trial, where `source` has them, to another results folder. Raises `StoreError`."""
    name = file_of(suite, trial_id)
    try:
        content = source.files.read(name, MOST)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        source.problems[source.files.where(name)] = told(error)
        return
    target.put(name, content)
