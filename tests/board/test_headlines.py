"""What a board is ranked by, and which boards say who is the best: decided by the suite or by a rule, by no result."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import normbench
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.board import Board, boards, boards_json
from normbench.cli.main import app
from normbench.pages import boards_pages
from normbench.plan.plan import make
from normbench.spec.about import About, Headline, Role
from normbench.spec.outcome import AttackResult, Outcome, Status
from normbench.spec.trial import Component, Trial
from normbench.store import about
from normbench.store.merge import export, merge
from normbench.store.schema import to_row
from normbench.store.store import Store
from normbench.store.verify import verify
from normbench.suite import SuiteError, expand, load, searches
from normbench.suite import about as says
from normbench.suite._load import read
from typer.testing import CliRunner

from tests.site import synthetic
from tests.site.conftest import fill, pages_of, write_home

ROOT = Path(normbench.__file__).parents[2]
#: Attack, threat and sizes, as a suite may list them.
Listed = Sequence[tuple[str, str, Sequence[float]]]
BIM, PGD = ("bim[steps=20]", "linf", (1 / 255, 2 / 255, 4 / 255)), ("pgd", "linf", (1 / 255, 2 / 255, 4 / 255))
NOISE, L2 = ("noise", "noise", (0.1, 0.2)), ("pgd-l2", "l2", (0.25, 0.5))


def attacked(listed: Listed, seed: int = 0, **abouts: About) -> Board:
    """The board of two methods under these attacks; `seed` decides their numbers."""
    rng = np.random.default_rng(seed)

    def outcome(trial: Trial) -> Outcome:
        results = []
        for attack, threat, sizes in listed:
            for size in sizes:
                bits = rng.random(40) < rng.random()
                results.append(
                    AttackResult(
                        attack=attack,
                        threat=threat,
                        size=size,
                        correct=int(bits.sum()),
                        total=40,
                        seconds=0,
                        model_calls=0,
                        outcomes=np.packbits(bits).tobytes(),
                    )
                )
        return Outcome(status=Status.OK, clean_correct=40, test_total=40, attacks=tuple(results), started=1.0)

    components = tuple(Component(name=a.partition("[")[0], params={}) for a, _, _ in listed)
    trials = [
        synthetic.trial(norm, s).model_copy(update={"attacks": components}) for norm in ("bn", "gn") for s in (0, 1)
    ]
    (board,) = boards(
        (to_row(suite, t, synthetic.identity(t), outcome(t)) for suite in (abouts or {"demo": None}) for t in trials),
        abouts=abouts,
    )
    return board


@pytest.mark.parametrize(
    ("listed", "headline"),
    [
        ([NOISE], "noise@0.1"),
        ([NOISE, BIM], f"bim[steps=20]@{2 / 255:.9g}"),
        ([NOISE, L2, BIM], "pgd-l2@0.25"),
        ([BIM, L2, NOISE], f"bim[steps=20]@{2 / 255:.9g}"),
        ([L2, ("ddn", "l2", (0.25, 0.5)), BIM], "worst-l2@0.25"),
        ([L2, ("ddn", "l2", (0.25, 0.5)), BIM, PGD], f"worst-linf@{2 / 255:.9g}"),
        ([("square", "linf", (1 / 255, 2 / 255, 3 / 255, 4 / 255)), NOISE], f"square@{2 / 255:.9g}"),
    ],
)
def test_without_a_named_headline_the_rule_is_the_one_that_is_stated(listed: Listed, headline: str) -> None:
    found = attacked(listed).headline("robust")
    assert found is not None
    assert found.key == headline
    assert "middle one of its sizes" in " ".join((Board.headline.__doc__ or "").split())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_no_result_has_a_say_in_the_headline(seed: int) -> None:
    found = attacked([NOISE, BIM, PGD, L2], seed).headline("robust")
    assert found is not None
    assert found.key == f"worst-linf@{2 / 255:.9g}"


def test_a_suite_names_its_headline() -> None:
    named = About(headline=Headline(attack="bim[steps=20]", size=4 / 255))
    board = attacked([NOISE, BIM, PGD], demo=named)
    assert (board.headline("robust") or board.metrics[0]).label == "bim[steps=20] 4/255"
    (told,) = boards_json([board])
    assert (told["headline"], told["headline_named"], told["role"]) == (f"bim[steps=20]@{4 / 255:.9g}", True, "study")
    elsewhere = About(headline=Headline(attack="square", size=4 / 255))  # of which no trial has a number
    assert (attacked([NOISE, BIM, PGD], demo=elsewhere).headline("robust") or board.metrics[0]).attack == "worst case"


def test_of_several_suites_the_foremost_speaks() -> None:
    example = About(role=Role.EXAMPLE, headline=Headline(attack="noise", size=0.1))
    front = About(role=Role.HEADLINE, headline=Headline(attack="pgd", size=1 / 255))
    board = attacked([NOISE, BIM, PGD], a_smoke=example, b_main=front)
    assert board.suites == ("a_smoke", "b_main")
    assert (board.role, board.named) == (Role.HEADLINE, f"pgd@{1 / 255:.9g}")
    assert attacked([NOISE, BIM, PGD], a_smoke=example, b_main=About()).named == "noise@0.1"


def test_headlines_stand_in_front_and_examples_never_contend() -> None:
    def board(role: Role, seeds: int) -> Board:
        rows = [
            to_row("demo", t, synthetic.identity(t), synthetic.outcome(t))
            for t in synthetic.grid(["bn", "gn"], seeds=seeds, weight_decays=[0])
        ]
        (made,) = boards(rows, abouts={"demo": About(role=role)})
        return made

    assert [board(r, 3).contends for r in (Role.HEADLINE, Role.STUDY, Role.EXAMPLE)] == [True, True, False]
    assert not any(board(role, seeds).contends for role in Role for seeds in (1, 2))
    last_first = [board(Role.EXAMPLE, 5), board(Role.STUDY, 2), board(Role.STUDY, 3), board(Role.HEADLINE, 3)]
    places = [b.prominence for b in last_first]
    assert all(behind < before for behind, before in itertools.pairwise(places))


def test_the_front_page_names_no_winner_of_an_example_or_of_too_few_seeds(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for suite, role, batch, seeds in (
        ("front", Role.HEADLINE, 16, 3),
        ("study", Role.STUDY, 32, 3),
        ("smoke", Role.EXAMPLE, 64, 4),
        ("single", Role.HEADLINE, 128, 1),
    ):
        fill(store.root, list(synthetic.grid(["bn", "gn"], seeds, [0], batch_size=batch)), suite)  # type: ignore[arg-type]
        about.keep(store, suite, About(role=role))
    page = (pages_of(store, tmp_path / "site", write_home) / "index.html").read_text()
    front, _, others = page.partition('<h2 id="boards">Other boards</h2>')
    assert [f"batch {b}<" in front for b in (16, 32, 64, 128)] == [True, False, False, False]
    assert [f"batch {b}<" in others for b in (16, 32, 64, 128)] == [False, True, True, True]
    assert others.count("has the highest clean accuracy") == 1
    assert "example" in others
    assert "fewer than 3 seeds" in others


def test_the_page_says_by_what_a_board_is_ranked(tmp_path: Path) -> None:
    store = fill(tmp_path / "results", list(synthetic.grid(["bn", "gn"], 3, [0])))
    by_rule = (pages_of(store, tmp_path / "a", boards_pages.write) / "robustness.html").read_text()
    assert "Ranked by accuracy under BIM (20 steps) at 1/255, by rule." in by_rule
    about.keep(store, "demo", About(headline=Headline(attack="bim[steps=20]", size=4 / 255)))
    named = (pages_of(store, tmp_path / "b", boards_pages.write) / "robustness.html").read_text()
    assert "Ranked by accuracy under BIM (20 steps) at 4/255, as the suite names it." in named
    assert "at the middle one of its sizes. No result has a say in that." in named


# ---- suite files, and what stands beside results ----

SUITE = """suite: x
data: {dataset: digits}
models: [resnet18]
norms: [bn]
attacks: [{bim: {eps: [1/255, 2/255]}}, {pgd: {eps: [2/255, 4/255]}}, {pgd: {eps: 2/255, steps: 3}}, noise]
"""


@pytest.mark.parametrize(
    ("written", "attack", "size"),
    [
        ("{attack: worst-linf, size: 2/255}", "worst-linf", 2 / 255),
        ("{attack: bim, size: 1/255}", "bim", 1 / 255),
        ("{attack: 'pgd[steps=3]', size: 0.00784313725}", "pgd[steps=3]", 2 / 255),
    ],
)
def test_a_suite_file_names_role_and_headline(written: str, attack: str, size: float) -> None:
    suite = read(f"{SUITE}role: headline\nheadline: {written}\n".encode(), Path("x.yaml"))
    assert says(suite) == About(role=Role.HEADLINE, headline=Headline(attack=attack, size=size))
    plain = read(SUITE.encode(), Path("x.yaml"))
    assert says(plain) == About()
    assert [t.trial_id for t in expand(suite)] == [t.trial_id for t in expand(plain)], "no part of a trial"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("role: exampel", "role: expected one of headline, study, example, found 'exampel'; did you mean 'example'?"),
        ("headline: worst-linf", "headline: expected a mapping of keys (attack, size), found 'worst-linf'"),
        ("headline: {attack: bim}", "headline: the key 'size' is missing"),
        ("headline: {attack: bim, size: 0}", "headline.size: expected a number above 0, found 0"),
        (
            "headline: {attack: bim, size: 3/255}",
            "headline.size: bim has no size 3/255 in this suite; it has 1/255, 2/255",
        ),
        (
            "headline: {attack: worst-linf, size: 4}",
            "headline.size: worst-linf has no size 4 in this suite; it has 2/255, 4/255",
        ),
        (
            "headline: {attack: worst-l2, size: 1}",
            "headline.attack: the suite has no attack called 'worst-l2'; there are worst-linf, bim, pgd, pgd[steps=3], "
            "noise; did you mean 'worst-linf'?",
        ),
    ],
)
def test_a_headline_that_the_suite_does_not_have_is_refused(line: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        read(f"{SUITE}{line}\n".encode(), Path("x.yaml"))
    assert str(caught.value) == f"x.yaml:6: {message}"


def test_a_name_that_several_attacks_have_is_ambiguous() -> None:
    two = SUITE.replace("{pgd: {eps: [2/255, 4/255]}}", "{pgd: {eps: 2/255, steps: 4}}")
    with pytest.raises(SuiteError, match=r"'pgd' could be pgd\[steps=4\] or pgd\[steps=3\]; write one of them"):
        read(f"{two}headline: {{attack: pgd, size: 2/255}}\n".encode(), Path("x.yaml"))


def test_a_run_keeps_what_its_suite_says_and_the_board_reads_the_file(tmp_path: Path) -> None:
    """A run of committed results, which has nothing to train: what it leaves beside them, and what a later edit of the
    suite changes.
    """
    shutil.copytree(ROOT / "results" / "digits", tmp_path / "results" / "digits")
    (tmp_path / "results" / "digits" / about.FILE).unlink()
    text = (ROOT / "suites" / "digits.yaml").read_text()
    named = text.replace("role: example", "role: study\nheadline: {attack: noise, size: 0.4}")
    path = tmp_path / "digits.yaml"
    path.write_text(named)
    options = [str(path), "--results", str(tmp_path / "results")]
    ran = CliRunner().invoke(app, ["run", *options, "--accept-versions", "--site", str(tmp_path / "site")])
    assert ran.exit_code == 0, ran.output
    assert "15 cached" in ran.output
    kept = json.loads((tmp_path / "results" / "digits" / about.FILE).read_text())
    assert (kept["role"], kept["headline"]) == ("study", {"attack": "noise", "size": 0.4})
    assert list(kept["datasets"].values()) == [{"train": 1437, "test": 360, "side": 8}]

    def headline() -> str:
        told = CliRunner().invoke(app, ["board", *options, "--json"])
        return str(json.loads(told.output)[0]["headline"])

    assert headline() == "noise@0.4"
    path.write_text(named.replace("size: 0.4", "size: 0.1"))
    assert headline() == "noise@0.1"


def test_merging_and_exporting_take_along_what_a_suite_says(tmp_path: Path) -> None:
    trials = list(synthetic.grid(["bn"], seeds=1, weight_decays=[0]))
    ours, theirs = (fill(tmp_path / name, trials) for name in ("ours", "theirs"))
    images = {k: {"train": 9, "test": 3, "side": 8} for k in ("a", "b")}
    about.keep(theirs, "demo", About.model_validate({"role": "headline", "datasets": images}))
    new = Store(tmp_path / "new")
    export(theirs, new)
    assert about.read(new, "demo") == about.read(theirs, "demo")
    about.keep(ours, "demo", About.model_validate({"role": "example", "datasets": {"a": images["a"]}}))
    merge(theirs, ours)
    assert about.read(ours, "demo") == About.model_validate({"role": "example", "datasets": images})


def test_a_file_that_says_nothing_is_named_and_leaves_the_results_alone(tmp_path: Path) -> None:
    store = fill(tmp_path / "results", list(synthetic.grid(["bn"], seeds=1, weight_decays=[0])))
    path = tmp_path / "results" / "demo" / about.FILE
    for broken in ("no JSON", '{"role": "best"}', "[]"):
        path.write_text(broken)
        assert about.read(store, "demo") == About()
        good, findings = verify(Store(tmp_path / "results"))
        assert (good, [f.path for f in findings]) == (1, [str(path)])
    path.write_text('{"role": "example", "of a later version": 1}')
    assert about.read(store, "demo").role is Role.EXAMPLE
    about.keep(store, "demo", About(role=Role.STUDY))
    assert verify(Store(tmp_path / "results")) == (1, [])


def test_committed_results_say_what_the_committed_suites_say() -> None:
    store = Store(ROOT / "results")
    contents = {s: {r["content"] for r in store.rows([s], ["content"])} for s in store.suites()}
    for suite, there in contents.items():
        written, kept = says(load(ROOT / "suites" / f"{suite}.yaml")), about.read(store, suite)
        assert kept.model_copy(update={"datasets": {}}) == written
        assert set(kept.datasets) & there
    narrow = about.read(store, "cifar-narrow")
    assert (narrow.role, narrow.headline) == (Role.HEADLINE, Headline(attack="worst-linf", size=2 / 255))
    assert about.read(store, "cifar-smoke").role is Role.EXAMPLE


def test_a_plan_knows_what_its_datasets_hold(tmp_path: Path) -> None:
    suite = load(ROOT / "suites" / "digits-tuned.yaml")
    plan = make(suite.name, [], Store(tmp_path), None, searches=searches(suite))
    assert [i.model_dump() for i in plan.datasets.values()] == [{"train": 1437, "test": 360, "side": 8}]
    assert set(plan.datasets) == {r["content"] for r in Store(ROOT / "results").rows(["digits"], ["content"])}
