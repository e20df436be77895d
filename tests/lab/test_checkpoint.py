"""A trial that is interrupted and goes on ends with the numbers of one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from normbench import attacks, measures, norms
from normbench.lab import checkpoint, data
from normbench.lab.checkpoint import CheckpointError, Training, capture, restore, to_bytes
from normbench.lab.observer import Observer
from normbench.lab.train import Progress, Record, make_optimizer
from normbench.lab.trial_run import Context, checkpointer, run
from normbench.measures import Probe
from normbench.paths import checkpoint_path
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import TrainSpec, Trial
from safetensors import safe_open
from torch import nn

from tests.conftest import MakeTrial
from tests.matrix import sample

EPOCHS = 4
#: Parameters under which a measure that takes seconds does the same in less.
CHEAP: dict[str, dict[str, int]] = {
    "conditioning": {"batches": 2, "layers": 4},
    "disturbance": {"samples": 3, "examples": 2, "layers": 3},
    "hessian": {"images": 16, "steps": 4, "vectors": 1},
    "rescaling": {"images": 16, "steps": 1},
    "surface": {"images": 16, "points": 3},
}

#: Each keeps something else from step to step: nothing, running statistics, a count of steps, a covariance, vectors
#: of a weight, state of the backward pass, a bounded parameter, draws.
KEEPING = ("gn", "bn", "batch-renorm", "bw-zca", "sn", "powernorm", "bin", "noise")


class Killed(KeyboardInterrupt):
    """As Ctrl-C: nothing in a trial catches it."""


class Lab:
    """Runs trials with checkpoints in a folder."""

    def __init__(self, data_dir: Path, folder: Path, trial: Trial) -> None:
        source = data.locate(trial.data, data_dir, download=False)
        assert source is not None
        folder.mkdir(exist_ok=True)
        self.trial = trial
        self.settings: dict[str, Any] = {
            "data_dir": str(data_dir),
            "fingerprint": data.fingerprint(source),
            "identity": "a" * 32,
        }
        self.kept = self.settings | {"checkpoints": str(folder), "checkpoint_seconds": 0.0}
        self.path = folder / f"{trial.trial_id}.safetensors"

    def whole(self) -> Outcome:
        return run(self.trial, Context(**self.settings), lambda _: None)

    def killed_in(self, epoch: int, **settings: Any) -> None:
        """Ends without a word when `epoch` is about to be finished."""

        def report(progress: Progress) -> None:
            if progress.phase == "train" and progress.epoch >= epoch:
                raise Killed

        context = Context(**(self.kept | settings))
        with pytest.raises(Killed):
            run(self.trial, context, report, checkpointer(self.trial, context))

    def go_on(self, **settings: Any) -> Outcome:
        context = Context(**(self.kept | settings))
        return run(self.trial, context, lambda _: None, checkpointer(self.trial, context))


def numbers(outcome: Outcome) -> dict[str, Any]:
    """All of an outcome but times, memory and where it went on."""
    left_out = {"started", "wall_seconds", "train_seconds", "images_per_second", "peak_memory", "measure_seconds"}
    found = outcome.model_dump(mode="json", exclude=left_out)
    found["attacks"] = [{k: v for k, v in a.items() if k != "seconds"} for a in found["attacks"]]
    found["provenance"].pop("resumed_at", None)
    return found


@pytest.fixture
def lab(data_dir: Path, tmp_path: Path, make_trial: MakeTrial) -> Callable[..., Lab]:
    return lambda *args, attacked=True, **settings: Lab(
        data_dir,
        tmp_path / "kept",
        make_trial(*args, **settings) if attacked else make_trial(*args, **settings).model_copy(update={"attacks": ()}),
    )


@pytest.mark.parametrize("interruptions", [(3,), (2, 3, 4)], ids=["once", "in every epoch"])
def test_an_interrupted_trial_ends_as_an_undisturbed_one(
    lab: Callable[..., Lab], interruptions: tuple[int, ...]
) -> None:
    place = lab(
        "bn",
        seed=5,
        epochs=EPOCHS,
        warmup=0.25,
        weight_decay=5e-4,
        data={"augment": ("flip", "crop"), "validation": 0.25},
        model={"kwargs": {"drop_rate": 0.3}},
    )
    for epoch in interruptions:
        place.killed_in(epoch)
        assert place.path.is_file()
    resumed, whole = place.go_on(), place.whole()
    assert resumed.status is Status.OK, resumed.log
    assert numbers(resumed) == numbers(whole)
    assert resumed.provenance["resumed_at"] == [e - 1 for e in interruptions]
    assert "resumed_at" not in whole.provenance
    assert resumed.validation_accuracy is not None
    assert resumed.attacks
    assert resumed.train_seconds > 0
    assert set(resumed.measure_seconds) == {"weight-norm"}


def test_adversarial_training_goes_on(lab: Callable[..., Lab]) -> None:
    attack = attacks.registry.make("pgd", {"eps": [8 / 255], "steps": 2}).component()
    place = lab("gn", epochs=3, adversarial=attack, attacked=False)
    place.killed_in(3)
    assert numbers(place.go_on()) == numbers(place.whole())


@pytest.mark.parametrize("norm", sample(norms.registry.names(), KEEPING))
def test_every_norm_goes_on(lab: Callable[..., Lab], norm: str) -> None:
    """What a layer keeps outside of parameters and buffers would be lost here."""
    kind = norms.registry.get(norm)
    written = (
        f"{norm}+none"
        if issubclass(kind, norms.WeightNorm)
        else f"bn+{norm}"
        if issubclass(kind, norms.NormModifier)
        else norm
    )
    place = lab(
        written,
        epochs=2,
        batch_size=32,
        attacked=False,
        lr=0.01,
        model={"kwargs": {"layers": [1, 1, 1, 1], "drop_path_rate": 0.2}},
    )
    whole = place.whole()
    if whole.status is Status.DIVERGED:
        pytest.skip("it diverges on this small problem")
    place.killed_in(2)
    resumed = place.go_on()
    assert resumed.provenance["resumed_at"] == [1]
    assert numbers(resumed) == numbers(whole)


def test_every_measure_goes_on(lab: Callable[..., Lab]) -> None:
    """All of them in one trial: what one has forgotten is missing from its own readings, which the difference names."""
    place = lab("bn", epochs=2, attacked=False)
    found = tuple(measures.registry.make(m, CHEAP.get(m)).component() for m in measures.registry.names())
    place.trial = place.trial.model_copy(update={"measures": found})
    place.path = place.path.with_name(f"{place.trial.trial_id}.safetensors")
    whole = place.whole()
    place.killed_in(2)
    resumed = place.go_on()
    assert resumed.provenance["resumed_at"] == [1]
    assert set(resumed.measure_seconds) == set(measures.registry.names())
    assert numbers(resumed) == numbers(whole)


@pytest.mark.parametrize("name", get_args(TrainSpec.model_fields["optimizer"].annotation))
def test_every_optimizer_goes_on(name: str) -> None:
    def steps(training: Training, first: int, last: int) -> None:
        for step in range(first, last):
            images = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            training.optimizer.zero_grad()
            nn.functional.dropout(training.model(images), 0.2).square().mean().backward()
            training.optimizer.step()

    def fresh() -> Training:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
        spec = TrainSpec(optimizer=name, lr=0.01, weight_decay=1e-3)
        optimizer = make_optimizer(model, spec)
        probe = Probe(
            model=model, images=torch.zeros(1, 3, 6, 6), labels=torch.zeros(1, dtype=torch.int64), optimizer=optimizer
        )
        return Training(model, optimizer, Observer([], probe, spec), Record())

    whole = fresh()
    steps(whole, 0, 6)
    half = fresh()
    steps(half, 0, 3)
    about, tensors = capture(half)
    about, tensors = json.loads(json.dumps(about)), {k: v.clone() for k, v in tensors.items()}
    other = fresh()
    restore(other, about, tensors)
    steps(other, 3, 6)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    )


def test_a_checkpoint_of_another_trial_is_ignored_and_that_is_said(lab: Callable[..., Lab]) -> None:
    place = lab("bn", epochs=3, attacked=False)
    place.killed_in(3)
    outcome = place.go_on(identity="b" * 32)
    assert "resumed_at" not in outcome.provenance
    assert "another identity" in outcome.provenance["checkpoint"]
    assert numbers(outcome) | {"provenance": None} == numbers(place.whole()) | {"provenance": None}


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_a_damaged_checkpoint_is_ignored_and_that_is_said(lab: Callable[..., Lab], damage: str) -> None:
    place = lab("bn", epochs=3, attacked=False)
    place.killed_in(3)
    content = place.path.read_bytes()
    place.path.write_bytes(
        {
            "cut": content[:-100],
            "flipped": content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
            "foreign": to_bytes({"format": 0}, {"x": torch.zeros(1)}),
            "empty": b"",
        }[damage]
    )
    outcome = place.go_on()
    assert outcome.status is Status.OK
    assert "resumed_at" not in outcome.provenance
    assert "is ignored" in outcome.provenance["checkpoint"]


def test_a_checkpoint_is_tensors_and_json_and_counts_the_time(lab: Callable[..., Lab]) -> None:
    place = lab("bn", epochs=3, attacked=False)
    place.killed_in(3)
    with safe_open(place.path, framework="pt") as file:
        about = json.loads(file.metadata()["normbench"])["about"]
        names = list(file.keys())
    assert about["record"]["epoch"] == 2
    assert any(n.startswith("model.network.") and n.endswith("running_var") for n in names)
    assert any(n.endswith("momentum_buffer") for n in names)
    context = Context(**place.kept)
    kept = checkpointer(place.trial, context)
    assert kept is not None
    assert kept.spent == about["spent"] > 0
    assert place.go_on().wall_seconds > about["spent"]


def test_they_are_taken_every_so_often_and_a_full_disk_costs_nothing(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = lab("bn", epochs=3, attacked=False)
    place.go_on(checkpoint_seconds=3600.0)
    assert not place.path.exists()

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    outcome = place.go_on()
    assert outcome.status is Status.OK
    assert "No space left" in outcome.provenance["checkpoint"]


def test_state_that_is_neither_tensor_nor_number_is_refused() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.state[model.weight]["odd"] = object()
    probe = Probe(model=model, images=torch.zeros(1), labels=torch.zeros(1), optimizer=optimizer)
    with pytest.raises(CheckpointError, match="odd"):
        capture(Training(model, optimizer, Observer([], probe, TrainSpec()), Record()))


def test_nodes_without_the_folder_keep_them_in_their_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "shared").mkdir()
    assert checkpoint_path(str(tmp_path / "shared"), "x") == tmp_path / "shared" / "x.safetensors"
    assert checkpoint_path(str(tmp_path / "elsewhere"), "x") == tmp_path / "cache" / "checkpoints" / "x.safetensors"
    assert checkpoint_path(None, "x") is None
