"""Weights & Biases: a run a trial, in the project `normbench` and the group of its suite, unless `WANDB_PROJECT` and
`WANDB_RUN_GROUP` say otherwise. Where nobody is logged in, runs stay in `wandb/` until `wandb sync` sends them.
"""

from __future__ import annotations

import os
from typing import Any

from normbench.runner.logs.entry import Entry
from normbench.spec.outcome import Status

#: Its variables that say where runs go: one that is set counts.
_MODE, _PROJECT, _GROUP = "WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_GROUP"


class WandB:
    """Curves by optimizer step; final numbers in the run's summary, the settings in its configuration."""

    def __init__(self, suite: str) -> None:
        import wandb

        self._wandb: Any = wandb
        # Asked once and without a prompt: a question would stand in the middle of the run's own output.
        self._offline = not os.environ.get(_MODE) and not wandb.login(prompt=False)
        self._suite = suite

    @property
    def greeting(self) -> str:
        return "nobody is logged in: runs stay in wandb/, wandb sync sends them" if self._offline else ""

    def trial(self, entry: Entry) -> None:
        run = self._wandb.init(
            project=os.environ.get(_PROJECT) or "normbench",
            group=os.environ.get(_GROUP) or self._suite,
            name=entry.name,
            job_type=entry.stage,
            config={"trial_id": entry.trial_id, **entry.settings},
            mode="offline" if self._offline else None,
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off"),
        )
        for step, numbers in entry.curves.items():
            run.log(dict(numbers), step=step)
        run.summary.update({"status": entry.status.value, "reason": entry.reason})
        run.summary.update({f"final/{name}": value for name, value in entry.final.items()})
        run.finish(exit_code=0 if entry.status is Status.OK else 1)


def open_log(suite: str) -> WandB:
    """The logger of a suite."""
    return WandB(suite)
