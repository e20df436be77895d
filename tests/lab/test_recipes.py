"""Schedules, Nesterov momentum, Muon, adaptive clipping, mixing and averages: against torch, timm and hand-worked
formulas, and whole, to the last bit, against a loop of their own parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from normbench import measures, norms
from normbench.lab import evaluate
from normbench.lab import train as training
from normbench.lab.average import Average, average_of
from normbench.lab.engine.clipping import clipping, last_layer
from normbench.lab.engine.steps import Kind
from normbench.lab.mixing import Mixer, mixer
from normbench.lab.network import Request, construct
from normbench.lab.observer import Observer
from normbench.lab.train import Record, learning_rate, make_optimizer, train
from normbench.measures import Probe
from normbench.norms.layers.weights import Spectral
from normbench.spec.trial import TrainSpec, Trial
from timm.data import Mixup
from timm.optim.muon import Muon
from timm.utils import ModelEmaV3, adaptive_clip_grad
from torch import nn

from tests.conftest import MakeTrial
from tests.lab.engines import CHAOTIC, Net, losses_of, some_data
from tests.lab.naive import augment, batches
from tests.lab.test_checkpoint import Lab, numbers

#: All of it at once.
WHOLE: dict[str, Any] = {
    "lr": 0.05,
    "schedule": "step",
    "milestones": (0.25, 0.6),
    "factor": 0.2,
    "nesterov": True,
    "weight_decay": 5e-4,
    "agc": 0.05,
    "mixup": 0.4,
    "cutmix": 1.0,
    "ema": 0.9,
    "label_smoothing": 0.1,
}


@given(
    st.integers(1, 300),
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True).map(sorted),
    st.sampled_from([0.1, 0.2, 0.5]),
)
def test_the_step_schedule_is_torchs(total: int, milestones: list[float], factor: float) -> None:
    spec = TrainSpec(lr=0.1, schedule="step", milestones=tuple(milestones), factor=factor)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    steps = [round(m * total) for m in milestones]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [s for s in steps if s], factor)
    at_once = factor ** steps.count(0)
    for step in range(total):
        assert learning_rate(step, total, spec) == pytest.approx(at_once * schedule.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_the_recipe_of_the_cifar_resnets_step_by_step() -> None:
    """64,000 steps, a tenth at 32,000 and 48,000; milestones count the warm-up."""
    spec = TrainSpec(lr=0.1, schedule="step")
    rates = [learning_rate(step, 64_000, spec) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=1e-12)
    warm = TrainSpec(lr=1.0, schedule="step", milestones=(0.2, 0.5), factor=0.5, warmup=0.4)
    assert [learning_rate(step, 10, warm) for step in range(10)] == [
        0.25,
        0.5,
        0.75,
        1,
        0.5,
        0.25,
        0.25,
        0.25,
        0.25,
        0.25,
    ]


def test_nesterov_momentum_by_hand() -> None:
    """v = m v + g, w = w - lr (g + m v); without it, w = w - lr v."""
    for nesterov, second in ((False, 1 - 0.1 - 0.15), (True, 1 - 0.15 - 0.175)):
        weight = nn.Linear(1, 1, bias=False)
        nn.init.ones_(weight.weight)
        made = make_optimizer(weight, TrainSpec(lr=0.1, momentum=0.5, nesterov=nesterov))
        for _ in range(2):
            weight.weight.grad = torch.ones(1, 1)
            made.step()
        assert isinstance(made, torch.optim.SGD)
        assert float(weight.weight.detach()) == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_is_timms_and_makes_updates_orthogonal(nesterov: bool) -> None:
    def fresh() -> tuple[nn.Sequential, torch.Tensor]:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3)), torch.randn(32, 8)

    spec = TrainSpec(optimizer="muon", lr=0.02, momentum=0.9, nesterov=nesterov)
    (ours, images), (theirs, _) = fresh(), fresh()
    made, other = make_optimizer(ours, spec), Muon(theirs.parameters(), lr=0.02, momentum=0.9, nesterov=nesterov)
    before = ours[0].weight.detach().clone()
    for step in range(3):
        for model, optimizer in ((ours, made), (theirs, other)):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
        if step == 0:
            moved = (before - ours[0].weight.detach()) / 0.02
            found = torch.linalg.svdvals(moved)[:3] / (0.2 * 16**0.5)  # three logits, so a gradient of rank 3
            assert float(found.min()) > 0.6  # the iterations end between 0.68 and 1.13
            assert float(found.max()) < 1.2
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_adaptive_clipping_by_hand() -> None:
    """A unit's gradient is at most `agc` times the norm of its weights, which counts as 1e-3 where it is smaller."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight[1] = 0
    gradients = [torch.randn_like(p) * 10 ** torch.randn(()).double() for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    clipping(model, TrainSpec(agc=0.1))()
    clipped = 0
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert parameter.grad is not None
        if name.startswith("3."):
            assert torch.equal(parameter.grad, gradient), "the classifier is left alone"
            continue
        units = range(len(parameter)) if parameter.ndim > 1 else [...]
        for unit in units:
            most = 0.1 * max(1e-3, float(parameter.detach()[unit].norm()))
            size = float(gradient[unit].norm())
            expected = gradient[unit] * min(1.0, most / size)
            assert torch.allclose(parameter.grad[unit], expected, rtol=1e-9), (name, unit)
            clipped += size > most
    assert clipped > 3


CLASSIFIERS = {
    "resnet20": "fc",
    "wrn-10-1": "head.fc",
    "convnext_atto": "head.fc",
    "mobilenetv3_small_050": "classifier",
    "mixer_s32_224": "head",
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_last_layer_is_the_classifier(name: str) -> None:
    with torch.device("meta"):
        network = construct(Request(name=name))
    assert last_layer(network) is network.get_submodule(CLASSIFIERS[name])


def _apart(images: torch.Tensor, labels: torch.Tensor, spec: TrainSpec, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    np.random.seed(seed)
    mix = Mixup(mixup_alpha=spec.mixup, cutmix_alpha=spec.cutmix, label_smoothing=0.0, num_classes=3)
    found: tuple[torch.Tensor, torch.Tensor] = mix(images.clone(), labels)
    return found


@given(st.sampled_from([(0.3, 0.0), (0.0, 1.0), (0.3, 1.0)]), st.integers(0, 2**32 - 1))
def test_mixing_is_timms_and_leaves_the_streams_alone(alphas: tuple[float, float], seed: int) -> None:
    spec = TrainSpec(mixup=alphas[0], cutmix=alphas[1])
    images, labels = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
    expected = _apart(images, labels, spec, seed)
    np.random.seed(3)
    stream, draws = torch.get_rng_state(), np.random.get_state()[1].copy()
    found = Mixer(spec, 3)(images.clone(), labels, seed)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(torch.get_rng_state(), stream)
    assert np.array_equal(np.random.get_state()[1], draws)
    share = found[1].gather(1, labels[:, None])[:, 0]  # of an image's own class, in whichever way it was mixed
    assert torch.allclose(found[1].sum(1), torch.ones(6))
    if not alphas[1]:
        blended = images * share[:, None, None, None] + images.flip(0) * (1 - share[:, None, None, None])
        twins = labels == labels.flip(0)
        assert torch.allclose(found[0][~twins], blended[~twins], atol=1e-6)
    if not alphas[0]:
        own = (found[0] == images).all(1).double().mean((1, 2))  # shares of pixels that are an image's own
        assert torch.allclose(own[labels != labels.flip(0)].float(), share[labels != labels.flip(0)], atol=1e-6)


def test_nothing_is_mixed_unless_it_is_asked_for() -> None:
    assert mixer(TrainSpec(), 3) is None
    assert average_of(nn.Linear(1, 1), TrainSpec()) is None


def plain(model: nn.Module, trial: Trial) -> tuple[list[float], nn.Module]:
    """Losses of all steps, and the averaged network: the loop as anyone writes it from torch's and timm's parts."""
    spec, data = trial.train, some_data()
    count, losses = len(data.labels), list[float]()
    an_epoch = count // trial.batch_size
    decayed = [p for p in model.parameters() if p.ndim > 1 and p.numel() > p.shape[0]]
    rest = [p for p in model.parameters() if not any(p is d for d in decayed)]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": rest}],
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
    )
    average = ModelEmaV3(model, decay=spec.ema or 0.0, use_warmup=True)
    head = {id(p) for p in model.head[-1].parameters()}  # type: ignore[index, union-attr]
    others = [p for p in model.parameters() if id(p) not in head]
    for epoch in range(1, spec.epochs + 1):
        model.train()
        generator = torch.Generator().manual_seed(trial.seed * 1_000_003 + epoch)
        for index in batches(count, trial.batch_size, drop_last=True, generator=generator):
            images = augment(data.images[index].float() / 255, trial.data.augment, generator)
            seed = int(torch.randint(0, 2**32, (), generator=generator))
            mixed, labels = _apart(images, data.labels[index], spec, seed)
            optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = learning_rate(
                len(losses), an_epoch * spec.epochs, spec
            )
            loss = nn.functional.cross_entropy(model(mixed), labels, label_smoothing=spec.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            adaptive_clip_grad(others, clip_factor=spec.agc or 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            average.update(model, len(losses))
    return losses, average.module


def ours(model: nn.Module, trial: Trial, engine: Kind = "eager") -> tuple[Record, Average]:
    data, record, optimizer = some_data(), Record(), make_optimizer(model, trial.train)
    probe = Probe(model=model, images=data.images[:8].float() / 255, labels=data.labels[:8], optimizer=optimizer)
    average = average_of(model, trial.train)
    assert average is not None
    train(
        model,
        trial,
        data,
        precision="float32",
        optimizer=optimizer,
        observer=Observer([], probe, trial.train),
        report=lambda _: None,
        record=record,
        engine=engine,
        classes=3,
        average=average,
    )
    return record, average


def _same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("norm", ["bn", *(pytest.param(n, marks=pytest.mark.matrix) for n in ("ws+gn", "sn"))])
def test_a_whole_recipe_is_the_plain_loop_to_the_last_bit(
    norm: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "FIRST_STEPS", 1000)
    trial = make_trial(norm, epochs=4, data={"augment": ("flip", "crop")}, **WHOLE)
    model, reference = Net(norm, dropout=0.2), Net(norm, dropout=0.2)
    torch.manual_seed(1)
    losses, averaged = plain(reference, trial)
    torch.manual_seed(1)
    record, average = ours(model, trial)
    assert losses_of(record) == losses
    assert len(losses) == 20
    assert _same(model, reference)
    assert _same(average.network, averaged)
    assert not _same(average.network, model)
    average.put_into(model)
    assert _same(model, averaged)
    for unlike in ({"agc": 0.01}, {"mixup": 0.0}, {"cutmix": 0.0}, {"nesterov": False}, {"factor": 0.1}):
        torch.manual_seed(1)
        assert losses_of(ours(Net(norm, dropout=0.2), make_trial(norm, epochs=4, **WHOLE | unlike))[0]) != losses


@pytest.mark.engine
@pytest.mark.parametrize(("optimizer", "apart"), [("sgd", 1e-4), ("muon", 2**-8)])
def test_a_whole_recipe_compiles(optimizer: str, apart: float, make_trial: MakeTrial) -> None:
    """Muon's directions are computed in bfloat16, whose steps are 2^-8: rounding moves them by so much."""
    trial = make_trial("bn", epochs=2, **WHOLE | {"optimizer": optimizer, "lr": 0.01})
    found = []
    for engine in ("eager", "compile"):
        torch.manual_seed(1)
        record, average = ours(Net("bn"), trial, engine)  # type: ignore[arg-type]
        assert (record.engine, record.engine_reason) == (engine, "")
        found.append((losses_of(record), average.network))
    assert found[1][0] == pytest.approx(found[0][0], rel=apart)
    for a, b in zip(found[0][1].parameters(), found[1][1].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=10 * apart, atol=0.1 * apart)


@pytest.mark.parametrize("norm", [n for n in norms.registry.names() if n not in CHAOTIC])
def test_every_norm_can_be_averaged(norm: str) -> None:
    """The average starts as the network, moves no random stream, and shares no tensor with it."""
    written = f"bn+{norm}" if issubclass(norms.registry.get(norm), norms.NormModifier) else norm
    model = Net(written)
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    model.train()(images)
    stream = torch.get_rng_state()
    average = Average(model, 0.9)
    average.update(model, 1)
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(average.network(images), model.eval()(images))
    held = {id(t) for t in (*model.parameters(), *model.buffers())}
    assert not held & {id(t) for t in (*average.network.parameters(), *average.network.buffers())}
    before = [p.detach().clone() for p in average.network.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update(model, 2)
    share = 2 ** (-2 / 3)
    for was, now in zip(before, average.network.parameters(), strict=True):
        assert torch.allclose(now, was + share, atol=1e-5)


def test_measures_predict_nothing_for_rules_they_do_not_know(lab: Callable[..., Lab]) -> None:
    """The equilibrium of SGD with weight decay is that of plain momentum on the gradient itself."""
    measured = measures.registry.make("effective-lr").component()
    found = {}
    for how in ({}, {"nesterov": True}, {"agc": 0.1}):
        place = lab("bn", epochs=1, lr=0.05, weight_decay=5e-4, **how)
        place.trial = place.trial.model_copy(update={"measures": (measured,)})
        found[str(how)] = {r.measure for r in place.whole().curves}
    plain, nesterov, clipped = found.values()
    assert plain - nesterov == plain - clipped == {"effective-lr.norm-equilibrium", "effective-lr.angle-equilibrium"}


@pytest.fixture
def lab(data_dir: Any, tmp_path: Any, make_trial: MakeTrial) -> Callable[..., Lab]:
    def make(norm: str, **settings: Any) -> Lab:
        trial = make_trial(norm, data={"validation": 0.25, "augment": ("flip",)}, **settings)
        return Lab(data_dir, tmp_path / "kept", trial.model_copy(update={"attacks": ()}))

    return make


@pytest.mark.parametrize(("norm", "optimizer"), [("bn", "muon"), pytest.param("wn", "sgd", marks=pytest.mark.matrix)])
def test_a_whole_recipe_goes_on_after_an_interruption(lab: Callable[..., Lab], norm: str, optimizer: str) -> None:
    place = lab(norm, epochs=3, **WHOLE | {"optimizer": optimizer, "lr": 0.01})
    for epoch in (2, 3):
        place.killed_in(epoch)
    resumed, whole = place.go_on(), place.whole()
    assert resumed.provenance["resumed_at"] == [1, 2]
    assert numbers(resumed) == numbers(whole)


def test_it_is_the_average_that_is_evaluated(lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[nn.Module] = []
    clean = evaluate.clean

    def watched(model: nn.Module, *args: Any) -> Any:
        judged.append(model)
        return clean(model, *args)

    monkeypatch.setattr(evaluate, "clean", watched)
    outcome = lab("bn", epochs=2, ema=0.999, lr=0.05).whole()
    *validated, tested = judged
    assert len({id(m) for m in validated}) == 1
    assert tested is not validated[0]
    assert _same(tested, validated[0]), "the average was put into the network, which attacks then see"
    last = lab("bn", epochs=2, lr=0.05).whole()
    assert outcome.train_loss == last.train_loss
    assert outcome.test_loss != last.test_loss


def test_the_averaged_network_keeps_its_spectral_norms() -> None:
    """Means of unit vectors are shorter than 1; sigma would come out too small, and the weight too large."""
    linear = nn.Linear(6, 5)
    spectral = Spectral(linear.weight, eps=1e-12, start=30)
    nn.utils.parametrize.register_parametrization(linear, "weight", spectral, unsafe=True)
    average = Average(linear, 0.5)
    for step in range(1, 6):
        with torch.no_grad():
            linear.parametrizations.weight.original.copy_(
                torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
            )
        spectral.advance(linear.parametrizations.weight.original)
        average.update(linear, step)
    (averaged,) = average.network.parametrizations.weight
    assert averaged.u.norm() == pytest.approx(1, abs=1e-5)
    assert averaged.v.norm() == pytest.approx(1, abs=1e-5)
