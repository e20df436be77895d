"""What every page carries, and what there is to take away: titles, descriptions, icon, card, feeds, glossary, history,
search. No browser.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from normbench.board import boards, boards_json
from normbench.cli.main import app
from normbench.errors import BenchError
from normbench.pages import build, runs_page
from normbench.pages.data_page import COLUMNS
from normbench.pages.measured import measured
from normbench.paths import checkout
from normbench.plan import origin as where
from normbench.plan.stale import with_staleness
from normbench.store import releases
from normbench.store.schema import SCHEMA
from normbench.store.store import Store, StoreError
from typer.testing import CliRunner

from tests.matrix import sample
from tests.site import synthetic
from tests.site.conftest import fill
from tests.site.test_pages import Elements, pages

#: Bytes of the first page with its charts and all that it loads, gzipped.
FIRST_PAGE = 150_000


KINDS = ["site", "hostile", "empty", "tuned"]


@pytest.fixture(params=sample([*KINDS, "committed"], KINDS))
def built(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def meta(page: Path) -> dict[str, str]:
    tags = Elements(page.read_text(encoding="utf-8")).tags
    return {a.get("name") or a.get("property") or "": a.get("content") or "" for t, a in tags if t == "meta"}


def data(path: Path) -> object:
    """What a script hands to its function."""
    return json.loads(path.read_text(encoding="utf-8").partition("(")[2].rpartition(")")[0].replace("<\\/", "</"))


def test_no_two_pages_have_one_title(built: Path) -> None:
    titles = Counter(re.search(r"<title>(.*?)</title>", p.read_text(), re.S)[1] for p in pages(built))
    assert [t for t, n in titles.items() if n > 1] == []


def test_every_page_says_what_it_is_to_search_engines_and_messages(built: Path) -> None:
    for page in pages(built):
        found = meta(page)
        assert len(found["description"]) >= 40, page
        assert found["og:title"]
        assert found["og:description"] == found["description"]
        assert (page.parent / found["og:image"]).resolve() == built / "assets" / "card.png", page
        (icon,) = [a["href"] for t, a in Elements(page.read_text()).tags if t == "link" and a.get("rel") == "icon"]
        assert icon.startswith("data:image/svg+xml,%3Csvg")


def test_the_card_is_a_picture_of_the_size_that_it_states(site: Path) -> None:
    content = (site / "assets" / "card.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    found = meta(site / "index.html")
    size = [int.from_bytes(content[i : i + 4]) for i in (16, 20)]
    assert size == [int(found["og:image:width"]), int(found["og:image:height"])] == [1200, 630]
    assert "batch 64" in (site / "assets" / "card.svg").read_text()


def test_the_first_page_is_light(site: Path) -> None:
    loaded = ["index.html"]
    for tag, attributes in Elements((site / "index.html").read_text()).tags:
        if (tag == "script" and attributes.get("src")) or attributes.get("rel") == "stylesheet":
            loaded.append(attributes.get("src") or attributes["href"] or "")
    assert sum(len(gzip.compress((site / name).read_bytes(), 6)) for name in loaded) <= FIRST_PAGE


def test_a_site_that_knows_its_addresses_links_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(where.REPOSITORY, "https://example.org/lab/normbench/")
    monkeypatch.setenv(where.ADDRESS, "https://lab.example.org/board")
    index = build(fill(tmp_path / "results", [synthetic.trial("bn")]), tmp_path / "site")
    text = index.read_text()
    assert '<link rel="canonical" href="https://lab.example.org/board/index.html">' in text
    assert meta(index)["og:image"] == "https://lab.example.org/board/assets/card.png"
    assert 'href="https://example.org/lab/normbench"' in text
    assert 'href="https://example.org/lab/normbench/blob/HEAD/LICENSE"' in text
    (trial,) = (index.parent / "trials").glob("*.html")
    assert "git clone https://example.org/lab/normbench normbench &amp;&amp; cd normbench\nuv venv" in trial.read_text()
    assert "url = {https://lab.example.org/board/}" in (index.parent / "data.html").read_text()


def test_a_workflow_of_github_tells_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "lab/normbench")
    assert where.origin("elsewhere").repository == "https://github.example/lab/normbench"
    assert where.origin("elsewhere").commit == "", "results from elsewhere are in no commit of this checkout"


@pytest.mark.parametrize(
    "text",
    ["javascript:alert(1)", "example.org", "https://", "https://x/ y", "https://x/$(id)", "http://[x", "ftp://x"],
)
def test_what_is_no_web_address_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(where.REPOSITORY, text)
    with pytest.raises(BenchError, match=r"BENCH_REPOSITORY=.*expected a web address"):
        where.origin("results")


# ---- data ----


def test_one_file_holds_everything_and_those_of_suites_are_its_parts(tuned: Path) -> None:
    whole = pq.read_table(tuned / "data" / "all.parquet")
    assert whole.num_rows == 6 + 9 + 7 * 12
    assert whole.schema.equals(SCHEMA)
    parts = {s: pq.read_table(tuned / "data" / f"suite-{s}.parquet") for s in ("demo", "many")}
    key = [*zip(*(whole.column(c).to_pylist() for c in ("suite", "trial_id")), strict=True)]
    assert sorted(key) == sorted((s, t) for s, part in parts.items() for t in part.column("trial_id").to_pylist())
    files = re.findall(r'<a href="(data/[^"]+)" download>', (tuned / "data.html").read_text())
    assert files[0] == "data/all.parquet", "it stands first"


def test_every_column_of_the_schema_is_explained() -> None:
    assert [f.name for f in SCHEMA if not COLUMNS.get(f.name)] == []


def test_beside_every_board_stands_its_json(site: Path) -> None:
    for page in site.glob("*.html"):
        feeds = [a["href"] for t, a in Elements(page.read_text()).tags if t == "link" and a.get("rel") == "alternate"]
        sections = re.findall(r'<section [^>]*id="([^"]+)"', page.read_text()) if page.name[:8] == "accuracy" else []
        assert [f"boards/{s}.json" for s in sections] == (feeds if sections else []), page
        assert all((site / f).is_file() for f in feeds)
    rows = pq.read_table(site / "data" / "digits-resnet18-batch-64.parquet").to_pylist()
    (board,) = boards(with_staleness(rows))
    told = json.loads((site / "boards" / "digits-resnet18-batch-64.json").read_text())
    assert {k: v for k, v in told.items() if k not in {"version", "data_version", "date"}} == boards_json([board])[0]
    listed = json.loads((site / "boards" / "index.json").read_text())["boards"]
    assert {b["json"] for b in listed} | {"index.json"} == {p.name for p in (site / "boards").glob("*.json")}


# ---- runs ----


def test_any_setting_and_metric_is_a_column_and_most_wait_in_files_of_their_own(site: Path) -> None:
    columns = {c["key"]: c for c in data(site / "runs-data.js")["columns"]}
    assert {"suite", "family", "side", "train", "name", "test_loss"} <= columns.keys()
    assert "Group normalization" in " ".join(columns["name"]["values"])
    table = pq.read_table(site / "data" / "all.parquet")
    (board,) = boards(pq.read_table(site / "data" / "digits-resnet18-batch-64.parquet").to_pylist())
    assert {m.key for m in board.metrics} <= columns.keys()
    waiting = {k: c for k, c in columns.items() if "file" in c}
    assert len(waiting) >= 5
    assert all("rows" not in c for c in waiting.values())
    at = dict(zip(table.column("trial_id").to_pylist(), table.column("test_loss").to_pylist(), strict=True))
    script = (site / "runs" / f"{columns['test_loss']['file']}.js").read_text()
    rows = json.loads(script.removeprefix('NB.column("test_loss",').removesuffix(");\n"))
    assert rows == [None if at[t] is None else round(at[t], 4) for t in columns["trial"]["values"]]


def test_quantities_of_measures_are_columns_with_their_last_reading() -> None:
    """Those that the pages of trials show."""
    table = Store(checkout() / "results").table(["digits-measures"])
    rows = {r["trial_id"]: {q.quantity: q.last for q in measured(r)} for r in table.to_pylist()}
    names = sorted({m["name"] for r in table.to_pylist() for m in json.loads(r["spec"])["measures"]})
    columns = list(runs_page.whole_network(table.column("curves"), names))
    for trial, readings in zip(table.column("trial_id").to_pylist(), columns, strict=True):
        last = {r["measure"]: r["value"] for r in sorted(readings, key=lambda r: r["step"])}
        assert last.keys() == rows[trial].keys()
        assert [f"{v:.4g}" for v in last.values()] == [rows[trial][key].partition(" ")[0] for key in last]
        assert len(last) > 20


def test_runs_of_examples_stand_last(tmp_path: Path) -> None:
    store = fill(tmp_path / "results", [synthetic.trial("bn", batch_size=8)], "smoke")
    (tmp_path / "results" / "smoke" / "suite.json").write_text('{"role": "example"}')
    fill(tmp_path / "results", [synthetic.trial("gn", batch_size=64)], "study")
    build(store, tmp_path / "site")
    suite = next(c for c in data(tmp_path / "site" / "runs-data.js")["columns"] if c["key"] == "suite")
    assert [suite["values"][i] for i in suite["rows"]] == ["study", "smoke"]


# ---- glossary, search ----


def test_search_lists_every_page_with_a_script_and_without(site: Path) -> None:
    places = data(site / "search-data.js")
    listed = {a["href"] for t, a in Elements((site / "search.html").read_text()).tags if t == "a"}
    assert {p[2] for p in places} <= listed
    standing = {p.relative_to(site).as_posix() for p in pages(site)}
    missing = {p for p in standing if not p.startswith("trials/")} - {p[2] for p in places} - {"search.html"}
    assert missing == set()
    assert {"Methods", "Boards", "Terms", "Claims", "Attacks", "Measures", "Suites"} <= {p[0] for p in places}


# ---- history ----


def test_history_counts_what_changed_since_the_release(tmp_path: Path) -> None:
    store = fill(tmp_path / "results", [synthetic.trial("bn", seed) for seed in range(3)])
    fill(tmp_path / "results", [synthetic.trial("gn")], "gone")
    build(store, tmp_path / "site")
    assert "no release was written down yet" in (tmp_path / "site" / "history.html").read_text()
    said = CliRunner().invoke(app, ["results", "release", "1.2.0", "--results", str(tmp_path / "results")])
    assert "demo: 3 rows, 3 added" in said.output
    first = Store(tmp_path / "results")
    assert releases.read(first).releases[0].suites["demo"].added == 3
    store.path("demo", synthetic.trial("bn", 2).trial_id).unlink()
    store.path("gone", synthetic.trial("gn").trial_id).unlink()
    fill(tmp_path / "results", [synthetic.trial("bn", 3), synthetic.trial("bn", 4)])
    again = synthetic.trial("bn", 0)
    changed = synthetic.identity(again) | {"code": {"normbench.norms.bn": "1" * 16}}
    store.write("demo", again, changed, synthetic.outcome(again))
    build(Store(tmp_path / "results"), tmp_path / "site")
    text = (tmp_path / "site" / "history.html").read_text()
    assert "release 1.2.0 of 20" in text
    rows = re.findall(r"<tr><th scope=\"row\"><bdi>(\w+)</bdi></th>((?:<td class=\"n\">[^<]*</td>)+)</tr>", text)
    assert [(name, re.findall(r">([^<]+)</td>", cells)) for name, cells in rows[:2]] == [
        ("demo", ["4", "2", "1", "1"]),
        ("gone", ["0", "–", "1", "–"]),
    ]


def test_a_release_is_never_written_anew_and_a_broken_file_is_left(tmp_path: Path) -> None:
    store = fill(tmp_path / "results", [synthetic.trial("bn")])
    made = releases.note(store, "1.0", "2026-01-02")
    assert made.suites["demo"] == releases.Change(rows=1, added=1, removed=0, changed=0)
    with pytest.raises(StoreError, match=r"has a release 1\.0 already"):
        releases.note(store, "1.0", "2026-01-03")
    (tmp_path / "results" / releases.FILE).write_text('{"releases": 7}')
    with pytest.raises(StoreError, match="does not say what was released: releases"):
        releases.note(Store(tmp_path / "results"), "1.1", "2026-01-03")
    build(store, tmp_path / "site")
    assert "releases.json" in (tmp_path / "site" / "data.html").read_text()
