"""The command `bench` for tests: in a process of its own, as people start it, or in the fork of a server that has
imported what the command imports, which spares every call a second, or five where torch is needed.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from typing import NoReturn

#: What the verbs import when they run; the server has it before the first of them.
IMPORTED = (
    "normbench.cli.methods",
    "normbench.cli.results",
    "normbench.cli.doctor",
    "normbench.cli.terminal",
    "normbench.cli.main",
    "normbench.lab.network",
    "normbench.norms.check",
    "normbench.pages",
    "normbench.plan.plan",
    "normbench.store.verify",
    "normbench.lab.trial_run",
)
#: Variables that Python reads when it starts, so that a fork comes too late.
AT_START = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


def process(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    command = [sys.executable, "-m", "normbench.cli.main", *arguments]
    return subprocess.run(command, cwd=cwd, env=_all(environment), capture_output=True, text=True, timeout=600)


def bench(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """In the fork of a server; a run, which starts Ray, in a process of its own all the same."""
    wanted = _all(environment)
    if arguments[:1] == ("run",) or any(wanted.get(name) != os.environ.get(name) for name in AT_START):
        return process(*arguments, cwd=cwd, **environment)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        asked = {
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": wanted,
            "out": str(out),
            "err": str(err),
        }
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps(asked), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(
            ["bench", *arguments], code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        )


def _all(environment: dict[str, str]) -> dict[str, str]:
    return os.environ | {"COLUMNS": "200"} | environment


@cache
def _server() -> subprocess.Popen[str]:
    """One for all tests of this process; it ends with its standard input."""
    server = subprocess.Popen(
        [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def end() -> None:
        server.communicate()

    atexit.register(end)
    return server


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(arguments: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> NoReturn:
    """This process is `bench` with these arguments from now on."""
    from normbench.cli.main import main

    code: object = 1
    try:
        for number, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, out, os.O_WRONLY | os.O_CREAT),
            (2, err, os.O_WRONLY | os.O_CREAT),
        ):
            os.dup2(os.open(path, flags, 0o600), number)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["bench", *arguments]
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
