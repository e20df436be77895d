"""How far a training step is from what the machine could do: images a second against the roof that arithmetic and
memory leave.

    python perf/roofline.py [--smoke] [--json] [--norms bn,gn,...] [--batch 128] [--width 1.0]

A step is forward, backward and update of resnet18 at 32x32, on one thread or one GPU, and beside it the two peaks that
bound it: a large product of matrices, and a copy of what no cache holds. FLOP are counted as torch counts them
(products and convolutions; a multiply-add is two). Bytes are what every operation reads and writes, each from and to
memory. Neither roof is hard: libraries multiply less than is counted where they can (Winograd's convolution), and
caches and fusion move less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
from normbench import norms
from normbench.lab.engine.steps import Engine
from normbench.lab.network.build import build
from normbench.lab.train import make_optimizer
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

NORMS = ("none", "bn", "gn", "ln", "in", "ws+gn")


class Moved(TorchDispatchMode):
    """Counts the bytes of every tensor that an operation takes or makes; views and what only allocates are free."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in str(func):
            read = {id(t): t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
            written = {id(t): t for t in tree_leaves(made) if isinstance(t, torch.Tensor)}
            self.bytes += sum(t.numel() * t.element_size() for t in (*read.values(), *written.values()))
        return made


def rate(work: Callable[[], Any], amount: float, device: torch.device, seconds: float) -> float:
    """`amount` a second, the median of five stretches that last `seconds` together."""
    work()
    found = []
    for _ in range(5):
        count, started = 0, time.perf_counter()
        while not count or time.perf_counter() - started < seconds / 5:
            work()
            count += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(count * amount / (time.perf_counter() - started))
    return statistics.median(found)


def peaks(device: torch.device, dtype: torch.dtype, seconds: float, size: int) -> tuple[float, float]:
    """FLOP a second of a product of matrices, bytes a second of a copy."""
    a, b = torch.randn(size, size, device=device, dtype=dtype), torch.randn(size, size, device=device, dtype=dtype)
    source = torch.zeros(64 << 20, device=device)  # 256 MiB
    target = torch.empty_like(source)
    return rate(lambda: a @ b, 2.0 * size**3, device, seconds), rate(
        lambda: target.copy_(source), 2.0 * source.numel() * 4, device, seconds
    )


def measure(norm: str, batch: int, width: float, seconds: float, size: int) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bf16" if device.type == "cuda" else "float32"
    label, components = norms.resolve(norm)
    trial = Trial(
        data=DataSpec(dataset="cifar10-jpeg"),
        model=ModelSpec(name="resnet18", width=width),
        norm=components,
        norm_label=label,
        batch_size=batch,
        seed=0,
        train=TrainSpec(epochs=1, lr=0.001),
    )
    model, _ = build(trial, channels=3, image_size=32, classes=10, mean=(0.5,) * 3, std=(0.25,) * 3)
    model = model.to(
        device, memory_format=torch.channels_last if device.type == "cuda" else torch.contiguous_format
    ).train()
    images, labels = torch.rand(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    engine = Engine(model, make_optimizer(model, trial.train), trial.train, precision=precision)
    step: Callable[[], Any] = lambda: engine.step(images, labels)
    step()
    with FlopCounterMode(display=False) as flop, Moved() as moved:
        step()
    compute, memory = peaks(device, torch.bfloat16 if precision == "bf16" else torch.float32, seconds, size)
    images_a_second = rate(step, batch, device, seconds)
    work, traffic = flop.get_total_flops() / batch, moved.bytes / batch
    roofs = {"arithmetic": compute / work, "bytes": memory / traffic}
    nearest = min(roofs, key=lambda name: roofs[name])
    return {
        "case": f"{norm}, resnet18 x{width:g}, batch {batch}, {device.type}",
        "ours": images_a_second,
        "peer": roofs["arithmetic"],
        "unit": "images/s",
        "ratio": images_a_second / roofs["arithmetic"],
        "flop_an_image": work,
        "bytes_an_image": traffic,
        "peak_flop": compute,
        "peak_bytes": memory,
        "roof_by_bytes": roofs["bytes"],
        "bound": nearest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--smoke", action="store_true", help="one norm, a narrow network, parts of a second: that it runs"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    parser.add_argument("--norms", default=",".join(NORMS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for norm in ["bn"] if given.smoke else given.norms.split(","):
        row = measure(norm, 8, 0.125, 0.1, 256) if given.smoke else measure(norm, given.batch, given.width, 10.0, 2048)
        if given.json:
            print(json.dumps(row), flush=True)
            continue
        print(
            f"{row['case']:<40} {row['ours']:8.1f} images/s   {row['flop_an_image'] / 1e9:6.2f} GFLOP and "
            f"{row['bytes_an_image'] / 1e6:6.1f} MB an image   "
            f"peaks {row['peak_flop'] / 1e9:8.1f} GFLOP/s, {row['peak_bytes'] / 1e9:6.1f} GB/s   "
            f"{100 * row['ratio']:.0f} % of the roof of arithmetic "
            f"({row['peer']:.0f}), roof of the bytes {row['roof_by_bytes']:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
