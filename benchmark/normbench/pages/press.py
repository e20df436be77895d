"""PNG files, drawn in a process of their own: they take most of the time of a build, and no page waits for them.

This file is also what that process runs, so it imports nothing but the standard library at the top.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

#: Pixels in a PNG for each in the chart. Encoding takes a microsecond a pixel.
SCALE = 1.5


class PressError(RuntimeError):
    """The process that draws PNG files failed; the message is its last line."""


class Press:
    """Draws SVG files to PNG beside them. As a context manager it waits for the last one; an exception inside stops it
    at once.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def draw(self, svg: Path) -> None:
        """Draw `x.svg`, which is written, to `x.png`."""
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(f"{svg}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed(self._process) from None

    def __enter__(self) -> Press:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if kind is not None:
            self._process.kill()
        if self._process.stderr is not None and self._process.stderr.closed:
            return  # it failed before
        error = self._failed(self._process)
        if kind is None and self._process.returncode:
            raise error

    @staticmethod
    def _failed(process: subprocess.Popen[bytes]) -> PressError:
        """Wait for the end of the process. The error that it ended with, if it failed."""
        _, errors = process.communicate()
        lines = errors.decode(errors="replace").strip().splitlines()
        return PressError(f"drawing PNG files ended with {process.returncode}: {lines[-1] if lines else 'no message'}")


def main() -> None:
    """Draw the files named on standard input, one a line."""
    import vl_convert

    for line in sys.stdin:
        svg = Path(line.rstrip("\n"))
        svg.with_suffix(".png").write_bytes(vl_convert.svg_to_png(svg.read_text(encoding="utf-8"), scale=SCALE))


if __name__ == "__main__":
    main()
