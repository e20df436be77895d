"""Code is compiled once a shape: of several processes that need the same, one compiles, and the others wait for it."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from normbench.lab.engine.steps import Engine
from normbench.lab.train import make_optimizer
from normbench.spec.trial import TrainSpec

from tests.lab.engines import Net, small


def _prepared(code: Path, seed: int) -> dict[str, Any]:
    """In a process of its own: compile for a network of a seed. Returns how many graphs were compiled, and how many
    were found on disk.
    """
    from torch._dynamo.utils import counters

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(code)
    model, spec = small("bn"), TrainSpec(lr=0.1 * seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(seed)
    engine = Engine(model, make_optimizer(model, spec), spec, precision="float32", wanted="compile")
    engine.prepare(torch.rand(16, 1, 8, 8), torch.zeros(16, dtype=torch.int64))
    return {
        "used": (engine.used, engine.reason),
        "compiled": counters["inductor"]["fxgraph_cache_miss"],
        # Where all of a compilation lies on disk, its graphs are not looked up one by one.
        "found": counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"],
        "left": [p.name() for p in psutil.Process().children(recursive=True)],
    }


@pytest.mark.engine
def test_two_that_start_together_compile_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(abs, range(2)))
        ended = list(pool.map(_prepared, [tmp_path] * 2, [1, 2]))
    assert [(e["used"], e["left"]) for e in ended] == [(("compile", ""), [])] * 2
    first, second = sorted(ended, key=lambda e: -int(e["compiled"]))
    assert first["compiled"] == 2, "the forward and the backward pass"
    assert second["compiled"] == 0
    assert second["found"] > 0


def test_what_differs_in_its_values_alone_is_alike() -> None:
    from normbench.lab.engine.compiling import alike

    def name(norm: str = "bn", images: tuple[int, ...] = (16, 1, 8, 8), what: str = "step") -> str:
        return alike(Net(norm), torch.zeros(images), what)

    model = Net("bn")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.add_(1)
    assert alike(model, torch.ones(16, 1, 8, 8), "step") == name()
    others = [name("gn"), name("in"), name(images=(8, 1, 8, 8)), name(what="gradients")]
    assert len({name(), *others}) == 5


def test_where_there_are_no_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from normbench.lab.engine.compiling import compiler

    (tmp_path / "normbench-locks").write_text("no folder")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with compiler("a", "cpu"), compiler("a", "cpu"):
        entered = True  # with a lock the second would wait for the first, which is here
    assert entered
    assert (tmp_path / "normbench-locks").read_text() == "no folder"
