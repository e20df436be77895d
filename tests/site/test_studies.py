"""Pages of studies: there when results answer a question, held to what all pages are held to, and safe with any
name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import html5lib
import normbench.attacks as attacks
import normbench.measures as measures
import pytest
from normbench.pages import build
from normbench.spec.outcome import AttackResult, Reading
from normbench.spec.trial import Component, Trial
from normbench.store.store import Store

from tests.matrix import sample
from tests.site import synthetic, test_browser, test_pages
from tests.site.conftest import HOSTILE, once

#: The site that they look at takes half a minute.
pytestmark = pytest.mark.matrix

STAGES = (16, 16, 32, 64)


def write(
    store: Store, trial: Trial, *, suite: str, clean: float = 0.9, lost: bool = False, disturbance: float | None = None
) -> None:
    """A trial with a second attack, so that there is a worst case, with the channels of its norms, and with readings of
    the measures that studies ask for.
    """
    if lost:
        store.write(suite, trial, synthetic.identity(trial), synthetic.failure(trial, reason=HOSTILE[0]))
        return
    outcome = synthetic.outcome(trial, quality=(clean, 0.5, 3.0))
    second = [
        AttackResult(**a.model_dump() | {"attack": "square[queries=500]"})
        for a in outcome.attacks
        if a.threat == "linf"
    ]
    readings = list(outcome.curves)
    for quantity, value in (("disturbance.mean", disturbance), ("rescaling.clean@10", clean)):
        if value is not None:
            readings.append(Reading(step=120, epoch=6, measure=quantity, value=value))
    channels = [{"name": f"bn{i}", "channels": round(c * trial.model.width)} for i, c in enumerate(STAGES)]
    updated = {
        "attacks": (*outcome.attacks, *second),
        "curves": tuple(readings),
        "audit": outcome.audit | {"replaced": channels},
    }
    store.write(suite, trial, synthetic.identity(trial), outcome.model_copy(update=updated))


def grid(
    norms: Sequence[str], widths: Sequence[float], batches: Sequence[int], seeds: int, **spec: str
) -> Iterator[tuple[Trial, float, bool]]:
    """Batch by width for each norm; the best batch is the width, and the first norm is lost in the narrowest network at
    the largest batch.
    """
    for norm in norms:
        for width in widths:
            for batch in batches:
                for seed in range(seeds):
                    clean = 0.93 - 0.01 * (math.log2(batch) - math.log2(16 * width)) ** 2
                    lost = (norm, width, batch) == (norms[0], widths[0], batches[-1])
                    yield synthetic.trial(norm, seed, width=width, batch_size=batch, **spec), clean, lost


def fill(root: Path) -> Store:
    store = Store(root)
    for trial, clean, lost in grid(["bn", "gn"], (0.5, 1.0, 2.0), (4, 8, 16, 32, 64), seeds=3):
        write(store, trial, suite="batch_width", clean=clean, lost=lost)
    for trial in synthetic.grid(["bn", "gn", "ln", "wn", "in", "none"], dataset="cifar10", model="resnet50", epochs=5):
        write(store, trial, suite="paper", lost=trial.norm_label == "ln" and trial.seed == 1)
    for i, norm in enumerate(["bn", "bw-zca", "bw-cd", "bw-pca"]):
        for seed in range(3):
            trial = synthetic.trial(norm, seed, model="resnet26")
            trial = trial.model_copy(update={"measures": (*trial.measures, Component(name="disturbance"))})
            write(store, trial, suite="whitening", disturbance=2.0**i * (1 + 0.02 * seed))
    return store


def fill_hostile(root: Path) -> Store:
    store = Store(root)
    for trial, clean, lost in grid(HOSTILE, (0.5, 1.0), (8, 16, 32), seeds=2, model=HOSTILE[0], dataset=HOSTILE[1]):
        write(store, trial, suite="hostile", clean=clean, lost=lost)
    return store


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "studied", fill)


@pytest.fixture(scope="module")
def hostile_studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "hostile-studies", fill_hostile)


@pytest.fixture(params=sample(["studied", "hostile_studies"], ["studied"]))
def built(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_each_question_that_the_results_answer_has_a_page(studied):
    pages = sorted(p.name for p in studied.glob("study-*.html"))
    assert pages == [
        "study-batch-width-batch-width.html",
        "study-bim-worst-case-batch-width.html",
        "study-bim-worst-case-paper.html",
        "study-bim-worst-case-whitening.html",
        "study-paper-paper.html",
        "study-stochasticity-whitening.html",
        "study-weight-decay-paper.html",
    ]
    index = (studied / "studies.html").read_text()
    assert all(f'href="{p}"' in index for p in pages)
    assert 'href="studies.html"' in (studied / "index.html").read_text()


def test_without_an_answer_there_is_no_page_and_no_link(site, empty, lonely):
    for folder in (empty, lonely):
        assert not list(folder.glob("stud*.html"))
        assert "studies.html" not in (folder / "index.html").read_text()
    assert [p.name for p in site.glob("study-*.html")] == ["study-weight-decay-demo.html"]


@pytest.mark.matrix
def test_too_few_seeds_are_not_tested_and_the_page_says_why(hostile_studies):
    (path,) = hostile_studies.glob("study-batch-width-*.html")
    text = path.read_text()
    assert re.search(r'<p class="verdict">.*?</svg>Not tested</span></p>', text)
    assert "not tested: 2 seeds, 3 needed" in text
    assert "<strong>not tested</strong>" in (hostile_studies / "studies.html").read_text()


def test_a_page_shows_verdict_numbers_charts_and_failures(studied):
    text = (studied / "study-batch-width-batch-width.html").read_text()
    assert re.search(r'<p class="verdict">.*?</svg>(Yes|No|Cannot be told)</span></p>', text)
    assert re.search(r"slope \d\.\d+ \[", text)
    assert text.count('role="img"') == 3
    assert "Trials without a number: 3" in text
    assert "<script>alert(1)</script>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert re.search(r'href="trials/[0-9a-f]{16}\.html"', text)
    assert "Clean accuracy, weights times 10" in (studied / "study-weight-decay-paper.html").read_text()


def test_pages_are_held_to_what_all_pages_are(built):
    test_pages.test_html_has_no_parse_errors(built)
    test_pages.test_no_dead_link_no_id_twice_nothing_from_elsewhere(built)
    test_pages.test_every_page_has_a_strict_policy_before_anything_loads(built)
    test_pages.test_file_names_are_safe_and_unique_ignoring_case(built)


@pytest.mark.matrix
def test_the_same_results_give_the_same_pages(tmp_path, hostile_studies):
    again = build(fill_hostile(tmp_path / "results"), tmp_path / "again").parent
    pages = [p.name for p in hostile_studies.glob("stud*.html")]
    assert len(pages) == 3
    assert [p for p in pages if (hostile_studies / p).read_bytes() != (again / p).read_bytes()] == []


@pytest.mark.parametrize("scheme", sample(["light", "dark"], ["light"]))
def test_in_a_browser_pages_fit_a_phone_load_clean_and_axe_finds_nothing(browser, built, scheme):
    with test_browser.opened(browser, viewport=test_browser.PHONE, color_scheme=scheme, bypass_csp=True) as (
        page,
        troubles,
    ):
        for path in sorted(built.glob("stud*.html")):
            test_browser.visit(page, path)
            assert page.evaluate("document.documentElement.scrollWidth") <= test_browser.PHONE["width"], path.name
            assert troubles == [], path.name
            page.evaluate(test_browser.AXE)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            assert [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found["violations"]] == [], path.name
            troubles.clear()  # axe asks for the style sheet, which a page from the disk may not


def test_without_javascript_everything_is_there(browser, studied):
    with test_browser.opened(browser, java_script_enabled=False) as (page, troubles):
        for path in sorted(studied.glob("study-*.html")):
            test_browser.visit(page, path)
            assert page.locator("table tbody tr").count() > 0
            assert page.locator("figure svg[role=img]").count() > 0, path.name
        assert troubles == []


#: Keys of quantities, attacks with their parameters as results name them, and balls.
RAW = re.compile(
    rf"\b(?:{'|'.join(measures.registry.names())}|train|validation)\.[a-z][\w-]*|growth:"
    rf"|\b(?:{'|'.join(attacks.registry.names())})\[|\bworst case l|\[layers="
)


def shown(page: Path) -> str:
    """Text of a page that a reader sees, without what is meant for programs."""
    tree = html5lib.parse(page.read_text(encoding="utf-8"), treebuilder="etree", namespaceHTMLElements=False)
    for parent in tree.iter():
        for child in list(parent):
            if child.tag in {"pre", "code", "script", "style"}:
                child.text = ""
                for inner in list(child):
                    child.remove(inner)
    return " ".join(" ".join(tree.itertext()).split())


def test_no_page_shows_the_key_of_a_quantity_or_an_attack(studied: Path, site: Path) -> None:
    pages = [p for folder in (studied, site) for p in test_pages.pages(folder) if p.name != "contribute.html"]
    assert len(pages) > 50
    assert {p.name: found[:3] for p in pages if (found := RAW.findall(shown(p)))} == {}


def test_findings_stand_in_a_plot_and_tables_are_closed(studied: Path) -> None:
    page = next(studied.glob("study-paper-*.html")).read_text()
    assert page.count('class="table forest"') == 6
    assert page.count("<details><summary>") >= 4
    assert 'class="v v-' in page
    index = (studied / "studies.html").read_text()
    assert index.count('<section class="card"') == 5
    assert 'href="claims.html#decay-bim"' in index
