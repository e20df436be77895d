"""Training as this package does it, by every engine, against two loops as people write them; images a second, in one
run.

    python perf/train.py [--smoke] [--json] [--data DIR] [--norms bn,gn,...] [--engines eager,compile,...] [--rounds 3]
    [--adversarial STEPS]

The loops: a DataLoader over PIL images with torchvision's transforms, and the plain eager loop over tensors that lie on
the device. The same network, optimizer, batch size, crop and flip; all on one thread (the loader's worker is a process
beside it), taking turns, median of the rounds. What compiling costs is no part of the images a second and stands beside
them: with nothing kept from earlier runs, and in a later round of the same run. On a CPU every engine is measured in
both memory formats; on a GPU ours runs in channels_last under bf16 autocast as trials do, the loops in float32, the
DataLoader loop with autocast as well. With `--adversarial 7` every batch is first perturbed by PGD with so many steps,
and the one loop that ours stands against takes foolbox's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
from normbench import attacks, norms
from normbench.lab import batches, evaluate
from normbench.lab import data as datasets
from normbench.lab.engine.steps import Kind
from normbench.lab.network.build import build
from normbench.lab.observer import Observer
from normbench.lab.train import Record, Tensors, make_optimizer, train
from normbench.measures import Probe
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

NORMS = ("bn", "gn", "ln", "in", "ws+gn")
BATCH = 64
#: Of adversarial training, in pixel space.
EPS = 8 / 255


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Images as PIL objects, transformed one by one."""

    def __init__(self, split: datasets.Split, loaded: datasets.Dataset) -> None:
        grey = loaded.channels == 1
        self.images = [Image.fromarray(image[..., 0] if grey else image) for image in split.images]
        self.labels = [int(label) for label in split.labels]
        side = loaded.image_size
        self.transform = transforms.Compose(
            [transforms.RandomCrop(side, padding=side // 8), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


@dataclass
class Variant:
    """A way of ours to train, and what came of it in each round."""

    engine: Kind
    channels_last: bool
    rates: list[float] = field(default_factory=list)
    compile_seconds: list[float] = field(default_factory=list)
    used: str = ""
    reason: str = ""
    adversary: str = ""
    """What computed the gradients of adversarial training, and why not something faster."""

    @property
    def name(self) -> str:
        return f"{self.engine}{', channels_last' if self.channels_last else ''}"

    def train(self, model: nn.Module, trial: Trial, data: Tensors, precision: str) -> None:
        optimizer, record = make_optimizer(model, trial.train), Record()
        observer = Observer(
            [],
            Probe(model=model, images=evaluate.pixels(data.images[:1]), labels=data.labels[:1], optimizer=optimizer),
            trial.train,
        )
        train(
            model,
            trial,
            data,
            precision=precision,
            optimizer=optimizer,
            observer=observer,
            report=lambda _progress: None,
            record=record,
            engine=self.engine,
        )
        self.rates.append(record.images / record.seconds)
        self.compile_seconds.append(record.compile_seconds)
        self.used, self.reason = record.engine, record.engine_reason
        self.adversary = (
            f"{record.adversary}: {record.adversary_reason}" if record.adversary_reason else record.adversary
        )


def plain(model: nn.Module, trial: Trial, data: Tensors) -> float:
    """The loop that is left when nothing is watched, scheduled or compiled; in adversarial training with foolbox's
    attack.
    """
    craft = crafted(model, trial) if trial.train.adversarial else lambda images, _: images
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.train.lr, momentum=trial.train.momentum)
    criterion = nn.CrossEntropyLoss()
    model.train()
    seen, started = 0, time.perf_counter()
    for epoch in range(trial.train.epochs):
        generator = torch.Generator().manual_seed(epoch)
        for batch in batches.epoch(
            len(data.labels),
            trial.batch_size,
            drop_last=True,
            augment=trial.data.augment,
            side=data.images.shape[-1],
            seeds=False,
            generator=generator,
            device=data.labels.device,
        ):
            index = batch.index
            images = craft(batches.augmented(data.images[index].float() / 255, batch), data.labels[index])
            loss = criterion(model(images), data.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(index)
    loss.item()  # what was asked for is done
    return seen / (time.perf_counter() - started)


def crafted(model: nn.Module, trial: Trial) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """foolbox's PGD with the settings of the trial's adversarial training."""
    import foolbox

    assert trial.train.adversarial
    ours: Any = attacks.registry.from_component(trial.train.adversarial)
    attack = ours.foolbox(EPS)

    def craft(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        model.eval()
        attacked = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        made: torch.Tensor = attack.run(attacked, images, foolbox.criteria.Misclassification(labels), epsilon=EPS)
        model.train()
        return made

    return craft


def peer(model: nn.Module, trial: Trial, pictures: Pictures, device: torch.device, *, autocast: bool) -> float:
    loader = DataLoader(
        pictures,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=1,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.train.lr, momentum=trial.train.momentum)
    criterion = nn.CrossEntropyLoss()
    model.train()
    iter(loader)  # its worker starts here, not in the time that is measured
    seen, started = 0, time.perf_counter()
    for _ in range(trial.train.epochs):
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device.type, dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
                loss = criterion(model(images).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(labels)
            loss.item()  # progress, as such loops print it
    return seen / (time.perf_counter() - started)


def measure(
    norm: str, spec: DataSpec, data_dir: Path | None, rounds: int, engines: tuple[Kind, ...], *, small: bool, steps: int
) -> list[dict[str, Any]]:
    """`small`: a network of one block a stage, and one memory format. `steps`: of adversarial training; 0: none."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    source = datasets.locate(spec, data_dir, download=False)
    assert source is not None
    loaded = datasets.load(spec, source)
    label, components = norms.resolve(norm)
    adversarial = attacks.registry.make("pgd", {"eps": [EPS], "steps": steps}).component() if steps else None
    trial = Trial(
        data=spec,
        model=ModelSpec(
            name="resnet18", width=1.0 if on_gpu else 0.25, kwargs={"layers": [1, 1, 1, 1]} if small else {}
        ),
        norm=components,
        norm_label=label,
        batch_size=BATCH,
        seed=0,
        train=TrainSpec(epochs=1, lr=0.02, adversarial=adversarial),
    )
    data = Tensors(
        torch.from_numpy(loaded.train.images.transpose(0, 3, 1, 2).copy()).to(device),
        torch.tensor(loaded.train.labels).to(device),
    )
    pictures = Pictures(loaded.train, loaded)

    def network(*, channels_last: bool) -> nn.Module:
        model, _ = build(
            trial,
            channels=loaded.channels,
            image_size=loaded.image_size,
            classes=len(loaded.classes),
            mean=loaded.mean,
            std=loaded.std,
        )
        return model.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    formats = (True,) if on_gpu else (False,) if small or steps else (False, True)
    variants = [Variant(engine, channels_last) for engine in engines for channels_last in formats]
    peers: dict[str, list[float]] = {"a DataLoader loop": [], "the plain loop": []} | (
        {"a DataLoader loop with autocast": []} if on_gpu else {}
    )
    if steps:
        peers = {"a loop with foolbox's PGD": []}
    for _ in range(rounds):
        for variant in variants:
            variant.train(network(channels_last=variant.channels_last), trial, data, "bf16" if on_gpu else "float32")
        for name, rates in peers.items():
            model = network(channels_last=on_gpu)
            rates.append(
                plain(model, trial, data)
                if steps or name == "the plain loop"
                else peer(model, trial, pictures, device, autocast="autocast" in name)
            )
    rows = []
    for variant in variants:
        for name, rates in peers.items():
            mine, theirs = statistics.median(variant.rates), statistics.median(rates)
            rows.append(
                {
                    "case": f"{norm}, {spec.dataset}{f', PGD-{steps}' * bool(steps)}, {variant.name}, against {name}",
                    "ours": mine,
                    "peer": theirs,
                    "unit": "images/s",
                    "ratio": mine / theirs,
                    "engine": variant.used,
                    "engine_reason": variant.reason,
                    "adversary": variant.adversary,
                    "compile_seconds": variant.compile_seconds[0],
                    "compile_seconds_again": min(variant.compile_seconds[1:], default=None),
                }
            )
    return rows


def shown(row: dict[str, Any]) -> str:
    line = f"{row['case']:<72} {row['ours']:9.0f} against {row['peer']:9.0f} {row['unit']}   {row['ratio']:.2f}x"
    if row["compile_seconds"]:
        again = "" if row["compile_seconds_again"] is None else f", again {row['compile_seconds_again']:.1f} s"
        line += f"   compiling {row['compile_seconds']:.1f} s{again}"
    line += f"   ran as {row['engine']}: {row['engine_reason']}" if row["engine_reason"] else ""
    return line + (f"   attack by {row['adversary']}" if row["adversary"] else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one norm on a few images: that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("BENCH_DATA"),
        help="folder with cifar10-jpeg/; BENCH_DATA by default",
    )
    parser.add_argument("--norms", default=",".join(NORMS))
    parser.add_argument(
        "--engines", help="of eager, compile and graph; by default all that there are here, for --smoke eager alone"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--adversarial", type=int, default=0, metavar="STEPS", help="adversarial training, by PGD with so many steps"
    )
    given = parser.parse_args()
    engines = given.engines or (
        "eager" if given.smoke else "eager,compile,graph" if torch.cuda.is_available() else "eager,compile"
    )
    torch.set_num_threads(1)
    data_dir = Path(given.data) if given.data else None
    if given.smoke or not (data_dir and (data_dir / "cifar10-jpeg").is_dir()):
        spec = DataSpec(
            dataset="digits", image_size=16, train_examples=128 if given.smoke else None, augment=("crop", "flip")
        )
    else:
        spec = DataSpec(dataset="cifar10-jpeg", train_examples=3200, augment=("crop", "flip"))
    with tempfile.TemporaryDirectory(prefix="normbench-inductor-") as empty:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = (
            empty  # compiling is to be paid for here, whatever earlier runs have kept
        )
        for norm in ["bn"] if given.smoke else given.norms.split(","):
            for row in measure(
                norm,
                spec,
                data_dir,
                1 if given.smoke else given.rounds,
                tuple(engines.split(",")),
                small=given.smoke,
                steps=given.adversarial,
            ):
                print(json.dumps(row) if given.json else shown(row), flush=True)


if __name__ == "__main__":
    main()
