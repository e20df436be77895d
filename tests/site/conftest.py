"""Sites built once from synthetic results, and a headless Chromium where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from normbench.pages import build, claims_page, home_page, study_pages
from normbench.pages.context import Context
from normbench.pages.press import Press
from normbench.pages.results import load
from normbench.pages.writer import Writer, environment
from normbench.paths import checkout
from normbench.spec.outcome import HealthCheck, Status
from normbench.spec.trial import Trial
from normbench.store import costs as files
from normbench.store.store import Store

from tests.conftest import shared_folder
from tests.site import synthetic

#: Debian's, found by name; browsers that playwright would download are not used.
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

#: Names that nobody should choose, and that results or plug-ins may carry all the same.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "</script><script>alert(2)</script>",
    "{{ 7 * 7 }}",
    "=cmd|' /C calc'!A0",
    "x" * 300,
    "gn",
    "GN",
    "שלום עולם ‮evil‬",
    "nul\x07bell",
    "a~b&c=d#e%20",
)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Store]) -> Path:
    """A site, built by the first of all test processes that asks for it. make: fills a folder with results."""
    shared = shared_folder(factory)
    target = shared / f"site-{name}"
    with FileLock(f"{target}.lock"):
        if not target.exists():
            built = build(make(shared / f"results-{name}"), shared / f"building-{name}").parent
            built.rename(target)
    return target


class Frame(str):
    """What stands around a page's content and holds no number of the boards: empty, whatever is asked of it."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


@contextmanager
def context_of(store: Store, folder: Path) -> Iterator[Context]:
    """What the pages of these results need, to write single ones of them into a folder."""
    with Press() as press:
        yield Context(load(store, None), Writer(folder, {"site": Frame()}, environment()), press)


def pages_of(store: Store, folder: Path, *writes: Callable[[Context], None]) -> Path:
    """These pages alone of a site, in a folder."""
    with context_of(store, folder) as context:
        for write in writes:
            write(context)
    return folder


def write_home(context: Context) -> None:
    home_page.write(context, claims_page.rows_of(study_pages.evidences(context.results)))


def fill(root: Path, trials: list[Trial], suite: str = "demo") -> Store:
    """A store of synthetic outcomes; spectral norm with weight decay diverges, batch norm at batch size 1 is an error,
    and one run of `none`, made by other code, fails a health check.
    """
    store = Store(root)
    for trial in trials:
        if trial.norm_label == "sn" and trial.train.weight_decay:
            outcome = synthetic.failure(trial)
        elif trial.norm_label == "bn" and trial.batch_size == 1:
            outcome = synthetic.failure(trial, Status.ERROR, "Expected more than 1 value per channel")
        else:
            outcome = synthetic.outcome(trial)
            masked = trial.norm_label == "none" and trial.seed == 1
            check = HealthCheck(check="gradients", passed=not masked, evidence="40 of 64 images have a zero gradient")
            outcome = outcome.model_copy(update={"health": (check,)})
        other = trial.norm_label == "none" and trial.seed == 1
        code = {"code": {"normbench.norms.none": "0" * 16}} if other else {}
        store.write(suite, trial, synthetic.identity(trial) | code, outcome)
    return store


def fill_site(root: Path) -> Store:
    trials = [
        *synthetic.grid(["bn", "gn", "wn", "ws+gn", "sn", "none"]),
        *synthetic.grid(["bn", "gn"], seeds=2, weight_decays=[0], batch_size=1),
        *synthetic.grid(["bn", "gn"], seeds=3, weight_decays=[0], dataset="cifar10-jpeg", model="resnet50"),
    ]
    store = fill(root, trials)
    files.keep(store, synthetic.costs(["bn", "gn", "elsewhere"]))
    return store


def fill_hostile(root: Path) -> Store:
    trials = [
        t
        for name in HOSTILE
        for t in synthetic.grid([name], seeds=2, weight_decays=[0], model=HOSTILE[0], dataset=HOSTILE[1])
    ]
    store = fill(root, trials)
    broken = synthetic.trial(HOSTILE[0], 9, model=HOSTILE[0], dataset=HOSTILE[1])
    store.write("demo", broken, synthetic.identity(broken), synthetic.failure(broken, Status.ERROR, HOSTILE[3]))
    files.keep(store, synthetic.costs(["bn", *HOSTILE], device=HOSTILE[1]))
    return store


def fill_tuned(root: Path) -> Store:
    """Two suites that tuned: one with few settings, one with more than get a column, and names that nobody should
    choose.
    """
    store = fill(root, [synthetic.trial(n, s, lr=lr) for n, lr in (("bn", 0.3), ("gn", 0.1)) for s in range(3)])
    for norm, scores in {"bn": (0.7, 0.8, 0.9), "gn": (0.6, 0.8, None), "ln": (None, None, None)}.items():
        for lr, accuracy in zip((0.03, 0.1, 0.3), scores, strict=True):
            trial = synthetic.candidate(synthetic.trial(norm), lr)
            outcome = (
                synthetic.tried(trial, accuracy)
                if accuracy
                else synthetic.tried(trial, 0.2, Status.STOPPED if norm == "gn" else Status.DIVERGED, 2)
            )
            store.write("demo", trial, synthetic.identity(trial), outcome)
    for name in (*HOSTILE[:6], "bn"):
        for lr in range(1, 13):
            trial = synthetic.candidate(synthetic.trial(name), lr / 100)
            store.write("many", trial, synthetic.identity(trial), synthetic.tried(trial, 0.5 + lr / 100))
    return store


def fill_lonely(root: Path) -> Store:
    """Two boards of one entry each: one fine with one seed, the other failed with no number at all."""
    return fill(root, [synthetic.trial("gn"), synthetic.trial("bn", batch_size=1)])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "site", fill_site)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "hostile", fill_hostile)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "tuned", fill_tuned)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "empty", Store)


@pytest.fixture(scope="session")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "lonely", fill_lonely)


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the results in the checkout: takes half a minute, for tests of the matrix."""
    return once(tmp_path_factory, "committed", lambda _: Store(checkout() / "results"))


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with sync.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()
