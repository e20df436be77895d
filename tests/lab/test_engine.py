"""Every engine computes the step of a plain loop.

`plain` is that loop, as anyone writes it. `eager` must give its bits. Compiled code rounds otherwise, and training
amplifies rounding, by how much depends on the method: so a loss, of size L, may differ by `TOLERANCE` L, or by `MARGIN`
times what it differs by where the starting weights are moved by `SHAKE` (about ten roundings of float32), whichever is
more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import pytest
import torch
from normbench import norms
from normbench.lab import data as datasets
from normbench.lab.engine import steps as engines
from normbench.lab.engine.steps import Engine, chosen
from normbench.lab.train import Record, Tensors
from normbench.lab.trial_run import Context, run
from normbench.runner import spawn
from normbench.runner.worker import Job, supervise
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
from torch import nn

from tests.conftest import MakeTrial, stripes
from tests.lab.engines import CHAOTIC, STEPS, Net, _settled, losses_of, ours, plain, small, some_data  # noqa: F401
from tests.lab.test_checkpoint import Lab, numbers

TOLERANCE, MARGIN, SHAKE = 1e-4, 10.0, 1e-6
#: Beyond this share of the loss the tolerance would say nothing.
CHAOS = 0.1
#: Not compiled, with a word of the compiler's reason: a hook of the gradient moves state.
EAGER = {"powernorm": "register_hook"}
#: Compiled in every run of the tests: a method of weights, one of activations and a modifier at once. Each method alone
#: takes minutes (`tox -e engine`).
ALWAYS = "sn+bn+noise"
COMBINED = (ALWAYS, "ws+gn", "wn+bn", "bn+noise")


def agree(make: Callable[[], nn.Module], trial: Trial, data: Tensors, *, chaotic: bool = False) -> Record:
    """Compiled steps against the plain loop, from the same weights and random numbers."""
    model, reference, shaken = make(), make(), make()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(9)
        for parameter in shaken.parameters():
            parameter.mul_(1 + SHAKE * torch.randn(parameter.shape, generator=generator))
    torch.manual_seed(1)
    expected = plain(reference, trial, data)
    torch.manual_seed(1)
    moved = plain(shaken, trial, data)
    torch.manual_seed(1)
    record = ours(model, trial, data, "compile")
    assert (record.engine, record.engine_reason) == ("compile", "")
    found = losses_of(record)
    assert len(found) == len(expected)
    wander = 0.0
    for step, (f, e, m) in enumerate(zip(found, expected, moved, strict=True), 1):
        wander = max(wander, abs(e - m) / e)
        if chaotic and wander > TOLERANCE:
            assert step > 1
            return record
        assert wander * MARGIN < CHAOS, f"step {step}: rounding decides"
        assert f == pytest.approx(e, rel=max(TOLERANCE, MARGIN * wander)), f"step {step}"
    assert list(model.state_dict()) == list(reference.state_dict())
    for (name, b), other, apart in zip(model.named_buffers(), reference.buffers(), shaken.buffers(), strict=True):
        if b.is_floating_point():
            assert float((b - other).abs().max()) <= max(
                TOLERANCE * float(other.abs().max()), MARGIN * float((apart - other).abs().max())
            ), name
        else:
            assert torch.equal(b, other), name  # batches tracked: each step once
    return record


def _every_norm() -> list[Any]:
    alone = [
        n
        for n in norms.registry.names()
        if not issubclass(norms.registry.get(n), norms.NormModifier) and n not in EAGER
    ]
    return [pytest.param(n, marks=pytest.mark.engine) for n in dict.fromkeys([*alone, *COMBINED])]


@pytest.mark.parametrize("norm", _every_norm())
def test_compiled_steps_are_those_of_the_plain_loop(norm: str, make_trial: MakeTrial) -> None:
    trial = make_trial(norm, epochs=9, lr=0.02, drop_last=False, weight_decay=5e-4, data={"augment": ("flip", "crop")})
    record = agree(lambda: Net(norm), trial, some_data(), chaotic=norm in CHAOTIC)
    losses = losses_of(record)
    assert len(losses) == STEPS
    assert sum(losses[-6:]) < sum(losses[:6])  # it is training that is compared


@pytest.mark.engine
@pytest.mark.parametrize("norm", EAGER)
def test_methods_that_do_not_compile_run_as_the_plain_loop(norm: str, make_trial: MakeTrial) -> None:
    trial = make_trial(norm, epochs=9, lr=0.02)
    record = ours(Net(norm), trial, some_data(), "compile")
    assert record.engine == "eager"
    assert EAGER[norm] in record.engine_reason
    assert losses_of(record) == plain(Net(norm), trial, some_data())


@pytest.mark.engine
def test_wrong_gradients_are_noticed(make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our pass, torch 2.15 compiles batch renormalization wrongly; where this fails with a later torch,
    `KeepReads` is no longer needed.
    """
    from normbench.lab.engine.compiling import KeepReads

    monkeypatch.setattr(KeepReads, "__call__", lambda self, graph: None)
    monkeypatch.setattr(KeepReads, "uuid", lambda self: None)  # nothing of this is kept
    trial = make_trial("batch-renorm", epochs=9, lr=0.02)
    record = ours(Net("batch-renorm"), trial, some_data(), "compile")
    assert record.engine == "eager"
    assert "its gradients are off by" in record.engine_reason
    assert losses_of(record) == plain(Net("batch-renorm"), trial, some_data())


