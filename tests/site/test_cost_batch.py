"""The pages on cost and on batch sizes: every number leads back to a file or a board."""

from __future__ import annotations

import re
from pathlib import Path

from normbench.board import boards
from normbench.cli.site import _key
from normbench.pages.batch_page import several
from normbench.store import costs as files
from normbench.store.store import Store

from tests.site import synthetic
from tests.site.test_pages import text_of


def test_the_cost_page_names_the_machine_and_what_was_measured(site: Path) -> None:
    text = text_of(site / "cost.html")
    assert "An Invented CPU" in text
    assert "torch 2.11.0" in text
    assert "Other work ran beside 1 of 3 methods" in text
    assert "gn, network 16x3x32x32: out of host memory" in text
    html = (site / "cost.html").read_text()
    assert re.search(r'title="95 % interval of the median 1.05 to 1.15; [^"]*">1.10<', html)
    assert 'href="methods/gn.html"' in html
    assert "elsewhere</bdi></th>" in html, "not registered here: no page leads there"
    assert (site / "charts/cost-0-step.svg").is_file()
    assert 'href="cost.html"' in (site / "index.html").read_text()


def test_without_numbers_there_are_no_such_pages(empty: Path) -> None:
    assert not (empty / "cost.html").exists()
    assert not (empty / "batch.html").exists()
    assert "cost.html" not in (empty / "index.html").read_text()


def test_the_page_on_batch_sizes_has_a_row_a_method_and_its_failures(site: Path) -> None:
    text = text_of(site / "batch.html")
    assert "Batch 1: gn" in text
    assert "2 of 2 error" in text
    assert "cifar10-jpeg" not in text, "one batch size alone answers nothing"
    assert "Clean accuracy against the batch size" in text


def test_a_site_is_out_of_date_when_costs_are_new(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = _key(store, None)
    files.keep(store, synthetic.costs(["bn"]))
    assert _key(store, None) != before
    assert store.suites() == [], "a folder of costs is no suite"


def _rows(norms: list[str], batch_size: int, lr: float = 0.1, seeds: int = 3) -> list[dict[str, object]]:
    from normbench.store.schema import to_row

    return [
        to_row("s", t, synthetic.identity(t), synthetic.outcome(t)) | {"images_per_second": 100.0}
        for n in norms
        for s in range(seeds)
        for t in [synthetic.trial(n, s, batch_size=batch_size, lr=lr)]
    ]


def test_boards_are_joined_that_differ_in_the_batch_size_alone() -> None:
    joined = several(boards([*_rows(["bn", "gn"], 16), *_rows(["bn", "wn"], 4)]))
    (group,) = joined
    assert group.sizes == [4, 16]
    assert {k: len(v) for k, v in group.entries.items()} == {"bn": 2, "gn": 1, "wn": 1}
    assert several(boards(_rows(["bn"], 4))) == []
    assert several(boards([*_rows(["bn"], 4), *_rows(["bn"], 16, lr=0.2)])) == [], "rates that nobody tuned differ"
