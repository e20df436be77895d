"""torch.compile as this package uses it. Only what wants something compiled imports this in earnest: the compiler takes
seconds to load.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from normbench.paths import cache_dir

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def compiler(*, beside: bool = False) -> Iterator[Callable[[F], F]]:
    """What compiles a function, for one shape. It happens when the function is called first, which must be inside; the
    compiler may raise anything then.

    beside: what was compiled before is kept. Else it is forgotten, since code of earlier models counts towards a limit
    of this one.
    """
    import torch._dynamo
    import torch._inductor.config

    from normbench.lab.engine.saved_reads import KeepReads

    _keep_code()
    if not beside:
        torch._dynamo.reset()
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "fallback_random": True,
        "joint_custom_post_pass": KeepReads(),
    }
    # Whole or not at all, so that a failure comes before anything has run. Random numbers are drawn as the eager step
    # draws them. No pool of compiling processes: a trial's process is one of many, and has to end by itself.
    with torch._inductor.config.patch(compile_threads=1):

        def compiled(function: F) -> F:
            made: Any = torch.compile(function, dynamic=False, fullgraph=True, options=options)
            return cast("F", made)

        yield compiled


@contextmanager
def once() -> Iterator[None]:
    """A call inside must not compile again: that would be paid for unseen, inside the time of other work. Raises
    `torch._dynamo.exc.RecompileError`.
    """
    from torch._dynamo import config

    with config.patch(error_on_recompile=True):
        yield


def _keep_code() -> None:
    """Compiled code is kept between runs in our cache: the second trial of a shape finds it there. A user's own
    `TORCHINDUCTOR_CACHE_DIR` stands.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (
        None,
        default_cache_dir(),
    ):  # torch sets the variable itself, while it is imported
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_dir() / "inductor")
