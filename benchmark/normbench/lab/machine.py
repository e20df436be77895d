"""The machine that a trial runs on: what it is, how it is set up, how much memory was used, and which ran out."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from normbench.spec.text import said

#: Messages of plain RuntimeErrors by which torch says that a library of the GPU, or the host, has no memory left.
_GPU_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
_HOST_MEMORY = ("can't allocate memory",)


def precision_of(wanted: str, device: str) -> str:
    """`float32` or `bf16`: what `auto` is on a device."""
    return {"auto": "bf16" if device.startswith("cuda") else "float32"}.get(wanted, wanted)


def settle(device: torch.device, threads: int) -> None:
    """Deterministic kernels and a fixed number of threads: on a CPU two runs of one trial agree to the last bit."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(device.type == "cpu")


@contextmanager
def kernels_tried(device: torch.device) -> Iterator[None]:
    """Inside, on a GPU, where no bits are promised, the convolutions of each shape are timed once and the fastest is
    taken. For work whose shapes stay: an attack's batches shrink, and each new size would be timed.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Python, platform and device, for a row's provenance."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "threads": threads,
        "device": "cpu",
    }
    if device.type == "cuda":
        facts |= {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    else:
        facts["cpu"] = _cpu_name()
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_memory(device: str) -> int:
    """Bytes: of the GPU, or of this process on a CPU."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_of(error: BaseException) -> str | None:
    """Which memory ran out, if that is what the error says."""
    text = said(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, torch.cuda.OutOfMemoryError) or any(t in text for t in _GPU_MEMORY):
        return "GPU memory"
    return "host memory" if isinstance(error, MemoryError) or any(t in text for t in _HOST_MEMORY) else None
