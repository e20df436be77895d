"""Every number on the first page and on that of claims is found again in the committed results: means from the stored
bits, with numpy alone. Intervals come from the rule of the boards, given the values that are found here.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pytest
import yaml
from normbench.board.ranking import rank
from normbench.claims.base import RECORD
from normbench.pages import claims_page, home_page, study_pages
from normbench.paths import shipped
from normbench.store.store import Store

from tests.site.conftest import context_of
from tests.site.own_claims import Found, found_in
from tests.site.stored_bits import ROOT, Trial, boards, is_called, mean, stored_trials


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home and claims of the committed results."""
    made = tmp_path_factory.mktemp("pages")
    with context_of(Store(ROOT / "results"), made) as context:
        found = study_pages.evidences(context.results)
        rows = claims_page.rows_of(found)
        home_page.write(context, rows)
        claims_page.write(context, rows, study_pages.studies(found))
    return made


def tree(path: Path) -> Element:
    return html5lib.parse(path.read_text(encoding="utf-8"), treebuilder="etree", namespaceHTMLElements=False)


def text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def cells(row: Element) -> list[str]:
    """Texts of a table's row, their parts apart."""
    return [" ".join(" ".join(c.itertext()).split()) for c in row if c.tag in {"th", "td"}]


def of_class(element: Element, name: str) -> list[Element]:
    return [e for e in element.iter() if name in (e.get("class") or "").split()]


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return stored_trials()


@pytest.fixture(scope="module")
def read_off(trials: list[Trial]) -> dict[str, list[Found]]:
    return found_in(trials)


@pytest.fixture(scope="module")
def lead(trials: list[Trial]) -> tuple[list[list[Trial]], float]:
    """The entries of the board that a suite names as the headline, and the size of its attack."""
    suites = [yaml.safe_load(p.read_text()) for p in sorted((ROOT / "suites").glob("*.yaml"))]
    named = {s["suite"]: s["headline"] for s in suites if s.get("role") == "headline"}
    own = [b for b in boards(trials) if b[0][0].suite in named]
    board = max(own, key=lambda b: sum(map(len, b)))
    size = named[board[0][0].suite]["size"]
    return board, round(eval(size) if isinstance(size, str) else size, 9)


def plain(shown: str) -> float:
    return float(shown.replace("−", "-").replace(",", "").replace("+", ""))


#: Digits above a ten, as powers of ten are printed.
POWER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
NUMBER = r"[−+]?(?:[\d.,]*\d(?: × 10[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)?|∞)"


def number(shown: str) -> float:
    """A number as claims print it."""
    if "∞" in shown:
        return -math.inf if shown.startswith("−") else math.inf
    if match := re.fullmatch(r"(?:(.+) × )?10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", shown):
        return plain(match[1] or "1") * 10.0 ** int(match[2].translate(POWER))
    return plain(shown)


def same(shown: float, own: float) -> bool:
    """Up to the three digits that are printed."""
    if math.isinf(own) or math.isinf(shown):
        return shown == own
    return abs(shown - own) <= 0.00501 * abs(own) + 1e-12


def test_the_standings_are_the_means_of_the_stored_bits(folder, lead) -> None:
    board, size = lead
    (table,) = of_class(tree(folder / "index.html"), "standings")
    rows = [cells(tr) for tr in table.iter("tr")][1:]
    assert len(rows) == len(board)
    for label, _, clean, _, robust in rows:
        (entry,) = (e for e in board if is_called(e, label))
        assert clean == f"{100 * mean([t.clean for t in entry]):.2f}"
        assert robust == f"{100 * mean([t.worst[size] for t in entry]):.2f}"
    shown = [float(r[2]) for r in rows]
    assert shown == sorted(shown, reverse=True)


def test_the_answer_names_the_leader_the_margin_and_how_sure_it_is(folder, lead) -> None:
    board, size = lead
    home = tree(folder / "index.html")
    sentences = [text(p) for p in of_class(home, "answers")]
    details = [text(p) for p in of_class(home, "details")]
    for value, said, more in zip((lambda t: t.clean, lambda t: t.worst[size]), sentences, details, strict=False):
        values = [{t.seed: value(t) for t in entry} for entry in board]
        ranking = rank(values, 1e-3)
        means = [s.mean for s in ranking.standings]
        first = int(np.argmax(means))
        others = [i for i in range(len(board)) if board[i][0].spec["norm_label"] != board[first][0].spec["norm_label"]]
        second = max(others, key=lambda i: means[i])
        ahead, low, high = (
            float(v.replace("−", "-"))
            for v in re.search(r"by ([\d.]+) points: (?:not )?certain, \[(\S+), (\S+)\]", said).groups()
        )
        assert ahead == pytest.approx(100 * (means[first] - means[second]), abs=0.051)
        a, b = (ranking.standings[i].interval for i in (first, second))
        assert (low, high) == pytest.approx((100 * (a.low - b.high), 100 * (a.high - b.low)), abs=0.051)
        assert ("not certain" in said) == (low <= 0)
        assert f"{board[first][0].spec['norm_label']} leads {board[second][0].spec['norm_label']} by" in said
        assert f"has {100 * means[first]:.2f} %" in more
        tied = sum(s.rank.best == 1 for s in ranking.standings) - 1
        assert f"{tied} of the {len(board) - 1} others" in more


