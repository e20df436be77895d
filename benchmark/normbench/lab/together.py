"""Several trials of one shape at once: their training steps are computed as one, all else one after the other.

Each trial is a generator that asks for its steps (`normbench.lab.asking`). When all have asked, one computation answers
them (`normbench.lab.engine.stack`). Each has its own batches, update, measures and evaluation, its own end and its own
outcome. Trials that cannot be stacked run by themselves, one after the other, each with the engine that was asked for;
`engine_reason` says why.

Nothing is kept of an interrupted training, and peak memory is that of all together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from normbench.lab.asking import Asking, Wanted, answered
from normbench.lab.engine.stack import Together
from normbench.lab.engine.steps import Kind, chosen, line
from normbench.lab.train import Progress
from normbench.lab.trial_run import Context, running
from normbench.spec.outcome import Outcome
from normbench.spec.trial import Trial
from normbench.tensors.seeding import Streams


def run_together(
    jobs: Sequence[tuple[Trial, Context]],
    report: Callable[[int, Progress], None] = lambda *_: None,
    ended: Callable[[int, Outcome], None] = lambda *_: None,
) -> list[Outcome]:
    """Run trials that are alike (`normbench.runner.bundles`), on the same device, to their ends. What ends one, such as
    a loss that is not finite, ends no other. Only a Ctrl-C passes through.

    report: as of `normbench.lab.trial_run.run`, with the number of the trial. ended: called when one has ended.
    """
    begin = Streams()
    members = [
        _Member(running(trial, context, partial(report, number)), begin, partial(ended, number))
        for number, (trial, context) in enumerate(jobs)
    ]
    wanted = chosen(jobs[0][1].engine, jobs[0][1].device)
    while len(left := [m for m in members if m.outcome is None]) > 1:
        _while_all_ask(left, wanted)
    for member in left:
        member.finish()
    return [member.ended for member in members]


def _while_all_ask(members: Sequence[_Member], wanted: Kind) -> None:
    """Compute the steps of `members` as one until one of them has ended; where that cannot be, run all to their
    ends.
    """
    stacked, problem = _stacked(members, wanted)
    if stacked is None:
        for member in members:
            if member.asks.what == "prepare":
                member.step()
            if member.outcome is None:
                member.asks.engine.note(problem)
            member.finish()
        return
    for member in members:
        member.asks.engine.used = "together" if stacked.used == "eager" else "together, compiled"
        member.asks.engine.reason, member.asks.engine.compile_seconds = stacked.reason, stacked.compile_seconds
        if member.asks.what == "prepare":
            member.send(None)
    while all(m.outcome is None for m in members):
        images, labels = _batches(members)
        try:
            found = stacked.gradients_all(images, labels)
        except BaseException as error:  # it belongs to each of them
            for member in members:
                member.fail(error)
            return
        for member, own in zip(members, found, strict=True):
            if member.asks.what == "step":
                member.asks.engine.update()
            member.send(own)
    stacked.stack.apart()


def _stacked(members: Sequence[_Member], wanted: Kind) -> tuple[Together | None, str]:
    """The steps of `members` as one; None where that cannot be, with the reason."""
    if any(m.asks.engine.spec.adversarial for m in members):
        return None, "together: batches of adversarial training are made between the steps"
    images, labels = _batches(members)
    try:
        stacked = Together([m.asks.engine for m in members], wanted)
    except (RuntimeError, ValueError) as error:
        return None, f"together: {line(error)}"
    problem = stacked.prepare_all(images, labels)
    if not problem:
        return stacked, ""
    stacked.stack.apart()
    return None, problem


def _batches(members: Sequence[_Member]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [m.asks.images for m in members], [m.asks.labels for m in members]


class _Member:
    """A trial among others. It is awake while it computes; then the state of the process that trials share is its
    own.
    """

    def __init__(self, asking: Asking[Outcome], begin: Streams, tell: Callable[[Outcome], None]) -> None:
        self._asking, self._tell = asking, tell
        self._streams, self._kernels = begin, torch.backends.cudnn.benchmark
        self.wanted: Wanted | None = None
        self.outcome: Outcome | None = None
        self._wake(lambda: next(asking))

    @property
    def asks(self) -> Wanted:
        assert self.wanted is not None  # noqa: S101
        return self.wanted

    @property
    def ended(self) -> Outcome:
        assert self.outcome is not None  # noqa: S101
        return self.outcome

    def send(self, found: object) -> None:
        self._wake(lambda: self._asking.send(found))

    def fail(self, error: BaseException) -> None:
        self._wake(lambda: self._asking.throw(error))

    def step(self) -> None:
        """Compute what it asks for, by itself."""
        self._wake(lambda: answered(self._asking, self.asks))

    def finish(self) -> None:
        """Run it to its end by itself."""
        while self.outcome is None:
            self.step()

    def _wake(self, go_on: Callable[[], Wanted]) -> None:
        self._streams.restore()
        torch.backends.cudnn.benchmark = self._kernels
        try:
            self.wanted = go_on()
        except StopIteration as end:
            self.wanted, self.outcome = None, end.value
            self._tell(self.ended)
        self._streams, self._kernels = Streams(), torch.backends.cudnn.benchmark
