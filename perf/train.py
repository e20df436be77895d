"""Training as this package does it against a loop as people write it: a DataLoader over PIL images with torchvision's transforms; images a second, in one run.

    python perf/train.py [--smoke] [--json] [--data DIR] [--norms bn,gn,...]

The same network, optimizer, batch size, crop and flip; both on one thread (the loader's worker is a process beside it), taking turns, median of the rounds. On
a machine with a GPU both use it, ours under bf16 autocast as trials are, the peer in float32 and with autocast.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision import transforms  # noqa: E402

from benchmark import norms  # noqa: E402
from benchmark.lab import data as datasets  # noqa: E402
from benchmark.lab import evaluate  # noqa: E402
from benchmark.lab.measure import Observer  # noqa: E402
from benchmark.lab.model import build  # noqa: E402
from benchmark.lab.train import Record, Tensors, optimizer, train  # noqa: E402
from benchmark.measures import Probe  # noqa: E402
from benchmark.trial import DataSpec, ModelSpec, TrainSpec, Trial  # noqa: E402

NORMS = ("bn", "gn", "ln", "in", "ws+gn")
BATCH = 64


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Images as PIL objects, transformed one by one."""

    def __init__(self, split: datasets.Split, loaded: datasets.Dataset) -> None:
        grey = loaded.channels == 1
        self.images = [Image.fromarray(image[..., 0] if grey else image) for image in split.images]
        self.labels = [int(label) for label in split.labels]
        side = loaded.image_size
        self.transform = transforms.Compose([transforms.RandomCrop(side, padding=side // 8), transforms.RandomHorizontalFlip(), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def ours(model: nn.Module, trial: Trial, data: Tensors, precision: str) -> float:
    stepper, record = optimizer(model, trial.train), Record()
    observer = Observer([], Probe(model=model, images=evaluate.pixels(data.images[:1]), labels=data.labels[:1], optimizer=stepper), trial.train)
    train(model, trial, data, precision=precision, stepper=stepper, observer=observer, report=lambda _progress: None, record=record)
    return record.images / record.seconds


def peer(model: nn.Module, trial: Trial, pictures: Pictures, device: torch.device, *, autocast: bool) -> float:
    loader = DataLoader(pictures, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=1, pin_memory=device.type == "cuda", persistent_workers=True)
    stepper = torch.optim.SGD(model.parameters(), lr=trial.train.lr, momentum=trial.train.momentum)
    criterion = nn.CrossEntropyLoss()
    model.train()
    iter(loader)  # its worker starts here, not in the time that is measured
    seen, started = 0, time.perf_counter()
    for _ in range(trial.train.epochs):
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device.type, dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
                loss = criterion(model(images).float(), labels)
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            seen += len(labels)
            loss.item()  # progress, as such loops print it
    return seen / (time.perf_counter() - started)


def measure(norm: str, spec: DataSpec, data_dir: Path | None, rounds: int) -> list[dict[str, Any]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = datasets.locate(spec, data_dir, download=False)
    assert source is not None
    loaded = datasets.load(spec, source)
    label, components = norms.resolve(norm)
    width = 1.0 if device.type == "cuda" else 0.25
    trial = Trial(
        data=spec,
        model=ModelSpec(name="resnet18", width=width),
        norm=components,
        norm_label=label,
        batch_size=BATCH,
        seed=0,
        train=TrainSpec(epochs=1, lr=0.02),
    )
    data = Tensors(torch.from_numpy(loaded.train.images.transpose(0, 3, 1, 2).copy()).to(device), torch.tensor(loaded.train.labels).to(device))
    pictures = Pictures(loaded.train, loaded)

    def network() -> nn.Module:
        model, _ = build(trial, channels=loaded.channels, image_size=loaded.image_size, classes=len(loaded.classes), mean=loaded.mean, std=loaded.std)
        return model.to(device, memory_format=torch.channels_last) if device.type == "cuda" else model

    fast = "bf16" if device.type == "cuda" else "float32"
    peers = {"a DataLoader loop": False} | ({"a DataLoader loop with autocast": True} if device.type == "cuda" else {})
    rates: dict[str, list[float]] = {"ours": [], **{name: [] for name in peers}}
    for _ in range(rounds):
        rates["ours"].append(ours(network(), trial, data, fast))
        for name, autocast in peers.items():
            rates[name].append(peer(network(), trial, pictures, device, autocast=autocast))
    found = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {
            "case": f"{norm}, {spec.dataset}, against {name}",
            "ours": found["ours"],
            "peer": found[name],
            "unit": "images/s",
            "ratio": found["ours"] / found[name],
        }
        for name in peers
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one norm on a few images: that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    parser.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="folder with cifar10-jpeg/; BENCH_DATA by default")
    parser.add_argument("--norms", default=",".join(NORMS))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data_dir = Path(given.data) if given.data else None
    if given.smoke or not (data_dir and (data_dir / "cifar10-jpeg").is_dir()):
        spec = DataSpec(dataset="digits", image_size=16, train_examples=128 if given.smoke else None, augment=("crop", "flip"))
    else:
        spec = DataSpec(dataset="cifar10-jpeg", train_examples=3200, augment=("crop", "flip"))
    for norm in ["bn"] if given.smoke else given.norms.split(","):
        for row in measure(norm, spec, data_dir, 1 if given.smoke else given.rounds):
            print(
                json.dumps(row) if given.json else f"{row['case']:<55} {row['ours']:9.0f} against {row['peer']:9.0f} {row['unit']}   {row['ratio']:.2f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
