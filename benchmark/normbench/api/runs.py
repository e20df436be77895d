"""Suites and trials from Python: `normbench.run` and `normbench.trial`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from normbench.api._suites import Only, SuiteLike, filters, suite_of
from normbench.api._words import in_python
from normbench.errors import BenchError
from normbench.spec.trial import Limits, Trial

if TYPE_CHECKING:
    from normbench.api.boards import Boards
    from normbench.api.stored import Results
    from normbench.lab.train import Progress
    from normbench.spec.outcome import Outcome, Status
    from normbench.suite import Suite

Device = Literal["cpu", "cuda"]
Engine = Literal["auto", "graph", "compile", "eager"]


@dataclass(frozen=True, repr=False)
class Ran:
    """What `normbench.run` has done."""

    suite: Suite
    only: Only
    ended: Mapping[str, Status]
    """How each trial ended that was run now, by its id."""
    broken: Mapping[str, str]
    """Those of them that ended as error or killed, with the reason."""
    cached: int
    """Trials whose results were there and are still good."""
    results: Results
    """What is stored of the suite, from earlier runs too."""

    def boards(self) -> Boards:
        """The boards of what was asked for."""
        from normbench.api.boards import board

        return board(self.suite, only=self.only, results=str(self.results.store.root))

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {status.value}" for status, n in Counter(self.ended.values()).items())
        lines = [f"{self.suite.name}: {len(self.ended)} trials run ({counts or 'none'}), {self.cached} cached"]
        return "\n".join([*lines, *(f"{trial}: {reason}" for trial, reason in self.broken.items())])


@in_python()
def run(
    suite: SuiteLike,
    *,
    only: Only = (),
    results: str | PathLike[str] | None = None,
    data: str | PathLike[str] | None = None,
    jobs: int | None = None,
    address: str | None = None,
    retry: bool = False,
    accept_versions: bool = False,
    keep_weights: bool = False,
    log: Sequence[str] = (),
    quiet: bool = False,
) -> Ran:
    """Run what a suite still misses, as `bench run` does: each trial in a process of its own, stored when it ends.

    suite: a file, the name of one in `suites/`, a loaded `Suite`, or a mapping of the keys that a file would have
    (`docs/suites.md`). only: a part of it, `"norm=gn"` or `{"norm": ["gn", "bn"], "seed": 0}`. results: the folder or
    address that results are kept in; by default `BENCH_RESULTS`, else `results/` of the checkout or the working
    directory. data: the folder of datasets; by default `BENCH_DATA`. jobs: most trials at once. address: a Ray cluster.
    retry: failed trials count as missing. accept_versions: results of other versions of the libraries count.
    keep_weights: those of trained networks, for `load`. log: `"tensorboard"`, `"wandb"`, `"mlflow"`, where trials go
    too. quiet: print nothing.

    Needs no `if __name__ == "__main__"`: no process imports the caller's script anew. A broken trial does not raise; it
    stands in `broken`. An interrupt ends the run, and the same call goes on from there.

    Raises `BenchError` for what is wrong with the arguments, the suite, the data or the machine.
    """
    from normbench.api.stored import Results
    from normbench.cli.planned import tell
    from normbench.cli.results import open_store
    from normbench.cli.say import screen
    from normbench.cli.wishes import Wishes
    from normbench.paths import data_dir as folder_of_data
    from normbench.runner.whole import Asked, run_whole
    from normbench.suite.only import chosen

    loaded = Wishes(keep_weights=keep_weights, log=log).of(suite_of(suite))
    trials, searches = chosen(loaded, filters(only))
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise BenchError(f"jobs: expected a whole number, 1 or more, or None for as many as fit, found {jobs!r:.60}")
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        raise BenchError("Ray is connected in this process already: call ray.shutdown() first, a run has its own")
    store = open_store(None if results is None else fspath(results))
    asked = Asked(
        suite=loaded,
        trials=trials,
        searches=searches,
        store=store,
        data_dir=folder_of_data(None if data is None else Path(data)),
        jobs=jobs,
        address=address,
        retry=retry,
        accept_versions=accept_versions,
    )
    console = screen()
    console.quiet = quiet
    plan, summary = run_whole(asked, console, partial(tell, store, console))
    return Ran(
        suite=loaded,
        only=only,
        ended={item.trial.trial_id: status for item, status, _ in summary.ended},
        broken={item.trial.trial_id: f"{item.trial.title}: {reason}" for item, _, reason in summary.broken},
        cached=len(plan.items) - len({i.trial.trial_id for i, _, _ in summary.ended}),
        results=Results(store, (loaded.name,)),
    )


@in_python()
def trial(
    suite: SuiteLike | Trial,
    *,
    only: Only = (),
    data: str | PathLike[str] | None = None,
    device: Device | None = None,
    engine: Engine | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Run one trial in this process, for a debugger, and store nothing.

    suite, data: as in `run`; a `Trial` will do. only: must leave one trial, `{"norm": "gn", "seed": 0}`. device: by
    default a GPU where there is one and the suite's limits allow it. engine: what computes training steps; by default
    what the limits say. report: called with the progress, each second or so.

    Returns the outcome: `status`, `clean_accuracy`, `attacks`, `robustness`, `health`, `curves`. Divergence is an
    outcome; any other error of the trial is raised from where it happened. Torch's settings and its random state on
    the CPU are afterwards what they were. Raises `BenchError` for what is wrong with the arguments, suite or data.
    """
    import torch

    from normbench.lab.trial_run import Context
    from normbench.lab.trial_run import run as run_here
    from normbench.paths import data_dir as folder_of_data
    from normbench.plan.fingerprints import Fingerprints
    from normbench.plan.provenance import provenance

    chosen, limits = (suite, Limits()) if isinstance(suite, Trial) else _one(suite, only)
    folder = folder_of_data(None if data is None else Path(data))
    for name, value, kind in (("device", device, Device), ("engine", engine, Engine)):
        if value not in (None, *get_args(kind)):
            raise BenchError(f"{name}: expected {', '.join(map(repr, get_args(kind)))} or None, found {value!r:.60}")
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("device 'cuda': torch finds no GPU here")
    here = device or ("cuda" if limits.gpu and torch.cuda.is_available() else "cpu")
    context = Context(
        data_dir=None if folder is None else str(folder),
        fingerprint=Fingerprints(folder, download=True).of(chosen) or "",
        device=here,
        threads=limits.cpu,
        engine=engine or limits.engine,
        provenance=provenance(),
    )
    with _settings_kept():
        return run_here(chosen, context, report, debug=True)


def _one(suite: SuiteLike, only: Only) -> tuple[Trial, Limits]:
    """The one trial that is wanted. Of a suite that tunes, candidates are meant."""
    from normbench.suite import expand
    from normbench.suite.only import axes, select

    loaded = suite_of(suite)
    found = select(expand(loaded), filters(only))
    if len(found) > 1:
        raise BenchError(
            f"only: {len(found)} trials of {loaded.name} match, and one is run here; they differ in "
            f"{'; '.join(line for line in axes(found) if ', ' in line)}"
        )
    return found[0], loaded.limits


@contextmanager
def _settings_kept() -> Iterator[None]:
    """A trial sets torch up for its process; afterwards this one is what it was."""
    import torch

    from normbench.tensors.seeding import streams_kept

    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    exact, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with streams_kept():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(exact, warn_only=warns)
