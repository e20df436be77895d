"""`bench claims`."""

from __future__ import annotations

import json

import pytest
from normbench.claims import _listed
from normbench.claims.base import Finding, recorded
from normbench.cli.main import app
from normbench.errors import BenchError
from typer.testing import CliRunner

FEW = ("batch-of-two", "ws-is-cwn", "rescaling-amplifies")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three claims that take no time."""
    own = [c for c in _listed.chosen() if c.name in FEW]
    monkeypatch.setattr(_listed, "chosen", lambda source=None: own)


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["claims", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_all_claims_are_listed(tmp_path) -> None:
    text = run("--results", str(tmp_path))
    assert "refuted" in text
    rows = json.loads(run("--json", "--results", str(tmp_path)))
    assert len(rows) >= 45
    assert f"{len(rows)} claims" in text
    assert {r["verdict"] for r in rows} <= {"holds", "holds in part", "refuted", "undecided", "not tested"}
    assert all(r["decides"] or r["reason"] for r in rows)


def test_one_source_alone(tmp_path) -> None:
    rows = json.loads(run("--json", "--source", "yuan", "--results", str(tmp_path)))
    assert {r["source"] for r in rows} == {"Yuan"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--source", "suun"), r"--source 'suun': expected sun, huang, yuan, cai; did you mean 'sun'\?"),
        (("--record",), "give both"),
        (("--check", "--json"), "give --json without it"),
    ],
)
def test_what_cannot_be_meant_is_said(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        run(*words)


@pytest.mark.usefixtures("few")
def test_a_check_computes_anew_and_shows_how_far_it_is() -> None:
    text = run("--check")
    assert "1/3 batch-of-two: holds," in text
    assert "3 claims computed" in text
    assert "as recorded" in text


@pytest.mark.usefixtures("few")
def test_a_verdict_that_is_not_the_recorded_one_is_an_error_until_it_is_recorded(tmp_path, monkeypatch) -> None:
    from normbench.claims import base

    kept = recorded() | {"batch-of-two": Finding(recorded()["rescaling-amplifies"].parts)}
    path = tmp_path / "findings.json"
    base.record(kept, path)
    monkeypatch.setattr(base.recorded, "__defaults__", (path,))
    monkeypatch.setattr(base.record, "__defaults__", (path,))
    text = run("--check", code=1)
    assert "batch-of-two: holds (recorded: refuted)" in text
    assert "1 not as recorded" in text
    assert "recorded" in run("--check", "--record")
    assert recorded(path)["batch-of-two"].verdict == "holds"
    assert "as recorded" in run("--check")
