"""The bookkeeping of captured steps, without a GPU: `tests.lab.standin` in the place of the capture.

What a graph computes is what an eager training with the same kernels computes, whatever moves tensors in between; and
the stand-in finds what would move them unnoticed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from normbench import measures, norms
from normbench.lab import train as training
from normbench.lab.engine import cuda_graph, steps
from normbench.lab.engine.cuda_graph import BrokenProcessError, Graph
from normbench.lab.engine.steps import Engine
from normbench.lab.machine import kernels_tried
from normbench.lab.observer import Observer
from normbench.lab.train import Record, make_optimizer
from normbench.measures import Probe
from normbench.spec.trial import Trial
from torch import nn

from tests.conftest import MakeTrial
from tests.lab.engines import Net, losses_of, some_data
from tests.lab.standin import MovedError, StandIn, WaitedError

#: As in `tests.lab.engines`: fused updates round differently, and training amplifies rounding.
CLOSE = 1e-3
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "lamb", "lion")
#: Methods whose step cannot be captured, with what the host waits for.
DECLARED = {"bw-pca": "_linalg_eigh", "bw-zca": "_linalg_eigh", "gw": "_linalg_eigh"}
#: Every method; a modifier with one that it modifies.
ALL = [f"bn+{n}" if issubclass(norms.registry.get(n), norms.NormModifier) else n for n in norms.registry.names()] + [
    "ws+gn",
    "wn+bn",
    "sn+bn+noise",
]


@pytest.fixture(autouse=True)
def _losses_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "FIRST_STEPS", 1000)


def trained(
    model: nn.Module, trial: Trial, monkeypatch: pytest.MonkeyPatch, *measured: str, captured: bool
) -> tuple[Record, StandIn | None]:
    data = some_data()
    optimizer, record = make_optimizer(model, trial.train), Record()
    made: list[StandIn] = []

    def capture() -> StandIn:
        made.append(StandIn(model, optimizer))
        return made[-1]

    monkeypatch.setattr(steps, "CAPTURES", {"cpu": capture})
    monkeypatch.setattr(Engine, "_compile", lambda *_: "")  # the graph is of the eager step
    observer = Observer(
        [measures.registry.make(name, {}) for name in measured],
        Probe(model=model, images=data.images[:8].float() / 255, labels=data.labels[:8], optimizer=optimizer),
        trial.train,
    )
    torch.manual_seed(1)
    training.train(
        model,
        trial,
        data,
        precision="float32",
        optimizer=optimizer,
        observer=observer,
        report=lambda _: None,
        record=record,
        engine="graph" if captured else "eager",
    )
    assert not observer.errors
    return record, made[0] if made else None


def agrees(trial: Trial, norm: str, monkeypatch: pytest.MonkeyPatch, *measured: str, close: float = CLOSE) -> Record:
    """Train eagerly and captured; the last and smaller batch of an epoch goes outside the graph."""
    eager, captured = Net(norm, dropout=0.2), Net(norm, dropout=0.2)
    expected, _ = trained(eager, trial, monkeypatch, *measured, captured=False)
    found, standin = trained(captured, trial, monkeypatch, *measured, captured=True)
    assert (found.engine, found.engine_reason) == ("graph", "")
    assert standin is not None
    assert standin.replays >= 5
    assert losses_of(found) == pytest.approx(losses_of(expected), rel=close)
    for (name, a), b in zip(captured.named_buffers(), eager.buffers(), strict=True):
        if not a.is_floating_point():
            assert torch.equal(a, b), name
    return found


@pytest.mark.parametrize("norm", ["sn+bn+noise", "batch-renorm", "bw-cd"])
def test_a_captured_step_is_the_eager_one(norm: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(make_trial(norm, epochs=2, lr=0.02, drop_last=False, warmup=0.2), norm, monkeypatch)


@pytest.mark.engine
@pytest.mark.parametrize("norm", ALL)
def test_every_method(norm: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = make_trial(norm, epochs=3, lr=0.02, drop_last=False, warmup=0.2, clip_grad=1.0)
    if norm in DECLARED:
        found, standin = trained(Net(norm), trial, monkeypatch, captured=True)
        assert found.engine == "eager"
        assert found.engine_reason.endswith(f"the host waits for: {DECLARED[norm]}")
        assert standin is None
    else:
        agrees(trial, norm, monkeypatch)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_an_optimizer(name: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(name, make_trial, monkeypatch)


@pytest.mark.engine
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(name, make_trial, monkeypatch)


def _with(name: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = make_trial("bn", epochs=2, lr=0.002, optimizer=name, weight_decay=1e-3, drop_last=False, warmup=0.3)
    agrees(trial, "bn", monkeypatch)


def test_measures_move_what_the_graph_reads(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps that `growth` follows run outside the graph; there are fewer of them than in an epoch."""
    trial = make_trial("bn", epochs=2, batch_size=4, lr=0.002, optimizer="adam")
    found = agrees(trial, "bn", monkeypatch, "weight-norm", "growth", "hessian")
    assert any(r.measure.startswith("growth") for r in found.curves)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_training_that_goes_on(name: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer's state is then there before the capture, in other tensors and with steps on the CPU."""
    trial = make_trial("bn", epochs=1, lr=0.002, optimizer=name)
    losses = []
    for captured in (False, True):
        model, data = Net("bn"), some_data()
        optimizer = make_optimizer(model, trial.train)
        for _ in range(2):
            Engine(model, optimizer, trial.train, precision="float32").step(data.images[:16] / 255, data.labels[:16])
        optimizer.load_state_dict(optimizer.state_dict())
        engine, _ = engine_of(model, optimizer, trial, monkeypatch, wanted="graph" if captured else "eager")
        assert engine.used == ("graph" if captured else "eager")
        losses.append([float(engine.step(data.images[:16] / 255, data.labels[:16])[1]) for _ in range(4)])
    assert losses[1] == pytest.approx(losses[0], rel=CLOSE)


def engine_of(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    *,
    wanted: Any = "graph",
) -> tuple[Engine, StandIn]:
    """An engine that has captured its step."""
    standin = StandIn(model, optimizer)
    monkeypatch.setattr(steps, "CAPTURES", {"cpu": lambda: standin})
    monkeypatch.setattr(Engine, "_compile", lambda *_: "")
    engine, data = Engine(model, optimizer, trial.train, precision="float32", wanted=wanted), some_data()
    engine.prepare(data.images[:16] / 255, data.labels[:16])
    return engine, standin


class Counter(nn.Module):
    """Replaces the tensor of its buffer in each step."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.count = self.count + 1
        return x * (1 + self.count / 10)


class TestPlantedFaults:
    """Each is found, and without the fault nothing is."""

    @pytest.fixture
    def parts(self, make_trial: MakeTrial) -> Iterator[tuple[nn.Module, torch.optim.Optimizer, Trial]]:
        trial, model = make_trial("bn", lr=0.02), nn.Sequential(Counter(), Net("bn"))
        return model, make_optimizer(model, trial.train), trial

    def test_a_buffer_that_is_replaced_and_not_returned(
        self, parts: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, *_ = parts
        engine, _ = engine_of(*parts, monkeypatch)
        assert engine.used == "graph"
        data = some_data()
        engine.step(data.images[:16] / 255, data.labels[:16])
        engine.step(data.images[:16] / 255, data.labels[:16])
        assert float(model[0].count) == 2
        monkeypatch.setattr(Graph, "_return_buffers", lambda _: None)
        engine, _ = engine_of(*parts, monkeypatch)
        assert engine.used == "eager"
        assert engine.reason == "graph: MovedError: the step leaves elsewhere what the next one reads: 0.count"

    @pytest.mark.parametrize("said", [True, False])
    def test_a_state_that_is_moved(self, said: bool, parts: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        model, optimizer, _ = parts
        engine, _ = engine_of(*parts, monkeypatch)
        values = optimizer.state[model[1].stem[0].weight]
        values["momentum_buffer"] = values["momentum_buffer"].clone()
        data = some_data()
        if said:
            engine._graph.left()  # type: ignore[union-attr]
            engine.step(data.images[:16] / 255, data.labels[:16])
        else:
            with pytest.raises(MovedError, match=r"_fused_sgd_.*momentum_buffer of 1.stem.0.weight"):
                engine.step(data.images[:16] / 255, data.labels[:16])

    def test_a_rate_that_is_a_float(self, parts: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        _, optimizer, _ = parts
        data = some_data()
        engine, _ = engine_of(*parts, monkeypatch)
        engine.rate(0.5)
        engine.step(data.images[:16] / 255, data.labels[:16])
        optimizer.param_groups[-1]["lr"] = 0.5
        with pytest.raises(MovedError, match="_fused_sgd_"):
            engine.step(data.images[:16] / 255, data.labels[:16])

        def settle(graph: Graph) -> None:
            for group in optimizer.param_groups:
                group["fused"] = True

        monkeypatch.setattr(Graph, "_settle", settle)
        engine, _ = engine_of(*parts, monkeypatch)
        engine.rate(0.25)
        with pytest.raises(MovedError, match=r"'lr', '0\.5'.*the step runs .*'lr', '0\.25'"):
            engine.step(data.images[:16] / 255, data.labels[:16])

    def test_a_question_to_the_host(self, parts: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        model, *_ = parts
        model[0].register_forward_hook(lambda module, args, out: out * float(out.mean() > -math.inf))
        engine, standin = engine_of(*parts, monkeypatch)
        assert engine.reason == "graph: no graph can hold what the host waits for: _local_scalar_dense"
        with pytest.raises(WaitedError, match="_local_scalar_dense"):
            standin.record(lambda: model(some_data().images[:2] / 255))


def test_a_failed_capture_that_breaks_the_process_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other engine takes over where the GPU's random stream raises from now on."""

    def draw(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")

    monkeypatch.setattr(torch, "rand", draw)
    with pytest.raises(BrokenProcessError, match=r"install torch 2\.15 or newer, or run with engine: compile"):
        cuda_graph._still_draws(ValueError("no"))
    assert not issubclass(BrokenProcessError, Exception)


@pytest.mark.parametrize("laid", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("wanted", ["eager", "graph"])
def test_images_lie_in_memory_as_the_weights_do(
    laid: torch.memory_format, wanted: Any, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    model(torch.zeros(1, 3, 8, 8))
    model.to(memory_format=laid)
    trial, seen = make_trial("bn", lr=0.02), list[bool]()
    model[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous(memory_format=laid)))
    optimizer = make_optimizer(model, trial.train)
    monkeypatch.setattr(steps, "CAPTURES", {"cpu": lambda: StandIn(model, optimizer)})
    monkeypatch.setattr(Engine, "_compile", lambda *_: "")
    engine = Engine(model, optimizer, trial.train, precision="float32", wanted=wanted)
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        engine.prepare(given, torch.zeros(4, dtype=torch.int64))
        engine.step(given, torch.zeros(4, dtype=torch.int64))
    assert (engine.used, engine.reason) == (wanted, "")
    assert set(seen) == {True}


def test_kernels_are_tried_where_no_bits_are_promised() -> None:
    assert torch.backends.cudnn.benchmark is False
    for device, tried in (("cuda:0", True), ("cpu", False)):
        with kernels_tried(torch.device(device)):
            assert torch.backends.cudnn.benchmark is tried
        assert torch.backends.cudnn.benchmark is False