@pytest.mark.engine
def test_a_residual_network_with_everything_that_draws_and_clips(make_trial: MakeTrial) -> None:
    """timm's resnet18, narrow: drop-out, drop-path, label smoothing, and a clip that bites."""
    from normbench.lab.network.build import build

    trial = make_trial(
        "bn",
        epochs=2,
        lr=0.02,
        drop_last=False,
        label_smoothing=0.1,
        clip_grad=0.5,
        model={"kwargs": {"layers": [1, 1, 1, 1], "drop_rate": 0.3, "drop_path_rate": 0.2}},
    )
    images, labels = stripes(90, 0, side=16)
    data = Tensors(torch.from_numpy(images)[:, None], torch.from_numpy(labels))
    record = agree(lambda: build(trial, channels=1, image_size=16, classes=3, mean=[0.4], std=[0.3])[0], trial, data)
    unclipped = trial.model_copy(update={"train": trial.train.model_copy(update={"clip_grad": None})})
    torch.manual_seed(1)
    free = plain(build(trial, channels=1, image_size=16, classes=3, mean=[0.4], std=[0.3])[0], unclipped, data)
    assert losses_of(record)[1] != pytest.approx(free[1], rel=1e-3)


@pytest.mark.parametrize("norm", ["bn", "gn", "ws+gn", "sn", "bn+noise", "sphere", "fixup"])
def test_eager_is_the_plain_loop_to_the_last_bit(norm: str, make_trial: MakeTrial) -> None:
    trial = make_trial(
        norm, epochs=9, lr=0.05, drop_last=False, label_smoothing=0.1, clip_grad=1.0, data={"augment": ("flip", "crop")}
    )
    model, reference = Net(norm, dropout=0.2), Net(norm, dropout=0.2)
    torch.manual_seed(1)
    expected = plain(reference, trial, some_data())
    torch.manual_seed(1)
    record = ours(model, trial, some_data(), "eager")
    assert losses_of(record) == expected
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), reference.state_dict().values(), strict=True)
    )
    assert (record.engine, record.engine_reason, record.compile_seconds) == ("eager", "", 0.0)


@pytest.mark.engine
def test_measures_see_the_gradients_between_compiled_backward_and_update(make_trial: MakeTrial) -> None:
    trial = make_trial(ALWAYS, epochs=1, lr=0.02)
    curves = []
    for engine in ("eager", "compile"):
        torch.manual_seed(1)
        record = ours(Net(ALWAYS), trial, some_data(), engine, "growth")  # type: ignore[arg-type]
        assert record.engine == engine
        curves.append({(r.step, r.measure, r.layer): r.value for r in record.curves if r.measure.startswith("growth")})
    assert curves[0]
    assert curves[1] == pytest.approx(curves[0], rel=1e-2, abs=1e-4)


