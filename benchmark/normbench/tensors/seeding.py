"""Where torch's random streams begin.

`torch.manual_seed` seeds the streams of all GPUs too. What leaves traces in a stream that training draws from makes
all seeds of a method draw the same numbers, so everything here names the devices that it touches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Inside, the stream of the CPU starts at `seed`; afterwards it goes on as if nothing had been. No other device is
    touched, so that a trial on a CPU opens no context on a GPU.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


class Streams:
    """The states of torch's streams: of the CPU, and of all GPUs where this process uses any. They are read from the
    host, so that no GPU gets a context by it.
    """

    def __init__(self) -> None:
        used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        streams = [torch.default_generator, *(torch.cuda.default_generators if used else ())]
        self._states = [(stream, stream.get_state()) for stream in streams]

    def restore(self) -> None:
        for stream, state in self._states:
            stream.set_state(state)


@contextmanager
def streams_kept() -> Iterator[None]:
    """Afterwards all streams of this process go on as if nothing had been, though `torch.manual_seed` reaches them
    all.
    """
    before = Streams()
    try:
        yield
    finally:
        before.restore()


def seed_gpu(seed: int, device: torch.device) -> None:
    """Let the stream of a GPU begin at `seed`; on a CPU nothing happens. The CPU's own stream goes on."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
