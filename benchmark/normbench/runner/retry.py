"""Which trials are tried again, and with what resources: decided on plain values.

A retry must be able to help. A process that was killed from outside, or whose machine was lost, may end differently the
next time, so it is started again. An error, a divergence, a time limit, and a crash of its own (segmentation fault,
exit) would happen again, so they count at once. A trial that ran out of memory may not be at fault if others ran beside
it: it is tried once more alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from normbench.spec.outcome import Outcome, Status

#: A trial that was killed from outside, or lost, is started again so many times.
RETRIES = 2
#: Signals that come from outside: from the kernel, a scheduler, a person.
OUTSIDE = frozenset({"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGXCPU", "SIGPWR"})
#: Ends after which training may be resumed, so that the checkpoint is kept.
GOES_ON = frozenset({Status.KILLED, Status.TIMED_OUT, Status.OUT_OF_MEMORY})
#: `ended_by` (see `Outcome.provenance`) where the trial's process was lost with its worker or machine.
LOST = "lost"

Need = Mapping[str, float]
"""Resources of one trial as Ray counts them: `{"CPU": 1.0, "GPU": 0.5}`."""


def next_need(outcome: Outcome, past: Sequence[Outcome], need: Need, nodes: Sequence[Need]) -> Need | None:
    """The resources with which a trial is to be tried again; None where `outcome` counts.

    past: how its earlier tries ended. nodes: what each machine offers in all.
    """
    if outcome.status is Status.KILLED and outcome.provenance.get("ended_by") in {*OUTSIDE, LOST}:
        return need if sum(o.status is Status.KILLED for o in past) < RETRIES else None
    if outcome.status is Status.OUT_OF_MEMORY and not any(o.status is Status.OUT_OF_MEMORY for o in past):
        larger = alone(need, nodes, str(outcome.provenance.get("out_of", "host memory")))
        return larger if larger != need else None
    return None


def alone(need: Need, nodes: Sequence[Need], what: str) -> Need:
    """`need`, made so large that no other trial shares the memory that ran out (`GPU memory` or `host memory`).

    A share of a GPU becomes the whole GPU; for the host's memory, all CPUs of the largest machine that fits. Equal to
    `need` where it was alone already.
    """
    if what == "GPU memory":
        return {**need, "GPU": float(math.ceil(need.get("GPU", 0.0)))}
    fitting = [n for n in nodes if fits(need, n)]
    return {**need, "CPU": max((n.get("CPU", 0.0) for n in fitting), default=need["CPU"])}


def fits(need: Need, node: Need) -> bool:
    return all(node.get(kind, 0.0) >= amount for kind, amount in need.items())


def closed(outcome: Outcome, past: Sequence[Outcome]) -> Outcome:
    """The outcome that is stored. It has the number of tries, and its log begins with how the earlier ones ended."""
    if not past:
        return outcome
    earlier = [f"try {n}: {o.status.value} in epoch {o.epoch + 1}: {o.reason}" for n, o in enumerate(past, 1)]
    return outcome.model_copy(
        update={"attempts": len(past) + 1, "log": "\n".join([*earlier, *outcome.log.splitlines()])}
    )
