"""Does Ray still answer? If its raylet or its head is lost, Ray ends this process after a minute without a message, so
a run has to notice first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

from normbench.errors import BenchError

#: Seconds between two looks, seconds to wait for an answer, and the number of looks without an answer after which an
#: address counts as lost: a network may lose a few. An address that refuses counts at once.
_LOOK, _ANSWER, _SILENT = 0.5, 5.0, 6
#: Seconds that the main thread has to return from a call to a lost part. Ray's own limit is a minute.
_STUCK = 5.0


class RayLostError(BenchError):
    """A part of Ray that the run cannot do without is gone."""

    exit_code, at_once = 3, True

    def __init__(self, part: str) -> None:
        super().__init__(f"Ray's {part} was lost; what had finished is stored, and the same command goes on from here")


@contextlib.contextmanager
def watched(parts: Mapping[str, tuple[str, int]], clear_up: Callable[[], None]) -> Iterator[None]:
    """Raise `RayLostError` in the main thread when one of these addresses no longer answers; it interrupts whatever
    SIGINT interrupts. If that thread is stuck in a call to Ray, another thread ends this process in the same way.

    parts: names of parts, with host and port. clear_up: called before another thread ends the process.
    """
    over, lost, main = threading.Event(), list[str](), threading.main_thread().ident
    assert main is not None  # noqa: S101 (it runs)

    def look() -> None:
        silent = dict.fromkeys(parts, 0)
        while not over.wait(_LOOK) and not lost:
            for part, address in parts.items():
                silent[part] = 0 if (found := _answers(address)) else silent[part] + 1
                if found is False or silent[part] == _SILENT:
                    lost.append(part)
                    break
        if not lost or over.is_set():
            return
        signal.pthread_kill(main, signal.SIGINT)
        if not over.wait(_STUCK):
            sys.stderr.write(f"bench: {RayLostError(lost[0])}\n")
            sys.stderr.flush()
            clear_up()
            os._exit(RayLostError.exit_code)

    threading.Thread(target=look, name="watch-ray", daemon=True).start()
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, Exception):  # Ray may have noticed sooner
            lost += [part for part, address in parts.items() if _answers(address) is False]
        if lost:
            raise RayLostError(lost[0]) from None
        raise
    finally:
        over.set()


def _answers(address: tuple[str, int]) -> bool | None:
    """True: somebody answers. False: nobody is there. None: no answer in time."""
    try:
        socket.create_connection(address, timeout=_ANSWER).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return None
    return True
