"""When does a re-run give the same as a stored result?

Rounding differs between processors, numbers of threads and devices, and training amplifies it: by a few per cent after
ten steps in some methods (batch whitening), by nothing that float32 shows in others. So the losses of the first steps
are not held against one fixed tolerance. The re-run is made twice, the second time with rounding of the size that the
two machines may differ by: starting weights moved by `SHAKE` for a trial of a CPU in float32, bfloat16 for one of a
GPU. What the two differ by, times `MARGIN`, is the tolerance of a step, and never below a floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from normbench.store.marks import Compared

#: Share by which starting weights are moved: a hundred times float32's rounding, since every layer adds its own and
#: whitening multiplies it.
SHAKE = 1e-5
MARGIN = 10.0
#: Least tolerance of a step's loss, as a share of it: in float32 on CPUs, and where one side is a GPU or bfloat16.
FLOOR, COARSE_FLOOR = 1e-3, 1e-2
#: Where rounding alone may move the loss by more than this share, nothing can be told from it, nor from any later step.
CHAOS = 0.1
#: Differences of accuracies, as shares, that count as the same: this much, and as many standard errors over the test
#: images. Two runs that differ in rounding alone may end in different networks, as two seeds do; attacks tell such
#: networks further apart than clean images.
CLEAN_SLACK, ATTACK_SLACK, ERRORS = 0.01, 0.03, 3.0


def step_losses(
    expected: Sequence[float | None], found: Sequence[float | None], shaken: Sequence[float | None], *, coarse: bool
) -> tuple[Compared, ...]:
    """The losses of the first steps, up to the one where rounding decides.

    expected: of the stored result. found, shaken: of the re-run and of its shaken twin. coarse: the result is of a GPU
    or in bfloat16.
    """
    compared, wander = [], 0.0
    for step, (e, f, s) in enumerate(zip(expected, found, shaken, strict=True), 1):
        if f is None or s is None:
            if f is s:  # both overflow: so must the stored result; where only one does, it is on the edge
                compared.append(Compared(what=f"loss of step {step}", expected=e, found=None, tolerance=0.0))
            break
        size = max(abs(f), abs(s))
        wander = max(wander, abs(f - s) / size if size else 0.0)
        if wander * MARGIN > CHAOS:
            break
        tolerance = max(COARSE_FLOOR if coarse else FLOOR, wander * MARGIN) * size
        compared.append(Compared(what=f"loss of step {step}", expected=e, found=f, tolerance=tolerance))
    return tuple(compared)


def accuracies(expected: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[Compared, ...]:
    """Clean accuracy and that under every attack, of two rows of one trial. An accuracy that only one of them has is
    compared with None.
    """
    ours, theirs = _accuracies(expected), _accuracies(found)
    compared = []
    for what in dict.fromkeys([*ours, *theirs]):
        (value, total), (other, _) = ours.get(what, (None, 0)), theirs.get(what, (None, 0))
        slack = CLEAN_SLACK if what == "clean accuracy" else ATTACK_SLACK
        share = value if value is not None else 0.0
        tolerance = slack + (ERRORS * math.sqrt(share * (1 - share) / total) if total else 0.0)
        compared.append(Compared(what=what, expected=value, found=other, tolerance=tolerance))
    return tuple(compared)


def _accuracies(row: Mapping[str, Any]) -> dict[str, tuple[float | None, int]]:
    if row["clean_accuracy"] is None:
        held_out = row["validation_accuracy"]
        return {} if held_out is None else {"validation accuracy": (held_out, 0)}
    attacks = {f"{a['attack']} at {a['size']:.6g}": (a["accuracy"], a["total"]) for a in row["attacks"] or ()}
    return {"clean accuracy": (row["clean_accuracy"], row["test_total"]), **attacks}
