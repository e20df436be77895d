"""torch.compile as this package uses it, and the private parts of the compiler that it needs. Import this only where
something is compiled: the compiler takes seconds to load.

Three parts are private, since nothing public does the same: the folder where compiled code is kept by default (a folder
that a user has chosen must stay), the end of the compiler's own processes, and a pass over inductor's graphs,
`KeepReads`. `tests/lab/test_engine.py` and `test_compiling.py` fail where one of these changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from filelock import FileLock
from torch import fx, nn
from torch._inductor.async_compile import shutdown_compile_workers
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.runtime.cache_dir_utils import default_cache_dir
from torch.utils.checkpoint import CheckpointPolicy

from normbench.paths import cache_dir
from normbench.spec.trial import digest

F = TypeVar("F", bound=Callable[..., Any])
#: Most processes that compile the kernels of one trial on a GPU, where there are dozens of them.
WORKERS = 8


class CompileAgainError(RuntimeError):
    """The compiled code does not fit the call: torch would compile again."""


@contextmanager
def compiler(likeness: str, device: str, *, beside: bool = False) -> Iterator[Callable[[F], F]]:
    """Yield a function that compiles a function, for one shape. The first call compiles, and must happen inside; the
    compiler may then raise anything.

    likeness: a name for what is compiled, see `alike`. Of the processes on this machine that compile what has the same
    name, one does; the others wait, and find its code on disk. device: `cpu` or `cuda`, for which it compiles. beside:
    keep what was compiled before. Else it is forgotten: code of earlier models counts towards torch's limit for this
    one.
    """
    _keep_code()
    if not beside:
        torch.compiler.reset()
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        # Random numbers are drawn as the eager step draws them.
        "fallback_random": True,
        "joint_custom_post_pass": KeepReads(),
        # On a GPU others may wait for this code, so that their cores are free. On a CPU there are few files to compile.
        "compile_threads": min(WORKERS, os.cpu_count() or 1) if device == "cuda" else 1,
    }

    def compiled(function: F) -> F:
        # The whole function or nothing, so that a failure comes before anything has run.
        made: Any = torch.compile(function, dynamic=False, fullgraph=True, options=options)
        return cast("F", made)

    with _alone(likeness):
        try:
            yield compiled
        finally:
            shutdown_compile_workers()  # a trial leaves no process behind


def alike(model: nn.Module, images: torch.Tensor, *others: str) -> str:
    """A name that models have in common whose code is the same for batches like `images`: they differ in their values
    alone. Where it is the same for others too, these wait for each other, which costs time and nothing else.
    """
    tensors = chain(model.named_parameters(), model.named_buffers(), [("", images)])
    told = [(name, list(t.shape), str(t.dtype), t.device.type) for name, t in tensors]
    return digest([[type(m).__qualname__ for m in model.modules()], told, others])


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Inside, no other process of this machine is where the same name was given. The system ends the wait for a process
    that has died. Where there are no locks, nobody waits.
    """
    with ExitStack() as held:
        with suppress(OSError, NotImplementedError):
            folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], "normbench-locks")
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / f"{name}.lock"))
        yield


@contextmanager
def once() -> Iterator[None]:
    """Inside, raise `CompileAgainError` where a call would compile again: its cost would hide in the time of other
    work.
    """
    try:
        with torch.compiler.set_stance("fail_on_recompile"):
            yield
    except RuntimeError as error:  # torch has no class for it
        if "stance is 'fail_on_recompile'" not in str(error):
            raise
        raise CompileAgainError(str(error).partition("guard failure(s):")[2] or str(error)) from error


def _keep_code() -> None:
    """Keep compiled code in our cache between runs: the second trial of a shape finds it there. A user's own
    `TORCHINDUCTOR_CACHE_DIR` stays; torch sets the variable to its default while it is imported.
    """
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_dir() / "inductor")


class KeepReads(CustomGraphPass):
    """Keeps gradients right where a layer changes its buffers.

    The compiler may compute again, in the backward pass, what the forward pass had computed. torch 2.15 does so also
    with what was read from a buffer that the forward pass changes afterwards, and reads the changed buffer
    (pytorch/pytorch#197039): the r of batch renormalization then comes from statistics that are one batch too new. So
    this pass marks what is read from a changed buffer as to be kept; that is a few numbers a channel.
    """

    def __call__(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            if (
                node.op == "call_function"
                and str(node.target) == "aten.copy_.default"
                and node.args[0].op == "placeholder"
            ):
                for read in _reads(node.args[0], node):
                    read.meta["recompute"] = CheckpointPolicy.MUST_SAVE

    def uuid(self) -> Any:
        return get_hash_for_files((__file__,))


def _reads(source: fx.Node, change: fx.Node) -> Iterator[fx.Node]:
    """What is computed from `source` or a view of it."""
    for user in source.users:
        if user is change:
            continue
        if getattr(user.target, "is_view", False):
            yield from _reads(user, change)
        else:
            yield user
