"""Synthetic trials and outcomes, of the shape of real ones: for tests and for the site's speed bench. Invented numbers;
never kept as results.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from normbench.plan.digests import source_digest
from normbench.spec.cost import Cost, Costs, Kept, Timing
from normbench.spec.outcome import AttackResult, Outcome, Reading, Status
from normbench.spec.trial import PROTOCOL, Component, DataSpec, ModelSpec, TrainSpec, Trial
from normbench.store.schema import to_row

#: How good an invented method is: clean accuracy, robustness at the first eps, growth of its weights.
QUALITY = {
    "bn": (0.93, 0.45, 6.0),
    "ln": (0.91, 0.50, 3.0),
    "gn": (0.94, 0.52, 3.5),
    "in": (0.89, 0.48, 4.0),
    "wn": (0.92, 0.60, 1.3),
    "cwn": (0.925, 0.61, 1.2),
    "ws+gn": (0.935, 0.55, 4.5),
    "sn": (0.90, 0.62, 1.1),
    "none": (0.90, 0.58, 2.0),
}
SIZES = (1 / 255, 4 / 255)


def trial(
    norm: str = "bn",
    seed: int = 0,
    *,
    dataset: str = "digits",
    model: str = "resnet18",
    width: float = 1.0,
    batch_size: int = 64,
    **train: Any,
) -> Trial:
    names = norm.split("+")
    components = tuple(Component(name=n, params={}) for n in names)
    if names[-1] in {"wn", "cwn", "sn", "ws"}:
        components = (*components, Component(name="none", params={}))
    return Trial(
        data=DataSpec(dataset=dataset),
        model=ModelSpec(name=model, width=width),
        norm=components,
        norm_label=norm,
        batch_size=batch_size,
        seed=seed,
        train=TrainSpec(**({"epochs": 6} | train)),
        attacks=(
            Component(name="noise", params={"std": [1 / 16]}),
            Component(name="bim", params={"eps": list(SIZES), "steps": 20}),
        ),
        measures=(Component(name="weight-norm", params={"every": 1}),),
    )


def identity(of: Trial) -> dict[str, Any]:
    data = hashlib.sha256(of.data.dataset.encode()).hexdigest()
    return {
        "hash": of.trial_id * 2,
        "spec": of.trial_id,
        "data": data,
        "code": {"normbench.norms.bn": source_digest("normbench.norms.bn")},
        "protocol": PROTOCOL,
        "versions": {"torch": "2.11.0"},
        "device_class": "cpu",
        "precision": "float32",
    }


def outcome(
    of: Trial, *, total: int = 360, quality: tuple[float, float, float] | None = None, layers: int = 2
) -> Outcome:
    """A finished trial: the seed moves accuracy by about half a point."""
    clean, robust, grows = quality or QUALITY.get(of.norm_label, (0.9, 0.5, 2.0))
    rng = np.random.default_rng(int(of.trial_id[:8], 16))
    if of.train.weight_decay:
        grows, robust = 1 + (grows - 1) * 0.2, robust - 0.03
    shared = np.random.default_rng(of.seed).random(total)  # images are as hard for every method, up to noise
    difficulty = 0.7 * shared + 0.3 * rng.random(total)
    scale = np.sort(difficulty)

    def bits(share: float) -> np.ndarray:
        cut = scale[min(total - 1, max(0, round((share + rng.normal(0, 0.004)) * total) - 1))]
        return difficulty <= cut

    clean_bits = bits(clean)
    epochs = of.train.epochs
    attacks = [_attack("noise", "noise", 1 / 16, clean_bits & bits(clean - 0.05), total)]
    standing = clean_bits
    for position, size in enumerate(SIZES):
        standing = standing & bits(max(0.0, robust * (1 - 0.9 * position)))
        attacks.append(_attack("bim[steps=20]", "linf", size, standing, total))
    return Outcome(
        status=Status.OK,
        epoch=epochs,
        clean_correct=int(clean_bits.sum()),
        test_total=total,
        clean_outcomes=np.packbits(clean_bits).tobytes(),
        test_loss=float(-math.log(clean)),
        train_loss=0.05,
        attacks=tuple(attacks),
        curves=tuple(_curves(epochs, clean, grows, rng, layers)),
        audit={
            "replaced": [{"name": "bn1", "channels": 16}],
            "skipped": [],
            "parameters_before": 1000,
            "parameters_after": 1000,
            "scale_invariant": ["a", "b"],
            "weights": 3,
        },
        provenance={"commit": "0" * 40, "dirty": False, "packages": {"torch": "2.11.0"}, "device": "cpu"},
        started=1_760_000_000.0 + int(of.trial_id[:6], 16) % 100_000,
        wall_seconds=12.5,
        train_seconds=9.25,
        images_per_second=float(1500 + rng.normal(0, 20)),
        peak_memory=300_000_000,
    )


def rows(
    trials: Iterable[Trial], made: Callable[[Trial], Outcome] = outcome, suite: str = "demo"
) -> list[dict[str, Any]]:
    """What a store has of these trials."""
    return [to_row(suite, t, identity(t), made(t)) for t in trials]


def candidate(of: Trial, lr: float, seed: int = 0) -> Trial:
    """A candidate of tuning for a final trial."""
    parts = {k: getattr(of, k) for k in Trial.model_fields} | {
        "stage": "tuning",
        "attacks": (),
        "measures": (),
        "seed": seed,
    }
    return Trial(
        **parts
        | {"data": of.data.model_copy(update={"validation": 0.1}), "train": of.train.model_copy(update={"lr": lr})}
    )


def tried(of: Trial, accuracy: float | None, status: Status = Status.OK, epoch: int | None = None) -> Outcome:
    """What became of a candidate."""
    done = of.train.epochs if epoch is None else epoch
    readings = tuple(
        Reading(step=e * 20, epoch=e, measure="validation.accuracy", value=accuracy) for e in range(1, done + 1)
    )
    return Outcome(
        status=status,
        reason=""
        if status is Status.OK
        else "ASHA stopped it after epoch 2 of 6"
        if status is Status.STOPPED
        else "because",
        epoch=done,
        validation_accuracy=accuracy,
        curves=readings,
        provenance={"tuned": ["lr"]},
        started=1_760_000_000.0,
        wall_seconds=4.0,
        train_seconds=2.5,
    )


def failure(of: Trial, status: Status = Status.DIVERGED, reason: str = "loss became non-finite in epoch 2") -> Outcome:
    return Outcome(
        status=status, reason=reason, log="Traceback\n" + reason, epoch=1, started=1_760_000_000.0, wall_seconds=3.0
    )


def _attack(name: str, threat: str, size: float, standing: np.ndarray, total: int) -> AttackResult:
    return AttackResult(
        attack=name,
        threat=threat,
        size=size,
        correct=int(standing.sum()),
        total=total,
        outcomes=np.packbits(standing).tobytes(),
        seconds=1.5,
        model_calls=total * 20,
    )


def _curves(epochs: int, clean: float, grows: float, rng: np.random.Generator, layers: int) -> Iterator[Reading]:
    names = ["", *(f"layer{i}.conv" for i in range(1, layers + 1))]
    for epoch in range(epochs + 1):
        done = epoch / epochs
        step = epoch * 20
        if epoch:
            yield Reading(
                step=step,
                epoch=epoch,
                measure="train.loss",
                value=2.3 * math.exp(-3 * done) + 0.02 * float(rng.random()),
            )
            yield Reading(
                step=step,
                epoch=epoch,
                measure="train.accuracy",
                value=min(1.0, clean * (1 - 0.8 * math.exp(-4 * done))),
            )
            yield Reading(step=step, epoch=epoch, measure="lr", value=0.05 * (1 + math.cos(math.pi * done)))
        for name in names:
            base = 10.0 if name == "" else 5.0
            value = base * grows**done * (1 + 0.01 * float(rng.normal()))
            yield Reading(step=step, epoch=epoch, measure="weight-norm.raw", layer=name, value=value)
            yield Reading(step=step, epoch=epoch, measure="weight-norm.effective", layer=name, value=value)


def grid(
    norms: Iterable[str] = QUALITY, seeds: int = 3, weight_decays: Iterable[float] = (0.0, 5e-4), **spec: Any
) -> Iterator[Trial]:
    for norm in norms:
        for weight_decay in weight_decays:
            for seed in range(seeds):
                yield trial(norm, seed, weight_decay=weight_decay, **spec)


def costs(methods: Iterable[str], device: str = "An Invented CPU") -> Costs:
    """Of one machine; the second method has no number of the network, the last was measured while others worked."""
    names = list(methods)
    rows = {}
    for position, name in enumerate(names):
        ratio = 1 + position / 10
        timings = [
            Timing(
                what=what,
                shape=shape,
                step=step,
                seconds=ratio,
                reference=1,
                ratio=ratio,
                low=ratio - 0.05,
                high=ratio + 0.05,
            )
            for what, shape, step in (("layer", "8x4x2x2", "forward"), ("network", "16x3x32x32", "training"))
            if what == "layer" or position != 1
        ]
        rows[name] = Cost(
            method=name,
            family="batch statistics",
            code="0" * 16,
            rounds=9,
            timings=tuple(timings),
            kept=(Kept(what="layer", shape="8x4x2x2", bytes=300, reference=200),),
            failed={"network 16x3x32x32": "out of host memory"} if position == 1 else {},
            load=9.0 if position == len(names) - 1 else 0.5,
        )
    return Costs(machine={"cpu": device, "device": "cpu", "threads": 1, "torch": "2.11.0"}, methods=rows)
