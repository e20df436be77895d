"""A suite from its plan to stored results: what `bench run` and `normbench.run` have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from normbench.runner import spawn
from normbench.runner.folder import run_folder

if TYPE_CHECKING:
    from rich.console import Console

    from normbench.plan.plan import Plan
    from normbench.runner.session import Summary
    from normbench.spec.trial import Trial
    from normbench.spec.tuning import TuningSearch
    from normbench.store.store import Store
    from normbench.suite import Suite


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be run: all of a suite, or a part of it."""

    suite: Suite
    trials: Sequence[Trial]
    searches: Sequence[TuningSearch]
    """Of a suite with `tune`, in the place of `trials`."""
    store: Store
    data_dir: Path | None
    jobs: int | None = None
    """Most trials at once; None: as many as fit."""
    address: str | None = None
    """A Ray cluster; None: this machine."""
    retry: bool = False
    accept_versions: bool = False


def run_whole(asked: Asked, console: Console, tell: Callable[[Plan, bool], None]) -> tuple[Plan, Summary]:
    """Run what a suite still misses, the final trials of a tuned one after its candidates.

    tell: called with each plan before it is run; the second value is True for the first plan, False for the one that
    tuning has led to. Raises `BenchError`, and `KeyboardInterrupt` where a signal ends the run; what has ended is
    stored.
    """
    with ExitStack() as opened:
        folder = opened.enter_context(run_folder())
        # A cluster's nodes load torch themselves. Here it is loaded from now on, while the plan is made and Ray starts.
        variables = {} if asked.address else opened.enter_context(spawn.running())
        from normbench.plan.plan import make
        from normbench.runner import session
        from normbench.runner.cluster import Connection
        from normbench.runner.logs import Logs
        from normbench.runner.possible import looked_at
        from normbench.runner.sharing import refuse_other_versions
        from normbench.store.about import keep
        from normbench.suite import about

        suite, store = asked.suite, asked.store
        planning = partial(make, suite.name, asked.trials, store, asked.data_dir, searches=asked.searches)
        planning = partial(planning, download=True, retry=asked.retry, accept_versions=asked.accept_versions)
        planning = partial(planning, keep_weights=suite.keeps_weights, log=suite.log)
        note = partial(console.print, soft_wrap=True)
        ray = opened.enter_context(Connection(folder, asked.address, variables, note))
        logs = opened.enter_context(Logs(suite.name, suite.log, note))
        running = partial(session.run, store=store, limits=suite.limits, console=console, logs=logs)
        running = partial(running, data_dir=asked.data_dir, jobs=asked.jobs, ray=ray, keep_weights=suite.keeps_weights)

        def again(ended: Collection[str]) -> Plan:
            made = planning(ended=ended)
            tell(made, False)
            return made

        plan = looked_at(planning(), variables.get(spawn.ADDRESS))
        if not plan.todo:
            opened.close()
        refuse_other_versions(store)
        keep(store, suite.name, about(suite).model_copy(update={"datasets": plan.datasets}))
        tell(plan, True)
        return session.both_phases(plan, running, again)
