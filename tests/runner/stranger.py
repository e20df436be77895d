"""Another user of the machine, who tries what can be tried at a run (see `test_strangers.py`).

Standard input: JSON of `uid`, `paths`, `processes` and `ports`. Standard output: JSON of all that was possible, and how
often each port refused.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from ray.core import generated

#: Seconds for an answer. A port that is none of gRPC's gives none.
PATIENCE = 60.0
#: Calls that Ray has no Python stubs for.
OF_OBJECTS = [f"/ray.rpc.ObjectManagerService/{name}" for name in ("Push", "Pull", "FreeObjects")]
#: Pages of Ray's servers that speak HTTP, all asked with an empty body.
PAGES = [("GET", "/"), ("POST", "/get_or_create_runtime_env"), ("POST", "/delete_runtime_env_if_possible")]


def methods() -> list[str]:
    """Every call that any server of Ray knows."""
    sources = (path.read_text() for path in Path(generated.__path__[0]).glob("*_pb2_grpc.py"))
    return OF_OBJECTS + sorted({name for source in sources for name in re.findall(r"'(/ray\.rpc[\w./]+)'", source)})


def calls(port: int, names: list[str], token: str | None) -> dict[str, str]:
    """How a server on loopback answers an empty request, by method; `UNAVAILABLE` where it does not speak gRPC."""
    headers = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        waiting = {name: channel.unary_unary(name).future(b"", PATIENCE, headers) for name in names}
        return {name: answer.code().name for name, answer in waiting.items()}


def pages(port: int, token: str | None) -> dict[str, int]:
    """How a server on loopback answers by HTTP, by page; empty where it does not speak it."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found = {}
    for verb, page in PAGES:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request(verb, page, b"", headers)
            found[f"{verb} {page}"] = connection.getresponse().status
    return found


def entered(path: Path) -> Iterator[str]:
    """What can be done with a file, a folder or a socket."""
    for what, step in {
        "list": lambda: list(path.iterdir()),
        "make": lambda: (path / "made by a stranger").touch(),
        "read": path.read_bytes,
        "write": lambda: os.close(os.open(path, os.O_WRONLY)),
        "replace": lambda: path.rename(path.with_name("taken by a stranger")),
        "connect": lambda: socket.socket(socket.AF_UNIX).connect(str(path)),
    }.items():
        with contextlib.suppress(OSError):
            step()
            yield what


def main() -> None:
    given = json.load(sys.stdin)
    os.setgroups([])
    os.setgid(given["uid"])
    os.setuid(given["uid"])
    of_processes = [f"/proc/{pid}/{name}" for pid in given["processes"] for name in ("environ", "cwd", "fd", "mem")]
    found = [f"{what} {path}" for path in [*given["paths"], *of_processes] for what in entered(Path(path))]
    refused = dict.fromkeys(given["ports"], 0)
    names = methods()
    for port in given["ports"]:
        for token in (None, "", "0" * 64):
            answers: dict[str, str | int] = {**pages(port, token), **calls(port, names, token)}
            refused[port] += sum(answer in {"UNAUTHENTICATED", 401, 403} for answer in answers.values())
            closed = {"UNAUTHENTICATED", "UNIMPLEMENTED", "UNAVAILABLE", 401, 403}
            found += [f"{what} on {port}: {answer}" for what, answer in answers.items() if answer not in closed]
    json.dump({"found": found, "refused": list(refused.values())}, sys.stdout)


if __name__ == "__main__":
    main()
