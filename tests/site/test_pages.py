"""The built files: right, whole, escaped, deterministic. No browser."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import html5lib
import pyarrow.parquet as pq
import pytest
from normbench.board import boards
from normbench.pages import SiteError, build
from normbench.pages import context as pages_context
from normbench.pages.methods import linked
from normbench.store.store import Store

from tests.site import synthetic
from tests.site.conftest import HOSTILE, fill

SITES = ("site", "hostile", "empty", "lonely", "tuned")


@pytest.fixture(params=SITES)
def built(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def pages(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.html"))


class Elements(HTMLParser):
    """All start tags with their attributes, and all ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.tags if a.get("id")]


def test_html_has_no_parse_errors(built):
    for page in pages(built):
        parser = html5lib.HTMLParser()
        parser.parse(page.read_text())
        assert parser.errors == [], page


def test_no_dead_link_no_id_twice_nothing_from_elsewhere(built):
    ids = {page: Elements(page.read_text()).ids for page in pages(built)}
    for page in pages(built):
        assert len(ids[page]) == len(set(ids[page])), page
        for tag, attributes in Elements(page.read_text()).tags:
            for name in ("href", "src", "xlink:href"):
                address = attributes.get(name)
                if address is None or (tag == "link" and address.startswith("data:image/svg+xml,")):
                    continue
                if address.startswith(("http://", "https://")):
                    assert tag == "a", f"{page}: <{tag}> loads {address}"
                    continue
                assert not re.match(r"[a-z][a-z0-9+.-]*:", address, re.I), f"{page}: {address}"
                path, _, fragment = address.partition("#")
                target = (page.parent / unquote(path)).resolve() if path else page
                assert target.is_file(), f"{page}: {address}"
                if fragment and "=" not in fragment:
                    assert unquote(fragment) in ids[target], f"{page}: {address}"


def test_every_page_has_a_strict_policy_before_anything_loads(built):
    for page in pages(built):
        text = page.read_text()
        policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
        assert policy, page
        assert "default-src 'none'" in policy[1]
        assert "unsafe" not in policy[1]
        assert "http" not in policy[1]
        assert policy.start() < text.index("<script")
        for tag, attributes in Elements(text).tags:
            assert not any(a.startswith("on") for a in attributes), f"{page}: {attributes}"
            assert "style" not in attributes, f"{page}: <{tag} style>"
            assert tag not in {"style", "iframe", "object", "embed", "form", "base"}, page
            assert tag != "script" or attributes.get("src"), f"{page}: inline script"


def test_hostile_text_is_text(hostile):
    names = [n for n in HOSTILE if n not in {"gn", "GN"}]
    shown = {}
    for page in (hostile / "accuracy.html", hostile / "runs.html"):
        tree = html5lib.parse(page.read_text(), treebuilder="etree", namespaceHTMLElements=False)
        shown[page.name] = "\n".join(tree.itertext())
        assert [e.get("src") for e in tree.iter("img")] == []
        scripts = [e.get("src") for e in tree.iter("script")]
        assert all(s and s.startswith(("assets/", "runs-data")) for s in scripts)
    for name in names:
        visible = name.replace("\x07", "\ufffd") if "\x07" in name else name
        assert name in shown["accuracy.html"] or visible in shown["accuracy.html"], name
    data = (hostile / "runs-data.js").read_text()
    assert "</script" not in data
    values = json.loads(data.removeprefix("NB.runs(").removesuffix(");\n").replace("<\\/", "</"))
    assert set(HOSTILE) <= set(next(c for c in values["columns"] if c["key"] == "method")["values"])


def test_file_names_are_safe_and_unique_ignoring_case(hostile):
    files = [str(p.relative_to(hostile)) for p in hostile.rglob("*") if p.is_file()]
    assert all(re.fullmatch(r"[A-Za-z0-9_./-]+", f) for f in files), files
    assert len({f.lower() for f in files}) == len(files)


