"""Ray's own start is tried again where it was too slow, and nowhere else; and Ray goes by the token of the run."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from normbench.runner import patience, token
from normbench.runner.cluster import START_TRIES, ClusterError, start_here

SLOW = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


class Slow:
    """Stands for the module `ray`: its first starts fail."""

    def __init__(self, failures: int, message: str = SLOW) -> None:
        self.failures, self.message, self.calls = failures, message, list[str]()

    def init(self, *args: Any, **options: Any) -> None:
        self.calls.append("init")
        if self.calls.count("init") <= self.failures:
            raise Exception(self.message)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_a_slow_start_is_tried_again(tmp_path: Path) -> None:
    said: list[str] = []
    ray = Slow(START_TRIES - 1)
    start_here(ray, {}, tmp_path, said.append)
    assert ray.calls == ["init", "shutdown"] * (START_TRIES - 1) + ["init"]
    assert [line.rpartition(": ")[2] for line in said] == [
        f"try {n} of {START_TRIES}" for n in range(2, START_TRIES + 1)
    ]


def test_a_machine_that_never_gets_there_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    ray = Slow(START_TRIES)
    with pytest.raises(ClusterError, match="overloaded"):
        start_here(ray, {}, tmp_path, said.append)
    assert ray.calls == ["init", "shutdown"] * START_TRIES


def test_any_other_failure_stands_as_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    ray = Slow(1, "no space left")
    with pytest.raises(Exception, match="no space left"):
        start_here(ray, {}, tmp_path, said.append)
    assert ray.calls == ["init", "shutdown"]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of Ray in which a start asks for its node, and where nothing takes time."""
    module = pytest.importorskip("ray._private.services")
    monkeypatch.setattr(patience, "_LOOK", 0.0)
    return module


def asks(answers: list[Any]) -> Callable[..., Any]:
    def ask(*_: Any) -> Any:
        if isinstance(found := answers.pop(0), Exception):
            raise found
        return found

    return ask


def test_a_start_waits_for_a_raylet_that_lives(services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    ask = asks([RuntimeError("not there")] * 3 + ["a node"])
    monkeypatch.setattr(services, "get_node", ask)
    monkeypatch.setattr(patience, "raylet_lives", lambda: True)
    monkeypatch.setattr(patience, "SAID_AFTER", -1.0)
    with patience.patient(said.append):
        assert services.get_node("address", "id") == "a node"
    assert services.get_node is ask
    assert len(said) == 1


@pytest.mark.parametrize("how", ["its raylet has ended", "too long"])
def test_a_start_that_cannot_end_well_is_not_waited_for(
    services: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(services, "get_node", asks([RuntimeError("not there")]))
    monkeypatch.setattr(patience, "raylet_lives", lambda: how == "too long")
    monkeypatch.setattr(patience, "LIMIT", -1.0 if how == "too long" else 600.0)
    with patience.patient(lambda _: None), pytest.raises(RuntimeError, match="not there"):
        services.get_node("address", "id")


def test_a_raylet_is_known_by_its_name_until_it_has_ended(tmp_path: Path) -> None:
    program = tmp_path / "raylet"
    shutil.copy2(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "600"]) as process:
        assert patience.raylet_lives()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody has waited for it yet
        assert not patience.raylet_lives()


def test_ray_asks_there_for_its_node() -> None:
    """The start of a node looks the function up in its module each time, and takes RuntimeError for an answer."""
    node = pytest.importorskip("ray._private.node")
    text = inspect.getsource(node.Node.__init__)
    assert re.search(r"ray\._private\.services\.get_node\(\s*self\.gcs_address,", text)
    assert "except RuntimeError" in text


def test_ray_takes_what_it_does_not_document() -> None:
    """Ray names the keywords that it does not know, before it starts anything."""
    import ray

    with pytest.raises(RuntimeError, match=r"Unknown keyword argument\(s\): _unheard_of$"):
        ray.init("local", _node_ip_address="127.0.0.1", _temp_dir="/tmp/never", _unheard_of=True)


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    token.read_again(required=False)


@pytest.mark.usefixtures("_as_before")
def test_ray_goes_by_the_token_of_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the one at hand, though Ray keeps what it has read once."""
    from ray._raylet import AuthenticationTokenLoader

    variables = [token.new_token() for _ in range(2)]
    assert variables[0]["RAY_AUTH_TOKEN"] != variables[1]["RAY_AUTH_TOKEN"]
    for given in variables:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        token.read_again(required=True)
        headers = AuthenticationTokenLoader.instance().get_token_for_http_header()
        assert headers == {"authorization": f"Bearer {given['RAY_AUTH_TOKEN']}"}


@pytest.mark.usefixtures("_as_before")
def test_a_ray_that_ignores_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not take the mode, and one that does not know of any: 2.51 has none of the names that are asked."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(token.TokenError, match=r"takes no token.*install ray>=2\.52"):
        token.read_again(required=True)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delattr("ray._raylet.get_authentication_mode")
    with pytest.raises(token.TokenError, match="takes no token"):
        token.read_again(required=True)


def test_the_first_ray_with_tokens_is_asked_for() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    asked = {line.partition("]")[2] for wanted in lists for line in wanted if line.startswith("ray[")}
    assert asked == {f">={token.SINCE}"}
