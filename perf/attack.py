"""A whole L-infinity evaluation (4 eps, 20 steps of BIM) by this package and by plain foolbox given the same list of
eps, paired in one run.

    python perf/attack.py [--smoke] [--json] [--data DIR]

Networks are trained first, one plainly and one adversarially on each dataset; the evaluations take turns: ours,
foolbox, and ours with a compiled search. Image-steps are gradients computed, one an image. foolbox takes the model as a
user would hand it over: in eval mode, parameters as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import foolbox
import torch
from normbench import norms
from normbench.attacks import registry
from normbench.lab import data as datasets
from normbench.lab import evaluate
from normbench.lab.engine.gradients import CompiledGradients
from normbench.lab.network.build import build
from normbench.lab.observer import Observer
from normbench.lab.train import Record, Tensors, make_optimizer, train
from normbench.measures import Probe
from normbench.spec.trial import Component, DataSpec, ModelSpec, TrainSpec, Trial
from torch import nn

STEPS = 20
BATCH = 128
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: Of training and of the compiled search, as trials have it.
PRECISION = "bf16" if DEVICE.type == "cuda" else "float32"


@dataclass(frozen=True)
class Case:
    """A dataset, a network on it, and the sizes of the evaluation. `adversarial`: eps of the adversarial training, None
    for plain training.
    """

    name: str
    data: DataSpec
    width: float
    epochs: int
    sizes: tuple[float, ...]
    adversarial: float | None = None


class Gradients(nn.Module):
    """Counts images that go through with a gradient asked for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.steps = model, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.steps += len(images) * images.requires_grad
        logits: torch.Tensor = self.model(images)
        return logits


def cases(data_dir: Path | None, smoke: bool) -> list[Case]:
    tenths = (0.1, 0.2, 0.3, 0.4)  # customary for digits (up to 0.3 for MNIST)
    fine = tuple(k / 255 for k in (8, 16, 32, 64))  # where many images stand, there is less to save
    digits = DataSpec(
        dataset="digits", image_size=16, train_examples=320 if smoke else None, test_examples=40 if smoke else None
    )
    made = [
        Case("digits", digits, 0.25, 1 if smoke else 5, tenths),
        Case("digits, adversarially trained", digits, 0.25, 1 if smoke else 5, tenths, 0.1),
    ]
    if not smoke:
        made.append(Case("digits, fine grid", digits, 0.25, 5, fine))
    if data_dir and (data_dir / "cifar10-jpeg").is_dir() and not smoke:
        cifar = DataSpec(dataset="cifar10-jpeg", train_examples=5000, test_examples=192, augment=("flip",))
        eps = tuple(k / 255 for k in (1, 2, 4, 8))
        made += [
            Case("cifar10-jpeg", cifar, 0.25, 5, eps),
            Case("cifar10-jpeg, adversarially trained", cifar, 0.25, 5, eps, 8 / 255),
        ]
    return made


def prepare(case: Case, data_dir: Path | None) -> tuple[nn.Module, Tensors]:
    """The trained network, and the test images."""
    source = datasets.locate(case.data, data_dir, download=False)
    assert source is not None
    loaded = datasets.load(case.data, source)
    training, test = (
        Tensors(
            torch.from_numpy(s.images.transpose(0, 3, 1, 2).copy()).to(DEVICE),
            torch.from_numpy(s.labels.copy()).to(DEVICE),
        )
        for s in (loaded.train, loaded.test)
    )
    label, components = norms.resolve("bn")
    adversarial = None
    if case.adversarial is not None:
        params: dict[str, Any] = {"eps": [case.adversarial], "step_size": 1.25 * case.adversarial, "random_start": True}
        adversarial = Component(name="fgsm", params=registry.make("fgsm", params).component().params)
    trial = Trial(
        data=case.data,
        model=ModelSpec(name="resnet18", width=case.width),
        norm=components,
        norm_label=label,
        batch_size=64,
        seed=0,
        train=TrainSpec(epochs=case.epochs, lr=0.1, weight_decay=5e-4, warmup=0.1, adversarial=adversarial),
    )
    model, _ = build(
        trial,
        channels=loaded.channels,
        image_size=loaded.image_size,
        classes=len(loaded.classes),
        mean=loaded.mean,
        std=loaded.std,
    )
    model = model.to(DEVICE)
    if DEVICE.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, trial.train)
    observer = Observer(
        [],
        Probe(
            model=model, images=evaluate.pixels(training.images[:1]), labels=training.labels[:1], optimizer=optimizer
        ),
        trial.train,
    )
    train(
        model,
        trial,
        training,
        precision=PRECISION,
        optimizer=optimizer,
        observer=observer,
        report=lambda _progress: None,
        record=Record(),
    )
    return model.eval(), test


