"""A site is built where something has changed since it was built."""

from __future__ import annotations

import shutil
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from normbench.cli import site as command
from normbench.store.store import Store

from tests.cli.conftest import Bench
from tests.site import synthetic


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Sites of one page in place of whole ones: what is tested here is when they are built."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    made: list[Path] = []

    def build(store: Store, out: Path, *, suites: list[str] | None = None) -> Path:
        out.mkdir(exist_ok=True)
        (out / "index.html").write_text(f"{len(made)} {suites}")
        made.append(out)
        list(store.rows(suites))
        return out / "index.html"

    monkeypatch.setattr("normbench.pages.build", build)
    return made


def add(store: Store, seed: int, suite: str = "demo") -> None:
    trial = synthetic.trial("bn", seed)
    store.write(suite, trial, synthetic.identity(trial), synthetic.outcome(trial))


CHANGES: dict[str, Callable[[Store, Path], object]] = {
    "a result more": lambda store, _: add(store, 1),
    "a suite more": lambda store, _: add(store, 0, "other"),
    "what a suite says": lambda store, _: store.files.write("demo/suite.json", b"{}"),
    "a page that is gone": lambda _, out: (out / "index.html").unlink(),
    "a page that somebody wrote": lambda _, out: (out / "x.html").write_text("x"),
    "a site that is gone": lambda _, out: shutil.rmtree(out),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changed_is_built_again(
    built: list[Path], tmp_path: Path, change: Callable[[Store, Path], object]
) -> None:
    store, out = Store(tmp_path / "r"), tmp_path / "site"
    add(store, 0)
    assert command.current(store, out) == (out / "index.html", False)
    assert command.current(store, out) == (out / "index.html", True)
    assert command.current(Store(tmp_path / "r"), out)[1]
    assert len(built) == 1
    change(store, out)
    assert not command.current(store, out)[1]
    assert command.current(store, out)[1]
    assert len(built) == 2


def test_code_versions_and_suites_count(built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, out = Store(tmp_path / "r"), tmp_path / "site"
    add(store, 0)
    command.current(store, out)
    assert not command.current(store, out, ["demo"])[1]
    assert command.current(store, out, ["demo"])[1]
    monkeypatch.setattr(command, "version", lambda name: "0.0")
    assert not command.current(store, out, ["demo"])[1]
    assert len(built) == 3


def test_a_machine_without_a_browser_is_told_where_the_site_is(
    built: list[Path], shown: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store, out = Store(tmp_path / "r"), tmp_path / "site"
    add(store, 0)
    arguments = ("site", "--results", str(tmp_path / "r"), "--out", str(out), "--open")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "get", lambda: SimpleNamespace(open_new_tab=opened.append))
    assert shown(*arguments) == f"site: {out / 'index.html'}\n"
    assert opened == [(out / "index.html").as_uri()]

    def nothing() -> None:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", nothing)
    command.show(out / "index.html")
    assert capfd.readouterr() == ("", f"bench: no browser was found here; open {out / 'index.html'}\n")


def test_the_command_says_so_and_names_files_that_cannot_be_read(
    built: list[Path], shown: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, out = Store(tmp_path / "r"), tmp_path / "site"
    add(store, 0)
    (tmp_path / "r" / "demo" / f"{'0' * 16}.parquet").write_bytes(b"no Parquet")
    arguments = ("site", "--results", str(tmp_path / "r"), "--out", str(out))
    first, again = shown(*arguments), shown(*arguments)
    assert first == f"site: {out / 'index.html'}\n"
    assert again == f"site: {out / 'index.html'} (nothing has changed since it was built)\n"
    assert len(built) == 1
    assert set(command.current(store, out)[0:1]) == {out / "index.html"}
    assert any("0000" in path for path in store.problems)
