"""Holds an attack or a measure to its contract, in seconds, on small networks and the digits that ship with the package
(`bench check attack NAME`, `bench check measure NAME`).

Both are tried through the harness that trials use. What a method claims of itself is held against measurements in
`normbench.norms.check`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import nn
from torch.nn import functional

from normbench.attacks import Attack
from normbench.attacks import registry as attacks
from normbench.lab import data as datasets
from normbench.lab import evaluate
from normbench.lab.network.build import build
from normbench.lab.network.swap import Audit
from normbench.lab.observer import Observer, constraints, invariant_layers, norm_layers
from normbench.lab.train import Tensors, make_optimizer
from normbench.measures import Measure, Probe, StepMeasure
from normbench.measures import registry as measures
from normbench.norms import resolve
from normbench.norms.check import Row
from normbench.spec.outcome import AttackResult, Reading
from normbench.spec.text import said, show
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from normbench.tensors.seeding import streams_kept

#: Test images that an attack is let loose on, and the batches that must not matter to it.
IMAGES, BATCHES = 24, (24, 7)
#: Training steps, after which the small network has something to lose, and images of each.
STEPS, BATCH = 60, 32
#: Networks that a measure is shown; the first of them is trained, so that what layers learn is there.
NORMS = ("bn", "gn", "ws+gn", "none")


def check_attack(method: Attack, data_dir: str | None = None) -> tuple[list[Row], list[AttackResult]]:
    """The contract of `normbench.attacks.base`, a row each, and what the attack did to a small network with batch
    normalization. data_dir: where attacks that read stored images find them.
    """
    model, _, _, test = _network("bn", trained=True)
    test = Tensors(test.images[:IMAGES], test.labels[:IMAGES])
    correct = evaluate.clean(model, test, IMAGES).correct

    def run(batch_size: int, stream: int) -> list[AttackResult]:
        with streams_kept():
            torch.manual_seed(stream)
            before = torch.get_rng_state()
            found = evaluate.attack(model, method, test, correct, seed=0, batch_size=batch_size, data_dir=data_dir)
            untouched.append(torch.equal(before, torch.get_rng_state()))
        return found

    untouched: list[bool] = []
    before = _state(model)
    results: list[AttackResult] = []
    rows = [_stored(attacks.from_component(method.component()) == method)]
    try:
        results = run(BATCHES[0], 0)
        rows.append(Row("runs at every size, in [0, 1] and its ball", "yes", "yes"))
    except Exception as error:  # an attack is foreign code
        rows.append(Row("runs at every size, in [0, 1] and its ball", "yes", f"{type(error).__name__}: {said(error)}"))
        return rows, results
    outcomes = [r.outcomes for r in results]
    again = [r.outcomes for r in run(BATCHES[0], 0)]
    batched = [r.outcomes for r in run(BATCHES[1], 0)]
    other = [r.outcomes for r in run(BATCHES[0], 1)]
    rows += [
        Row("again gives the same", "yes", _yes(again == outcomes)),
        Row("smaller batches give the same", "yes", _yes(batched == outcomes)),
        Row("draws from its generators alone", "yes", _yes(other == outcomes and all(untouched))),
        Row("leaves the network as it was", "yes", _yes(all(map(torch.equal, before, _state(model))))),
        Row("names every size", show(_sizes(method)), show([r.size for r in results])),
    ]
    return rows, results


def check_measure(method: Measure) -> list[Row]:
    """The contract of `normbench.measures.base`, a row each, on small networks with several normalizations."""
    wrong: dict[str, list[str]] = {"raises nothing": []}
    silent = 0
    for norm in NORMS:
        model, audit, training, test = _network(norm, trained=norm == NORMS[0])
        before = _state(model)
        try:
            readings = _look(method, norm, model, audit, training, test)
            again = _look(method, norm, model, audit, training, test)
        except _MeasureError as error:
            wrong["raises nothing"].append(f"{norm}: {error}")
            continue
        silent += not readings
        layers = {"", *(name.removeprefix("network.") for name, _ in model.named_modules())}
        places = [(r.measure, r.layer) for r in readings]
        for text, good in {
            f"quantities are called {method.name}.*": all(r.measure.startswith(f"{method.name}.") for r in readings),
            "every value is finite": all(r.value is not None and math.isfinite(r.value) for r in readings),
            "layers are those of the network": all(r.layer in layers for r in readings),
            "says nothing twice": len(set(places)) == len(places),
            "again gives the same": readings == again,
            "leaves the network as it was": all(map(torch.equal, before, _state(model))),
        }.items():
            wrong.setdefault(text, []).extend([] if good else [norm])
    rows = [_stored(measures.from_component(method.component()) == method)]
    told = "no" if silent == len(NORMS) else "yes"
    rows.append(Row(f"says something of a network of {', '.join(NORMS[:-1])} or {NORMS[-1]}", "yes", told))
    return rows + [
        Row(text, "yes", f"not with {', '.join(found)}" if found else "yes") for text, found in wrong.items()
    ]


class _MeasureError(RuntimeError):
    """A measure raised."""


def _look(
    method: Measure, norm: str, model: nn.Module, audit: Audit, training: Tensors, test: Tensors
) -> list[Reading]:
    """The readings of one look, and of the steps that the measure follows; afterwards the network is what it was."""
    spec = TrainSpec(epochs=1, lr=0.05)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = make_optimizer(model, spec)
    images, labels = evaluate.pixels(training.images[:BATCH]), training.labels[:BATCH]
    probe = Probe(
        model=model.eval(),
        images=images,
        labels=labels,
        optimizer=optimizer,
        batch_size=BATCH,
        norms=norm_layers(model, audit),
        constraints=constraints(model, audit, resolve(norm)[1], BATCH),
        invariant=invariant_layers(audit),
        test_images=evaluate.pixels(test.images[:BATCH]),
        test_labels=test.labels[:BATCH],
    )
    observer = Observer([method], probe, spec)
    readings = observer.look(0, 1)
    if isinstance(method, StepMeasure):
        model.train()
        for step in range(method.steps):
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(images), labels))
            watched = observer.before(step, 1, method.steps)
            optimizer.step()
            readings += observer.after(watched) if watched else []
        optimizer.zero_grad()
        model.eval()
        model.load_state_dict(start)
    if observer.errors:
        raise _MeasureError(observer.errors[method.name])
    return readings


def _network(norm: str, *, trained: bool = False) -> tuple[nn.Module, Audit, Tensors, Tensors]:
    """A narrow ResNet on the digits at 16 pixels, in eval mode, what the swap did, and both splits; each time its
    own.
    """
    model, audit = copy.deepcopy(_made(norm, trained))
    _, training, test = _digits()
    return model, audit, training, test


@cache
def _made(norm: str, trained: bool) -> tuple[nn.Module, Audit]:
    label, components = resolve(norm)
    trial = Trial(
        data=DataSpec(dataset="digits", image_size=16),
        model=ModelSpec(name="resnet18", width=0.125, kwargs={"layers": [1, 1, 1, 1]}),
        norm=components,
        norm_label=label,
        batch_size=BATCH,
        seed=0,
        train=TrainSpec(epochs=1, lr=0.05),
    )
    loaded, training, _ = _digits()
    with streams_kept():
        model, audit = build(
            trial,
            channels=3,
            image_size=loaded.image_size,
            classes=len(loaded.classes),
            mean=loaded.mean * 3,
            std=loaded.std * 3,
        )
        if trained:
            _train(model, training)
    return model.eval(), audit


def _train(model: nn.Module, training: Tensors) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(STEPS):
        chosen = torch.arange(step * BATCH, (step + 1) * BATCH) % len(training.labels)
        optimizer.zero_grad()
        logits = model(evaluate.pixels(training.images[chosen]))
        torch.autograd.backward(functional.cross_entropy(logits, training.labels[chosen]))
        optimizer.step()
    optimizer.zero_grad()


@cache
def _digits() -> tuple[datasets.Dataset, Tensors, Tensors]:
    """The dataset, and both splits with three equal channels: some attacks are defined for RGB."""
    spec = DataSpec(dataset="digits", image_size=16)
    source = datasets.locate(spec, None, download=False)
    assert source is not None  # noqa: S101
    loaded = datasets.load(spec, source)
    assert loaded.test is not None  # noqa: S101
    training, test = (
        Tensors(torch.from_numpy(s.images.transpose(0, 3, 1, 2).repeat(3, axis=1)), torch.from_numpy(s.labels.copy()))
        for s in (loaded.train, loaded.test)
    )
    return loaded, training, test


def _state(model: nn.Module) -> list[torch.Tensor]:
    """Everything that may not move: values, gradients, whether gradients are wanted, modes."""
    values = [v.detach().clone() for v in (*model.parameters(), *model.buffers())]
    told = [p.requires_grad for p in model.parameters()] + [m.training for m in model.modules()]
    grads = [p.grad is None for p in model.parameters()]
    return [*values, torch.tensor(told), torch.tensor(grads)]


def _sizes(method: Attack) -> Sequence[float]:
    return [size for part in method.parts() for size in part.sizes]


def _stored(same: bool) -> Row:
    return Row("its parameters come back from a stored trial", "yes", _yes(same))


_yes: Callable[[bool], str] = lambda good: "yes" if good else "no"