def ours(
    model: nn.Module, data: Tensors, sizes: tuple[float, ...], search: CompiledGradients | None = None
) -> list[float]:
    right = evaluate.clean(model, data, BATCH).correct
    results = evaluate.attack(
        model,
        registry.make("bim", {"eps": sizes, "steps": STEPS}),
        data,
        right,
        seed=0,
        batch_size=BATCH,
        search=search,
    )
    return [r.accuracy for r in results]


def peer(model: nn.Module, data: Tensors, sizes: tuple[float, ...]) -> list[float]:
    """foolbox as a user would call it, in float32."""
    attack = foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=2.5 / STEPS, steps=STEPS)
    attacked = foolbox.PyTorchModel(model, bounds=(0, 1), device=DEVICE)
    stands = [0] * len(sizes)
    for start in range(0, len(data.labels), BATCH):
        images = evaluate.pixels(data.images[start : start + BATCH])
        _, _, fooled = attack(attacked, images, data.labels[start : start + BATCH], epsilons=list(sizes))
        stands = [s + int((~f).sum()) for s, f in zip(stands, fooled, strict=True)]
    return [s / len(data.labels) for s in stands]


def measure(case: Case, data_dir: Path | None, rounds: int, *, compiled: bool) -> list[dict[str, Any]]:
    """`compiled`: a third arm, ours with a compiled search; what compiling costs is no part of its seconds and stands
    beside them.
    """
    model, data = prepare(case, data_dir)
    clean = float(evaluate.clean(model, data, BATCH).correct.double().mean())
    search = CompiledGradients(model, PRECISION)
    arms: dict[str, Callable[..., list[float]]] = {"ours": ours, "peer": peer}
    if compiled:
        with evaluate.evaluating(model):
            search.prepare(evaluate.pixels(data.images[:BATCH]), data.labels[:BATCH])
        arms["compiled"] = partial(ours, search=search)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    steps, found = {}, {}
    for _ in range(rounds):
        for name, run in arms.items():
            counted = Gradients(model).eval()
            for parameter in model.parameters():
                parameter.grad = None
            started = time.perf_counter()
            found[name] = run(counted, data, case.sizes)
            seconds[name].append(time.perf_counter() - started)
            steps[name] = counted.steps
    apart = max(abs(a - b) for a, b in zip(found["ours"], found["peer"], strict=True))
    about = {
        "clean": clean,
        "images": len(data.labels),
        "robust": found["ours"],
        "robust_peer": found["peer"],
        "largest_difference": apart,
    }
    took = {name: statistics.median(times) for name, times in seconds.items()}
    lines = [
        {
            "case": f"{case.name}: image-steps",
            "ours": steps["ours"],
            "peer": steps["peer"],
            "unit": "gradients",
            "ratio": steps["peer"] / steps["ours"],
            **about,
        },
        {
            "case": f"{case.name}: time",
            "ours": took["ours"],
            "peer": took["peer"],
            "unit": "s",
            "ratio": took["peer"] / took["ours"],
            **about,
        },
    ]
    if compiled:
        about |= {
            "robust": found["compiled"],
            "largest_difference": max(abs(a - b) for a, b in zip(found["compiled"], found["ours"], strict=True)),
        }
        about |= {"engine": search.engine, "reason": search.reason, "compile_seconds": search.compile_seconds}
        ratio = took["peer"] / took["compiled"]
        lines.append(
            {
                "case": f"{case.name}: time, search compiled",
                "ours": took["compiled"],
                "peer": took["peer"],
                "unit": "s",
                "ratio": ratio,
                **about,
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few images, a second or two: that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("BENCH_DATA"),
        help="folder with cifar10-jpeg/; BENCH_DATA by default",
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for case in cases(options.data and Path(options.data), options.smoke):
        for line in measure(
            case,
            options.data and Path(options.data),
            1 if options.smoke else options.rounds,
            compiled=not options.smoke,
        ):
            if options.json:
                print(json.dumps(line), flush=True)
            else:
                robust = " ".join(f"{100 * r:.1f}" for r in line["robust"])
                text = (
                    f"{line['case']:45} ours {line['ours']:>9.5g} foolbox {line['peer']:>9.5g} {line['unit']:9} "
                    f"{line['ratio']:.2f}x"
                )
                print(
                    f"{text}  (clean {100 * line['clean']:.1f}, robust {robust} %, apart "
                    f"{100 * line['largest_difference']:.2f} points)",
                    flush=True,
                )
                if "engine" in line:
                    print(
                        f"{'':45} search: {line['engine']} {line['reason']}, compiled in "
                        f"{line['compile_seconds']:.0f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
