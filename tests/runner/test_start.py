"""Ray's own start is tried again where it was too slow, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
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


def test_ray_takes_what_it_does_not_document() -> None:
    """Ray names the keywords that it does not know, before it starts anything."""
    import ray

    with pytest.raises(RuntimeError, match=r"Unknown keyword argument\(s\): _unheard_of$"):
        ray.init("local", _node_ip_address="127.0.0.1", _temp_dir="/tmp/never", _unheard_of=True)