def test_the_scope_is_that_of_the_specification(folder, lead) -> None:
    board, _ = lead
    spec = board[0][0].spec
    said = text(of_class(tree(folder / "index.html"), "lede")[0])
    side, images = spec["data"]["image_size"], spec["data"]["train_examples"]
    for part in (
        f"{side}×{side} ",
        f"{images:,} of ",
        f"{spec['data']['test_examples']:,} of ",
        f"{spec['train']['epochs']} epochs",
    ):
        assert part in said
    assert f"{len(board[0])} seeds" in said


def counts_in(said: str) -> dict[str, int]:
    words = {"holds?": "holds", "holds? in part": "part", "refuted": "refuted", "undecided": "undecided"}
    words["not tested"] = "untested"
    found = {}
    for pattern, css in words.items():
        match = re.search(rf"(\d+) {pattern}(?! in part)\b", said)
        found[css] = int(match[1]) if match else 0
    return found


def verdicts(section: Element) -> dict[str, int]:
    own = [(a.get("class") or "").split() for a in section.iter("article")]
    return {css: sum(f"is-{css}" in c for c in own) for css in ("holds", "part", "refuted", "undecided", "untested")}


def test_counts_of_claims_are_those_of_their_rows(folder) -> None:
    home, claims = tree(folder / "index.html"), tree(folder / "claims.html")
    every = verdicts(claims)
    assert counts_in(text(of_class(home, "answers")[-1])) == every
    assert f"Of {sum(every.values())} claims" in text(of_class(home, "answers")[-1])
    decided = sum(every[k] for k in ("holds", "part", "refuted"))
    assert f"{sum(every.values())} claims about normalization. {decided} of them" in text(of_class(claims, "lede")[0])
    sections = {s.get("id"): s for s in claims.iter("section") if (s.get("id") or "").startswith("theme-")}
    cards = of_class(home, "card")
    assert len(cards) == len(sections)
    for card in cards:
        theme = next(a.get("href").partition("#")[2] for a in card.iter("a"))
        assert counts_in(" ".join(of_class(card, "vcounts")[0].itertext())) == verdicts(sections[theme])
        for lead in card.iter("li"):
            link = next((a for a in lead.iter("a")), None)
            shown = [text(n) for n in of_class(lead, "number")]
            if link is not None and shown:
                (row,) = (a for a in claims.iter("article") if a.get("id") == link.get("href").partition("#")[2])
                assert shown == [text(of_class(row, "number")[0])]


def numbers_of(article: Element) -> list[Found]:
    """(of what, value, low, high) of each number of a claim."""
    rows = [cells(tr) for tr in article.iter("tr")][1:]
    decides = of_class(article, "decides")[0]
    shown = [(r[0], r[-2]) for r in rows] or [
        (text(p).partition(f": {text(n)}")[0], text(n)) for p in decides.iter("p") for n in of_class(p, "number")
    ]
    found = []
    for what, said in shown:
        match = re.match(rf"({NUMBER})(?: \[({NUMBER}), ({NUMBER})\])?", said)
        value = number(match[1])
        found.append((what, value, *(number(v) if v else value for v in match.group(2, 3))))
    return found


def test_numbers_of_computed_claims_are_the_recorded_ones(folder) -> None:
    record = json.loads(RECORD.read_text())
    articles = {a.get("id"): a for a in tree(folder / "claims.html").iter("article")}
    for name, row in record.items():
        shown = numbers_of(articles[name])
        assert len(shown) == len(row["parts"]), name
        for (what, *values), part in zip(shown, row["parts"], strict=True):
            own = [part["value"], *((part["low"], part["high"]) if part["n"] else [part["value"]] * 2)]
            assert all(same(a, b) for a, b in zip(values, own, strict=True)), (name, what, values, own)
        said = set()
        for part in row["parts"]:
            low, high = (v if v is not None else s * math.inf for v, s in zip(part["claimed"], (-1, 1), strict=True))
            inside = low <= part["low"] and part["high"] <= high
            said.add("holds" if inside else "refuted" if part["high"] < low or high < part["low"] else "open")
        verdict = {frozenset({"holds"}): "holds", frozenset({"open"}): "undecided"}.get(
            frozenset(said), "part" if "holds" in said else "refuted"
        )
        assert f"is-{verdict}" in articles[name].get("class"), name


def words(label: str) -> set[str]:
    return set(re.findall(r"[^ |·:,()=\[\]]+", label))


def test_numbers_of_claims_that_are_read_off_results_are_found_in_the_stored_bits(folder, read_off) -> None:
    record = json.loads(RECORD.read_text())
    unknown, seen = [], 0
    for article in tree(folder / "claims.html").iter("article"):
        name = article.get("id")
        if name in record or "is-untested" in article.get("class"):
            continue
        for what, *values in numbers_of(article):
            own = read_off.get(name, [])
            # Of a slope the interval is drawn at random: its middle is what is found again.
            fitting = [
                o
                for o in own
                if all(same(a, b) or math.isnan(b) for a, b in zip(values, o[1:], strict=True))
                and words(o[0]) <= words(what)
            ]
            seen += 1
            if not fitting:
                unknown.append((name, what, values))
    assert seen > 50
    assert unknown == []


def test_the_first_page_is_small(folder) -> None:
    sent = [folder / "index.html", *(shipped("site", "assets", n) for n in ("style.css", "findings.css", "theme.js"))]
    assert sum(len(gzip.compress(p.read_bytes())) for p in sent) < 60_000
