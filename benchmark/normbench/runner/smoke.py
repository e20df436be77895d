"""One short trial on the digits that ship with the package: does a method train at all?"""

from __future__ import annotations

import os

from normbench.spec.outcome import Outcome
from normbench.spec.trial import Component, DataSpec, ModelSpec, TrainSpec, Trial

#: Test images that an attack meets.
IMAGES = 64


def smoke_trial(norm: str, *, attack: Component | None = None, measure: Component | None = None) -> Outcome:
    """Train a narrow ResNet with `norm` for one epoch on the digits, attack or measure it, in a process of its own.
    Takes seconds. Raises `PluginError`.
    """
    import normbench.norms as norms
    from normbench.lab import data
    from normbench.plan.provenance import provenance
    from normbench.runner.worker import Job, supervise

    label, components = norms.resolve(norm)
    trial = Trial(
        data=DataSpec(dataset="digits", image_size=16, test_examples=IMAGES if attack else None),
        model=ModelSpec(name="resnet18", width=0.125),
        norm=components,
        norm_label=label,
        batch_size=32,
        seed=0,
        train=TrainSpec(epochs=1, lr=0.05),
        attacks=(attack,) if attack else (),
        measures=(measure,) if measure else (),
    )
    source = data.locate(trial.data, None, download=False)
    assert source is not None  # noqa: S101
    context = {
        "data_dir": os.environ.get("BENCH_DATA"),
        "fingerprint": data.fingerprint(source),
        "provenance": provenance(),
    }
    return supervise(Job(trial.model_dump_json(), context, 300.0), lambda _: None)