def test_a_formula_does_not_reach_a_spreadsheet(hostile):
    text = next((hostile / "data").glob("*.csv")).read_text()
    methods = [row["method"] for row in csv.DictReader(io.StringIO(text))]
    assert any(m.startswith("'=cmd") for m in methods)
    assert not any(m.startswith("=") for m in methods)


def test_only_web_addresses_become_links():
    text = "see https://example.org/a(b) and javascript:alert(1), data:text/html,x"
    assert [a for _, a in linked(text) if a] == ["https://example.org/a(b"]
    assert "".join(t for t, _ in linked(text)) == text


def test_building_twice_gives_the_same_bytes(tmp_path):
    trials = [*synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0]), synthetic.trial("sn", weight_decay=5e-4)]
    first = build(fill(tmp_path / "a", trials), tmp_path / "one").parent
    second = build(fill(tmp_path / "b", trials[::-1]), tmp_path / "two").parent
    files = sorted(str(p.relative_to(first)) for p in first.rglob("*") if p.is_file())
    assert files == sorted(str(p.relative_to(second)) for p in second.rglob("*") if p.is_file())
    assert [f for f in files if (first / f).read_bytes() != (second / f).read_bytes()] == []


def test_a_crash_leaves_the_old_site_whole(tmp_path, monkeypatch):
    store = fill(tmp_path / "results", [synthetic.trial("bn")])
    index = build(store, tmp_path / "site")
    before = {p: p.read_bytes() for p in index.parent.rglob("*") if p.is_file()}

    def crash(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("normbench.pages.data_page.write", crash)
    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "site")
    assert {p: p.read_bytes() for p in index.parent.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results", "site"]


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    with pytest.raises(SiteError, match="no site of normbench"):
        build(Store(tmp_path / "none"), tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "precious"


def test_an_unreadable_result_is_named(tmp_path):
    store = fill(tmp_path / "results", [synthetic.trial("bn"), synthetic.trial("gn")])
    (tmp_path / "results" / "demo" / "0123456789abcdef.parquet").write_bytes(b"PAR1 nothing")
    index = build(store, tmp_path / "site")
    data = (index.parent / "data.html").read_text()
    assert "demo/0123456789abcdef.parquet" in data
    assert re.search(
        r"^  note = \{Version [\d.]+, data version [0-9a-f]{12}, latest result 20\d\d-\d\d-\d\d\}$", data, re.M
    ), "its entry for BibTeX"
    assert "1 stored result could not be read" in index.read_text()


def test_downloads_hold_what_the_boards_show(site, tmp_path):
    for line in (site / "data" / "SHA256SUMS").read_text().splitlines():
        checksum, name = line.split("  ")
        assert hashlib.sha256((site / "data" / name).read_bytes()).hexdigest() == checksum
    table = pq.read_table(site / "data" / "digits-resnet18-batch-64.parquet")
    (board,) = boards(table.to_pylist())
    rows = list(csv.DictReader(io.StringIO((site / "data" / "digits-resnet18-batch-64.csv").read_text())))
    assert len(rows) == table.num_rows == 36
    text = (site / "accuracy.html").read_text()
    for entry in board.entries:
        own = [float(r["clean"]) for r in rows if r["entry"] == entry.label and r["clean"]]
        assert own == [p.value for p in entry.cells["clean"].points] if entry.cells else own == []
        for cell in entry.cells.values():
            if cell.metric.key == "clean":
                assert cell.metric.display(cell.value) in text
    slice_ = pq.read_table(next((site / "trials").glob("*.parquet")))
    assert slice_.num_rows == 1


def test_cifar10_jpeg_shares_no_board_with_another_dataset(site):
    text = (site / "accuracy.html").read_text()
    assert "cifar10-jpeg" not in re.sub(r'<ul class="chips".*?</ul>', "", text, flags=re.S)
    assert "cifar10-jpeg · resnet50 · batch 64" in (site / "accuracy-cifar10-jpeg-resnet50.html").read_text()


def test_failures_stand_on_the_boards(site):
    text = (site / "accuracy.html").read_text()
    assert "3 of 3 diverged" in text
    assert "Expected more than 1 value per channel" in text


def test_under_three_seeds_the_page_shows_no_interval(lonely):
    text = (lonely / "accuracy.html").read_text()
    assert "not tested: 1 seed, 3 needed" in text
    assert 'class="bar"' not in text
    assert text.count('class="seed"') == 1


def test_a_board_number_leads_to_its_trials(site):
    for row in re.findall(r"<tr class=\"f-.*?</tr>", (site / "accuracy.html").read_text(), re.S):
        assert re.search(r'href="trials/[0-9a-f]{16}\.html"', row)


def test_without_trial_pages_numbers_lead_to_the_table_of_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(pages_context, "TRIAL_PAGES", 1)
    index = build(fill(tmp_path / "results", list(synthetic.grid(["bn"], weight_decays=[0]))), tmp_path / "site")
    assert not (index.parent / "trials").exists()
    assert re.search(r'href="runs\.html#q=[0-9a-f]{16}"', (index.parent / "accuracy.html").read_text())


def test_inlined_charts_share_no_ids_and_follow_the_theme(site):
    text = (site / "robustness.html").read_text()
    drawn = re.findall(r"<svg class=\"(?:narrow|medium|wide)\".*?</svg>", text, re.S)
    assert len(drawn) > 3
    assert all("var(--" in svg for svg in drawn)
    downloads = list((site / "charts").glob("*.svg"))
    assert downloads
    for path in downloads:
        assert "var(--" not in path.read_text()
    assert {p.suffix for p in (site / "charts").glob("robustness-*")} == {".svg", ".pdf", ".png", ".js"}


def test_points_of_a_chart_say_on_hover_what_they_are(site):
    page = (site / "index.html").read_text()
    titles = [html.unescape(t) for t in re.findall(r"<path[^>]*><title>([^<]*)</title></path>", page)]
    rows = re.findall(
        r'<tr[^>]*><th scope="row"><a[^>]*>(?:<bdi>)?([^<]+)', page.partition("<table")[2].partition("</table")[0]
    )
    assert titles
    for title in titles:
        assert re.fullmatch(r".+; Clean accuracy \(%\): [\d.]+; .* \(%\): [\d.]+", title), title
    assert {t.partition(";")[0] for t in titles} <= {html.unescape(r) for r in rows}


def test_vendored_parts_are_what_they_say():
    folder = Path(__file__).parent / "vendor"
    listed = json.loads((folder / "vendored.json").read_text())
    for part in listed:
        content = (folder / part["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
        assert part["version"].encode() in content[:400]
        assert (folder / part["licence_file"]).is_file()
        assert part["licence"]
    assert {p.name for p in folder.iterdir()} == {
        "vendored.json",
        *(p[k] for p in listed for k in ("file", "licence_file")),
    }


def test_the_chart_library_carries_its_versions_and_licence(site):
    head = (site / "assets" / "vega.js").read_text()[:400]
    assert re.search(r"Vega \d+\.\d+.*Vega-Lite \d+\.\d+.*Vega-Embed \d+\.\d+.*BSD-3-Clause", head)


def test_results_of_other_code_are_marked_on_their_boards(site):
    """One of three runs of `none` in every board of `none`."""
    for page in ("accuracy", "robustness", "weight-norm"):
        heads = re.findall(r'<th scope="row">(?:(?!</th>).)*</th>', (site / f"{page}.html").read_text(), re.DOTALL)
        marked = [head for head in heads if "stale" in head]
        assert marked
        assert all("1 of 3 stale" in head for head in marked)
        assert all("<bdi>none" in head for head in marked)
    told = [p.read_text() for p in (site / "trials").glob("*.html") if "Stale: the code" in p.read_text()]
    assert told
    assert all("<h1><bdi>none</bdi>, seed " in page for page in told)


def test_a_failed_health_check_is_a_flag_on_the_board_with_its_evidence_on_the_trial(site):
    board = re.sub(r"\s+", " ", (site / "robustness.html").read_text())
    flagged = re.findall(r'<th scope="row">(?:(?!</th>).)*⚑(?:(?!</th>).)*</th>', board)
    assert flagged
    assert all("none" in cell and "gradients in 1 of 3" in cell for cell in flagged)
    evidence = [p for p in (site / "trials").glob("*.html") if "⚑ no" in p.read_text()]
    assert evidence
    assert all("40 of 64 images have a zero gradient" in p.read_text() for p in evidence)


def test_the_weight_norm_board_says_which_weights_its_statement_is_about(site):
    board = (site / "weight-norm.html").read_text()
    assert "Scale-invariant weights" in board
    assert ">2 of 3</td>" in board
    assert "Scale-invariant weights" not in (site / "accuracy.html").read_text()


def text_of(page: Path) -> str:
    tree = html5lib.parse(page.read_text(encoding="utf-8"), treebuilder="etree", namespaceHTMLElements=False)
    return re.sub(r"\s+", " ", "".join(tree.itertext()))


def test_the_page_on_tuning_shows_every_setting_the_choice_and_the_price(tuned):
    text = text_of(tuned / "tuning.html")
    assert re.search(r"lr 0.03 ?lr 0.1 ?lr 0.3", text)
    assert "90.00 ✓" in text
    assert "80.00 ✓" in text
    assert "stopped" in text
    assert "diverged" in text
    assert "the choice is the largest lr that was tried" in text
    assert text.count("lr 0.07") == 7, "settings that get no column are listed a line each"
    assert 'href="tuning.html"' in (tuned / "index.html").read_text()
    assert "=cmd" in text


def test_candidates_are_on_no_board_and_no_run(tuned, site):
    runs = json.loads(
        (tuned / "runs-data.js").read_text().removeprefix("NB.runs(").removesuffix(");\n").replace("<\\/", "</")
    )
    assert next(c for c in runs["columns"] if c["key"] == "method")["values"] == ["bn", "gn"]
    assert len(list((tuned / "trials").glob("*.html"))) == 6
    assert "6 trials" in (tuned / "index.html").read_text()
    assert not (site / "tuning.html").exists()
    assert 'href="tuning.html"' not in (site / "index.html").read_text()


def test_candidates_can_be_downloaded(tuned):
    table = pq.read_table(tuned / "data" / "tuning.candidates.parquet")
    assert table.num_rows == 9 + 7 * 12
    assert set(table.column("stage").to_pylist()) == {"tuning"}
    assert set(table.column("clean_accuracy").to_pylist()) == {None}
    lines = list(csv.DictReader(io.StringIO((tuned / "data" / "tuning.candidates.csv").read_text())))
    assert [
        (r["lr"], r["validation_accuracy"], r["chosen"], r["ends"])
        for r in lines
        if r["suite"] == "demo" and r["method"] == "gn"
    ] == [
        ("0.03", "0.6", "no", "1 ok"),
        ("0.1", "0.8", "yes", "1 ok"),
        ("0.3", "", "no", "1 stopped"),
    ]
    assert not any(r["method"].startswith("=") for r in lines)
    assert "tuning.candidates.parquet" in (tuned / "data" / "SHA256SUMS").read_text()


def test_a_board_stands_only_where_it_has_numbers_or_failures(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for trial in synthetic.grid(["bn", "gn"], seeds=1, weight_decays=[0]):
        for batch_size in (8, 16, 32):
            made = trial.model_copy(update={"batch_size": batch_size})
            failed = batch_size == 8 and trial.norm_label == "bn"
            outcome = synthetic.failure(made) if failed else synthetic.outcome(made)
            if batch_size < 32:
                outcome = outcome.model_copy(update={"attacks": (), "robustness": ()})
            store.write("demo", made, synthetic.identity(made), outcome)
    build(store, tmp_path / "site")
    accuracy, robustness = (text_of(tmp_path / "site" / f"{name}.html") for name in ("accuracy", "robustness"))
    assert all(f"batch {size}" in accuracy for size in (8, 16, 32))
    assert "batch 8" in robustness, "a failure is told on every board"
    assert "batch 16" not in robustness
    assert "batch 32" in robustness
