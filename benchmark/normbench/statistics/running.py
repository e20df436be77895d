"""Running statistics as training left them."""

from __future__ import annotations

from typing import ClassVar

from normbench.statistics.base import Statistics


class Running(Statistics):
    """As trained: the moving average over training batches. A trial's own numbers are by these, asked for or not."""

    name: ClassVar[str] = "running"
    summary: ClassVar[str] = "as trained: the moving average over training batches"
    source: ClassVar[str] = "Ioffe and Szegedy 2015, algorithm 2"
