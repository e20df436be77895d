"""What a GPU is asked first: whether what was written without one holds there. A JSON object an answer.

    python perf/tools/gpu_questions.py [--device cuda] [--seconds 120] [--smoke] [NORM ...]

Each answer has `question`, `found`, and `good`: true, false, or null where it is a number to look at. `--seconds`: no
further method is begun after so many. `--device cpu --smoke` shows that the questions themselves run.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from normbench import norms
from normbench.attacks import registry
from normbench.lab import evaluate
from normbench.lab.engine.gradients import CompiledGradients
from normbench.lab.engine.steps import Kind
from normbench.lab.network.build import build
from normbench.lab.observer import Observer
from normbench.lab.train import Record, Tensors, make_optimizer, train
from normbench.measures import Probe
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from normbench.tensors.seeding import seed_gpu
from normbench.tensors.snapshot import undisturbed
from torch import nn
from torch.profiler import ProfilerActivity, profile

#: Those that the speed of this package is judged by come first, then one of each kind of trouble.
FIRST = ("bn", "gn", "ln", "in", "ws+gn", "bn+noise", "bw-cd", "bw-zca", "sn", "batch-renorm")
STEPS = 100
EPS = 2 / 255


@dataclass(frozen=True)
class Place:
    """Where and at which size."""

    device: torch.device
    batch: int
    width: float
    images: int

    def trial(self, norm: str, *, seed: int = 0, epochs: int = 1) -> Trial:
        label, components = norms.resolve(norm)
        return Trial(
            data=DataSpec(dataset="random", augment=("crop", "flip")),
            model=ModelSpec(name="resnet18", width=self.width),
            norm=components,
            norm_label=label,
            batch_size=self.batch,
            seed=seed,
            train=TrainSpec(epochs=epochs, lr=0.05),
        )

    def network(self, trial: Trial) -> nn.Module:
        model, _ = build(trial, channels=3, image_size=32, classes=10, mean=(0.5,) * 3, std=(0.25,) * 3)
        seed_gpu(trial.seed, self.device)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def data(self) -> Tensors:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (self.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
        # Something to learn: the label is a colour that is added.
        labels = torch.randint(0, 10, (self.images,), generator=generator)
        images[:, 0, :16] = (images[:, 0, :16].float() / 4 + 19 * labels[:, None, None]).to(torch.uint8)
        return Tensors(images.to(self.device), labels.to(self.device))

    def train(self, model: nn.Module, trial: Trial, data: Tensors, engine: Kind) -> Record:
        optimizer, record = make_optimizer(model, trial.train), Record()
        probe = Probe(model=model, images=data.images[:8].float() / 255, labels=data.labels[:8], optimizer=optimizer)
        train(
            model,
            trial,
            data,
            precision="bf16" if self.device.type == "cuda" else "float32",
            optimizer=optimizer,
            observer=Observer([], probe, trial.train),
            report=lambda _: None,
            record=record,
            engine=engine,
        )
        return record


def answer(question: str, found: Any, good: bool | None) -> dict[str, Any]:
    return {"question": question, "found": found, "good": good}


def contexts() -> dict[str, Any]:
    """Comes first: afterwards the GPU has its context."""
    with undisturbed(nn.BatchNorm2d(4)):
        pass
    used = torch.cuda.is_initialized()
    return answer("a network on the CPU opens no context on a GPU", {"context": used}, not used)


def seeds(place: Place) -> dict[str, Any]:
    draws = []
    for seed in (1, 2):
        place.network(place.trial("bn+noise", seed=seed))
        draws.append(torch.rand(2, device=place.device).tolist())
    return answer("seeds draw their own numbers on the device", draws, draws[0] != draws[1])


def engine(place: Place, norm: str, wanted: Kind, data: Tensors) -> dict[str, Any]:
    trial = place.trial(norm)
    found: dict[str, Any] = {"norm": norm, "wanted": wanted}
    record = place.train(place.network(trial), trial, data, wanted)
    found |= {
        "used": record.engine,
        "reason": record.engine_reason,
        "images_per_second": round(record.images / record.seconds),
        "compile_seconds": round(record.compile_seconds, 1),
    }
    try:
        torch.rand(1, device=place.device)
    except RuntimeError as error:
        found["random_stream"] = str(error)[:100]
    if place.device.type == "cuda" and torch.cuda.current_stream() != torch.cuda.default_stream():
        found["stream"] = "another one is left current"
    declared = record.engine_reason.startswith("graph: no graph can hold")
    whole = not {"random_stream", "stream"} & found.keys()
    return answer("the engine that is asked for", found, whole and (record.engine == wanted or declared))


def waits(place: Place, data: Tensors, wanted: Kind) -> dict[str, Any]:
    trial = place.trial("bn")
    model = place.network(trial)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if place.device.type == "cuda" else [])]
    with profile(activities=kinds) as seen:
        place.train(model, trial, data, wanted)
    names = ("cudaStreamSynchronize", "cudaMemcpyAsync", "cudaGraphLaunch", "cudaLaunchKernel")
    found = {e.key: e.count for e in seen.key_averages() if e.key in names} | {"steps": len(data.labels) // place.batch}
    # Preparing waits some dozens of times; a wait a step would be as many as there are steps.
    return answer("no step waits for the host", found, found.get("cudaStreamSynchronize", 0) < found["steps"])


def memory(place: Place) -> dict[str, Any]:
    if place.device.type != "cuda":
        return answer("memory is given back after training", {}, None)
    before = torch.cuda.memory_allocated()
    gc.collect()
    return answer(
        "memory is given back after training",
        {"MiB": before >> 20, "MiB after collecting": torch.cuda.memory_allocated() >> 20},
        None,
    )


def searches(place: Place, data: Tensors, wanted: Kind) -> dict[str, Any]:
    """Of the same network: an attack on its own gradients, and on faster ones."""
    trial = place.trial("bn", epochs=3)
    model = place.network(trial)
    place.train(model, trial, data, wanted)
    count = min(2000, place.images)
    test = Tensors(data.images[:count], data.labels[:count])
    batch = min(500, count)
    correct = evaluate.clean(model, test, batch).correct
    found: dict[str, Any] = {"clean": int(correct.sum()), "images": count}
    stands: list[int] = []
    for precision in ("", "float32", *(["bf16"] if place.device.type == "cuda" else [])):
        search = CompiledGradients(model, precision) if precision else None
        if search:
            with evaluate.evaluating(model):
                search.prepare(evaluate.pixels(test.images[:batch]), test.labels[:batch])
        started = time.perf_counter()
        method = registry.make("pgd", {"eps": [EPS], "steps": 20})
        (result,) = evaluate.attack(model, method, test, correct, seed=0, batch_size=batch, search=search)
        stands.append(result.correct)
        found[precision or "own gradients"] = {
            "stand": result.correct,
            "seconds": round(time.perf_counter() - started, 2),
            "search": f"{search.engine}, {search.precision} {search.reason}".strip() if search else "",
        }
    return answer("fast gradients find as much as exact ones", found, max(stands) - min(stands) <= 0.01 * count)


def questions(place: Place, methods: list[str], seconds: float, wanted: Kind) -> Iterator[dict[str, Any]]:
    started = time.perf_counter()
    yield contexts()
    yield seeds(place)
    data = place.data()
    yield waits(place, data, wanted)
    yield searches(place, data, wanted)
    yield memory(place)
    for number, norm in enumerate(methods):
        if time.perf_counter() - started > seconds:
            yield answer("methods that were not asked for want of time", methods[number:], None)
            return
        yield engine(place, norm, wanted, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--smoke", action="store_true", help="few images, a narrow network, one method")
    parser.add_argument("norms", nargs="*", default=[])
    given = parser.parse_args()
    device = torch.device(given.device)
    place = Place(device, 16, 0.125, 64) if given.smoke else Place(device, 128, 1.0, 128 * STEPS)
    others = [n for n in norms.registry.names() if n not in FIRST and n != "noise"]
    methods = given.norms or (["bn"] if given.smoke else [*FIRST, *others])
    for found in questions(place, methods, given.seconds, "graph" if given.device == "cuda" else "eager"):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
