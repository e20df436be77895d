"""The done line of the intervention: a function that does not see the length of a weight keeps its accuracy and its
robustness.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from normbench import measures, norms
from normbench.lab import data, trial_run
from normbench.lab.trial_run import Context, run
from normbench.measures.rescaling import Rescaling
from normbench.norms import ActivationNorm, WeightNorm, registry
from normbench.spec.trial import DataSpec, ModelSpec, TrainSpec, Trial
from normbench.tensors.snapshot import undisturbed

from tests.matrix import sample
from tests.measures.curves import network, probe

#: Methods that promise that the length of the weight before them (or within them) does not matter.
INVARIANT = [n for n in registry.names() if registry.get(n).claims.weight_scale != "none"]
ROWS = [n for n in INVARIANT if registry.get(n).claims.weight_scale == "row"]
#: Eigenvectors turn fast, and a rate of 0.1 diverges.
SLOW = ("bw-pca", "bw-cd", "bw-zca")
#: Forgets the level of a map, and stays at chance on images this small: there is next to nothing to attack.
CHANCE = "in"
#: Of the largest logit: what eps at 1e-12 leaves where variances are small and weights a tenth as long.
LOGITS = 1e-4


def trained(norm: str) -> dict[str, float]:
    """What the measure says after 32 steps on the digits."""
    weighted = issubclass(
        registry.get(norm), WeightNorm
    )  # behind them something has to hold the signal's scale for 32 steps to teach anything
    label, components = norms.resolve(f"{norm}+gn" if weighted else norm)
    trial = Trial(
        data=DataSpec(dataset="digits", image_size=12, train_examples=512, test_examples=64),
        model=ModelSpec(name="resnet18", width=0.125, kwargs={"layers": [1, 1, 1, 1]}),
        norm=components,
        norm_label=label,
        batch_size=32,
        seed=0,
        train=TrainSpec(epochs=2, lr=0.02 if norm in SLOW else 0.1),
        measures=(measures.registry.make("rescaling", {"images": 64, "steps": 2, "eps": 16 / 255}).component(),),
    )
    source = data.locate(trial.data, None, download=False)
    assert source is not None
    outcome = run(trial, Context(data_dir=None, fingerprint=data.fingerprint(source)), lambda _: None)
    assert outcome.status == "ok", outcome.log
    assert outcome.provenance["measure_errors"] == {}
    assert {r.epoch for r in outcome.curves if r.measure.startswith("rescaling")} == {2}
    return {
        r.measure.removeprefix("rescaling."): r.value
        for r in outcome.curves
        if r.measure.startswith("rescaling") and r.value is not None
    }


@pytest.mark.parametrize("norm", sample(INVARIANT, ("bn", "gn", "wn", "bw-zca")))
def test_rescaling_invariant_weights_changes_nothing(norm: str) -> None:
    found = trained(norm)
    assert found["layers"] >= 5
    assert (found["row-layers"] >= 5) is (norm in ROWS)
    for factor in ("0.1", "10", *(["rows"] if norm in ROWS else [])):
        assert found[f"logits@{factor}"] < LOGITS
        assert found[f"clean@{factor}"] == pytest.approx(found["clean@1"], abs=1e-3)
        assert found[f"bim@{factor}"] == pytest.approx(found["bim@1"], abs=1e-3)
    assert found["bim@1"] < found["clean@1"] or norm == CHANCE


def test_what_was_measured_can_fail() -> None:
    """Weights that are not invariant, declared so, change everything: the network of `none`."""
    model = network("none")
    found = {
        v.quantity.removeprefix("rescaling."): v.value
        for v in Rescaling(images=12).read(probe(model, invariant=frozenset({"0", "3"})))
    }
    assert found["layers"] == 2
    assert found["row-layers"] == 0
    assert found["logits@10"] > 0.1
    assert "logits@rows" not in found


def test_statistics_are_taken_anew_and_the_network_is_left_alone() -> None:
    """With the trained network's running statistics the rescaled one would be another function; so it is where they are
    kept.
    """
    model = network("bn")
    model.train()(torch.rand(12, 1, 6, 6, dtype=torch.float64))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = probe(model, invariant=frozenset({"0", "3"}))
    with undisturbed(model):
        found = {v.quantity.removeprefix("rescaling."): v.value for v in Rescaling(images=12).read(seen)}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert found["logits@reference"] > 1e-3
    assert found["row-layers"] == 2
    assert max(found["logits@0.1"], found["logits@10"], found["logits@rows"]) < 1e-8
    reference = model.eval()(seen.images)
    with torch.no_grad():
        model[0].weight.mul_(10)
        assert float((model(seen.images) - reference).abs().max() / reference.abs().max()) > 0.1


def test_rows_are_told_from_tensors() -> None:
    for norm, rows in (("in", 2), ("ln", 0), ("rms", 0), ("ws+gn", 2), ("bn+noise", 2)):
        found = {
            v.quantity.removeprefix("rescaling."): v.value
            for v in Rescaling(images=12).read(probe(network(norm), invariant=frozenset({"0", "3"})))
        }
        assert (norm, found["row-layers"]) == (norm, rows)
        assert found["logits@10"] < 1e-6
        assert ("logits@rows" in found) is (rows > 0)


def test_without_invariant_weights_only_the_reference_is_looked_at() -> None:
    found = {v.quantity for v in Rescaling(images=12).read(probe(network("dyt")))}
    assert found == {f"rescaling.{q}" for q in ("layers", "row-layers", "logits@reference", "clean@1", "bim@1")}


def test_accuracies_are_those_of_the_test_images_where_there_are_any() -> None:
    model = network("bn")
    plain = probe(model)
    with_test = dataclasses.replace(plain, test_images=plain.images, test_labels=plain.labels * 0 + 9)
    clean = [
        next(v.value for v in Rescaling(images=12).read(p) if v.quantity == "rescaling.clean@1")
        for p in (plain, with_test)
    ]
    assert clean[0] > 0
    assert clean[1] == 0
    assert trial_run.PROBE_TEST_IMAGES >= 1000


def test_every_invariant_method_is_of_one_kind() -> None:
    assert all(issubclass(registry.get(n), ActivationNorm | WeightNorm) for n in INVARIANT)
    assert len(INVARIANT) >= 20
