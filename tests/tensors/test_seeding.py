"""Random streams: what is measured of a network leaves no trace in those that training draws from."""

from __future__ import annotations

import ast
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import normbench
import pytest
import torch
from normbench import attacks, measures
from normbench.lab.network.build import build
from normbench.lab.trial_run import Context, run
from normbench.spec.outcome import Status
from normbench.tensors.seeding import seed_gpu, seeded, streams_kept

from tests.conftest import MakeTrial


@pytest.fixture
def gpu_seeds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the streams of GPUs: (device, seed), or the seed of all of them."""
    asked: list[Any] = []
    here: list[torch.device] = []

    @contextmanager
    def device(wanted: torch.device) -> Any:
        here.append(wanted)
        yield
        here.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: asked.append((here[-1], seed)))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: asked.append(seed))
    return asked


def test_a_seeded_stream_goes_on_as_if_nothing_had_been(gpu_seeds: list[Any]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    gpu_seeds.clear()
    with seeded(5):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with seeded(5):
        assert torch.equal(torch.rand(4), inside)
    assert gpu_seeds == []


@pytest.mark.parametrize("seed", [0, 7])
def test_auditing_a_network_leaves_gpus_at_the_seed_of_the_trial(
    seed: int, gpu_seeds: list[Any], make_trial: MakeTrial
) -> None:
    build(make_trial("bn+noise", seed=seed), channels=1, image_size=8, classes=3, mean=[0.5], std=[0.25])
    assert gpu_seeds == [seed]
    seed_gpu(seed, torch.device("cpu"))
    seed_gpu(seed, torch.device("cuda:1"))
    assert gpu_seeds == [seed, (torch.device("cuda:1"), seed)]


@pytest.mark.parametrize("used", [True, False])
def test_streams_that_are_kept(used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All those of a process that uses GPUs, none of which is asked in another."""
    gpus = tuple(torch.Generator().manual_seed(k) for k in range(2))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
    monkeypatch.setattr(torch.cuda, "default_generators", gpus)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: [g.manual_seed(seed) for g in gpus])
    before = [torch.get_rng_state(), *(g.get_state() for g in gpus)]
    with pytest.raises(ValueError, match="inside"), streams_kept():  # noqa: PT012
        torch.manual_seed(9)
        raise ValueError("inside")
    after = [torch.get_rng_state(), *(g.get_state() for g in gpus)]
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [True, used, used]


def test_nothing_forks_or_reads_the_streams_of_all_gpus() -> None:
    """`fork_rng` without `devices` opens a context on each of them; so do those whose names end with `_all`."""
    forks = 0
    for path in sorted(Path(normbench.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"rng_state_all|seed_all", text), path
        for node in ast.walk(ast.parse(text)) if "fork_rng" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("fork_rng"):
                forks += 1
                assert "devices" in {k.arg for k in node.keywords}, f"{path}:{node.lineno}"
    assert forks


def test_a_trial_on_a_cpu_asks_no_gpu(make_trial: MakeTrial, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that forks random streams: attacks by foolbox, curvature, measures that move the network."""
    forks: list[Any] = []
    fork = torch.random.fork_rng

    def recorded(devices: Any = None, **given: Any) -> Any:
        forks.append(devices)
        return fork(devices, **given)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a GPU was asked")

    monkeypatch.setattr(torch.random, "fork_rng", recorded)
    for name in ("get_rng_state", "set_rng_state", "synchronize", "current_stream", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, refused)
    trial = make_trial("bn+noise", data={"test_examples": 6}).model_copy(
        update={
            "attacks": tuple(
                attacks.registry.make(name, params).component()
                for name, params in {
                    "cw-l2": {"searches": 1, "steps": 1},
                    "hopskipjump": {"steps": 1, "first_queries": 1, "most_queries": 1},
                    "pgd": {"eps": [8 / 255], "steps": 1},
                }.items()
            ),
            "measures": tuple(measures.registry.make(name, {}).component() for name in ("smoothness",)),
        }
    )
    outcome = run(trial, Context(data_dir=str(data_dir), fingerprint="forks"), lambda _: None)
    assert (outcome.status, outcome.reason) == (Status.OK, "")
    assert outcome.provenance["measure_errors"] == {}
    assert forks
    assert all(list(devices) == [] for devices in forks)
