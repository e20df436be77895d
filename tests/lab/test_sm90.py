"""The kernels of a training step compile for a GPU of compute capability 9.0 (H100, H200), here, without one.

torch's compiler writes kernels in Triton for a CPU too, if it is told to; they are those of a GPU but for the sizes of
their blocks, which it is then given for one. Triton compiles for any target. Convolutions and matrix products are calls
of libraries, and are not looked at.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from normbench.lab.engine.steps import Engine
from normbench.lab.train import make_optimizer
from normbench.spec.trial import TrainSpec

from tests.lab.engines import Net

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.engine

H100 = (
    "DeviceProperties(type='cuda', index=0, multi_processor_count=132, cc=90, major=9, regs_per_multiprocessor=65536, "
    "max_threads_per_multi_processor=2048, max_threads_per_block=1024, warp_size=32)"
)


class _Driver:
    """What torch's compiler asks of Triton's driver while it writes kernels."""

    def get_current_target(self) -> Any:
        return triton.backends.compiler.GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def kernels(norm: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The sources of a step's kernels, forwards and backwards, by name."""
    import torch._inductor.config as inductor
    from torch._inductor.async_compile import AsyncCompile

    found: dict[str, str] = {}

    class Nothing:
        def run(self, *_: Any, **__: Any) -> None: ...

    def kept(_: Any, name: str, source: str, **__: Any) -> Nothing:
        found[f"{name}_{len(found)}"] = source
        return Nothing()

    monkeypatch.setattr(triton.runtime.driver, "_active", _Driver())
    monkeypatch.setattr(AsyncCompile, "triton", kept)
    model, spec = Net(norm), TrainSpec(lr=0.02)
    engine = Engine(model, make_optimizer(model, spec), spec, precision="float32", wanted="compile")
    with inductor.patch({"cpu_backend": "triton", "force_disable_caches": True}):
        engine.prepare(torch.rand(16, 1, 8, 8), torch.zeros(16, dtype=torch.int64))
    assert "off by" in engine.reason, "kernels that do nothing give other gradients"
    return found


def machine_code(name: str, source: str, folder: Path) -> Any:
    """Compile a kernel, with the first of the block sizes that torch would try."""
    path = folder / f"{name}.py"
    source = source.replace("triton_helpers.set_driver_to_cpu()", "")
    path.write_text(re.sub(r"DeviceProperties\(type='cpu'[^)]*\)", H100, source), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tuner = getattr(module, name.rpartition("_")[0])
    meta, config = tuner.triton_meta, tuner.configs[0]
    names = list(meta["signature"])
    given = {**meta["constants"], **config.kwargs}
    constants = {(names.index(k),) if isinstance(k, str) else k: v for k, v in given.items()}
    return triton.compile(
        triton.compiler.ASTSource(tuner.fn, meta["signature"], constants, meta["configs"][0]),
        target=_Driver().get_current_target(),
        options={"num_warps": config.num_warps, "num_stages": config.num_stages},
    )


@pytest.mark.parametrize("norm", ["sn+bn", "ws+gn", "batch-renorm"])
def test_kernels_compile_for_sm_90(norm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    found = kernels(norm, monkeypatch)
    assert len(found) > 10
    for name, source in found.items():
        code = machine_code(name, source, tmp_path)
        assert ".target sm_90" in code.asm["ptx"]
        assert code.asm["cubin"].startswith(b"\x7fELF"), name
