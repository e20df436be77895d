"""Event files in `runs/<suite>/<trial>/<time>`, a folder each time that a trial is run; `tensorboard --logdir runs`
shows them. TensorBoard's own writer writes them: that of torch would load torch where nothing is trained.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normbench.runner.logs.entry import Entry

#: The folder that writers of event files use by themselves.
FOLDER = "runs"


class TensorBoard:
    """Scalars by optimizer step, final numbers under `final/`; the settings for the HParams tab."""

    def __init__(self, suite: str) -> None:
        self._folder = Path(FOLDER, suite)

    @property
    def greeting(self) -> str:
        return f"tensorboard --logdir {FOLDER} shows them"

    def trial(self, entry: Entry) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self._folder / entry.slug / time.strftime("%Y%m%d-%H%M%S", time.localtime(entry.started))
        folder.mkdir(parents=True, exist_ok=True)
        writer = EventFileWriter(str(folder))
        settings = hparams_pb(dict(entry.settings), trial_id=entry.trial_id, start_time_secs=entry.started)
        writer.add_event(Event(wall_time=entry.started, summary=settings))
        for step, summary in _summaries(entry):
            writer.add_event(Event(wall_time=entry.started, step=step, summary=summary))
        writer.close()


def _summaries(entry: Entry) -> Iterator[tuple[int, Any]]:
    from tensorboard.compat.proto.summary_pb2 import Summary

    final = {f"final/{name}": value for name, value in entry.final.items()}
    for step, numbers in (*entry.curves.items(), (max(entry.curves, default=0), final)):
        yield step, Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()])


def open_log(suite: str) -> TensorBoard:
    """The logger of a suite, in the working directory."""
    return TensorBoard(suite)