@pytest.mark.engine
def test_preparing_changes_nothing() -> None:
    """Running statistics, the vectors of a power iteration (which a step replaces), random streams, modes,
    gradients.
    """
    net = Net(ALWAYS)
    net.eval()
    before, places = {k: v.clone() for k, v in net.state_dict().items()}, [id(b) for b in net.buffers()]
    random = torch.get_rng_state()
    made = Engine(net, torch.optim.SGD(net.parameters(), lr=0.1), _spec(), precision="float32", wanted="compile")
    made.prepare(torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3)
    assert made.used == "compile"
    assert made.compile_seconds > 0
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [id(b) for b in net.buffers()] == places
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m.training for m in net.modules())
    assert all(p.grad is None for p in net.parameters())


def _spec() -> Any:
    from normbench.spec.trial import TrainSpec

    return TrainSpec()


class Uncompilable(nn.Module):
    """What flows through it decides which Python runs; batch normalization before that must not move twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x)
        return y if float(x.detach().mean()) > 0 else y + 0


class Counting(nn.Module):
    """Counts its calls in Python: compiled code would be compiled again at every one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        y: torch.Tensor = self.norm(x)
        return y


@pytest.mark.parametrize(
    ("layer", "reason"),
    [(Uncompilable, "data-dependent"), pytest.param(Counting, "compiled again", marks=pytest.mark.engine)],
)
def test_what_cannot_be_compiled_is_computed_eagerly_and_says_why(
    layer: type[nn.Module], reason: str, make_trial: MakeTrial
) -> None:
    def make() -> nn.Module:
        model = small("bn")
        model.stem[1] = layer()
        return model

    trial = make_trial("bn", epochs=2, lr=0.02)
    model, reference = make(), make()
    expected, record = plain(reference, trial, some_data()), ours(model, trial, some_data(), "compile")
    assert record.engine == "eager"
    assert record.engine_reason.startswith("compile: ")
    assert reason in record.engine_reason
    assert "\n" not in record.engine_reason
    assert len(record.engine_reason) <= engines.REASON_LENGTH
    assert losses_of(record) == pytest.approx(expected, rel=1e-4)
    assert int(model.stem[1].norm.num_batches_tracked) == len(expected) == 10  # type: ignore[union-attr, arg-type]


