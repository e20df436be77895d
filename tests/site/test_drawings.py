"""Charts that were drawn before are not drawn again, and a damaged one is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from normbench.pages import drawings

SPEC = {"mark": "point", "data": {"values": [{"a": 1}]}, "encoding": {"x": {"field": "a", "type": "quantitative"}}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    return tmp_path / "charts"


def test_a_chart_is_drawn_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = drawings.svg(SPEC), drawings.pdf(drawings.svg(SPEC))
    assert first[0].startswith("<svg")
    assert first[1].startswith(b"%PDF")
    assert sorted(p.suffix for p in folder.iterdir()) == [".pdf", ".svg"]
    monkeypatch.setattr(drawings, "vl_convert", None)
    assert (drawings.svg(SPEC), drawings.pdf(first[0])) == first


def test_another_specification_is_another_chart() -> None:
    assert drawings.svg(SPEC) != drawings.svg(SPEC | {"mark": "bar"})


def test_a_file_that_was_cut_short_is_drawn_again(folder: Path) -> None:
    whole = drawings.svg(SPEC)
    (path,) = folder.iterdir()
    path.write_text(whole[: len(whole) // 2])
    assert drawings.svg(SPEC) == whole == path.read_text()


def test_a_cache_that_cannot_be_written_is_done_without(folder: Path) -> None:
    folder.write_text("a file stands where the folder should", encoding="utf-8")
    assert drawings.svg(SPEC).startswith("<svg")
    assert drawings.clean() == 0


def test_what_nobody_used_for_a_month_goes(folder: Path) -> None:
    drawings.svg(SPEC)
    assert drawings.clean() == 0
    assert drawings.clean(time.time() + drawings.KEPT + 60) == 1
    assert list(folder.iterdir()) == []