def test_without_a_compiler_training_is_eager(
    make_trial: MakeTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    trial = make_trial("frn", epochs=1, lr=0.02)
    with inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        record = ours(Net("frn"), trial, some_data(), "compile")
    assert record.engine == "eager"
    assert "compiler" in record.engine_reason.lower()
    assert losses_of(record) == plain(Net("frn"), trial, some_data())


def test_names_of_engines() -> None:
    assert [chosen("auto", device) for device in ("cpu", "cuda", "cuda:1")] == ["eager", "graph", "graph"]
    assert [chosen(name, "cpu") for name in ("graph", "compile", "eager")] == ["graph", "compile", "eager"]
    with pytest.raises(ValueError, match="found 'fast'"):
        chosen("fast", "cpu")


@pytest.mark.engine
def test_on_a_cpu_a_graph_falls_to_compiled_code(make_trial: MakeTrial) -> None:
    record = ours(Net(ALWAYS), make_trial(ALWAYS, epochs=1), some_data(), "graph")
    assert (record.engine, record.engine_reason) == ("compile", "graph: a CUDA graph needs a GPU")


@pytest.mark.engine
def test_bfloat16_compiles(make_trial: MakeTrial) -> None:
    """Agreement to the precision of bfloat16, 2^-8, times a few layers."""
    trial = make_trial("gn", epochs=2, lr=0.02)
    eager, compiled = (ours(Net("gn"), trial, some_data(), e, precision="bf16") for e in ("eager", "compile"))  # type: ignore[arg-type]
    assert compiled.engine == "compile"
    assert losses_of(compiled) == pytest.approx(losses_of(eager), rel=2e-2)


@pytest.mark.engine
@pytest.mark.parametrize("norm", ["bn", "sn"])
def test_a_compiled_trial_that_is_interrupted_ends_with_the_same_bits(
    norm: str, make_trial: MakeTrial, data_dir: Path, tmp_path: Path
) -> None:
    lab = Lab(data_dir, tmp_path / "kept", make_trial(norm, epochs=3, lr=0.02).model_copy(update={"attacks": ()}))
    for settings in (lab.settings, lab.kept):
        settings["engine"] = "compile"
    lab.killed_in(3)
    resumed, whole = lab.go_on(), lab.whole()
    assert resumed.provenance["resumed_at"] == [2]
    assert resumed.provenance["engine"] == "compile"
    for outcome in (resumed, whole):
        outcome.provenance.pop("compile_seconds")
    assert numbers(resumed) == numbers(whole)
    eager = lab.go_on(engine="eager")
    assert "another engine" in eager.provenance["checkpoint"]


def _context(data_dir: Path, trial: Trial, **more: object) -> dict[str, Any]:
    source = datasets.locate(trial.data, data_dir, download=False)
    assert source is not None
    return {
        "data_dir": str(data_dir),
        "fingerprint": datasets.fingerprint(source),
        "provenance": {"commit": "abc"},
        **more,
    }


def test_a_trial_on_a_cpu_is_eager_by_itself(make_trial: MakeTrial, data_dir: Path) -> None:
    trial = make_trial("gn").model_copy(update={"attacks": ()})
    outcome = run(trial, Context(**_context(data_dir, trial)), lambda _: None)
    assert [outcome.provenance[k] for k in ("engine", "engine_reason", "compile_seconds")] == ["eager", "", 0.0]


def _by_itself(job: Job, log: BinaryIO) -> Outcome:
    """What `supervise` starts, which is left to end by itself."""
    told: list[tuple[str, str]] = []
    with spawn.start("normbench.runner.worker:run_here", asdict(job), log) as process:
        while not process.ended:
            told += process.receive(1.0)
    assert process.exit_code == 0
    return Outcome.model_validate_json(told[-1][1])


@pytest.mark.engine
def test_compiled_trials_in_processes_of_their_own_share_their_code(
    make_trial: MakeTrial, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run makes them. What the first compiled lies on disk: the second, of another seed and rate, compiles
    nothing, and ends without help.
    """
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    code = Path(os.environ["BENCH_CACHE"]) / "inductor"
    first, second = (
        make_trial("frn", seed=seed, lr=lr, epochs=2).model_copy(update={"attacks": ()})
        for seed, lr in ((0, 0.02), (1, 0.01))
    )
    jobs = [
        Job(trial.model_dump_json(), _context(data_dir, trial, engine="compile"), 240.0) for trial in (first, second)
    ]
    before = set(code.rglob("*.so"))
    here = set(psutil.Process().children(recursive=True))  # of other tests
    found = [supervise(jobs[0], lambda _: None)]
    compiled = set(code.rglob("*.so"))
    assert compiled > before
    with (tmp_path / "log").open("wb") as log:
        found.append(_by_itself(jobs[1], log))
    assert set(code.rglob("*.so")) == compiled
    for outcome in found:
        assert outcome.status is Status.OK, outcome.log
        assert (outcome.provenance["engine"], outcome.provenance["engine_reason"]) == ("compile", "")
        assert 0 < outcome.provenance["compile_seconds"] < outcome.wall_seconds - outcome.train_seconds
    left = [p for p in set(psutil.Process().children(recursive=True)) - here if p.name() != "bench-server"]
    assert not psutil.wait_procs(left, timeout=60)[1], "a guard ends after it has told how its trial ended"
