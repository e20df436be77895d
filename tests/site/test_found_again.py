"""Every number on the first page and on that of claims is found again in the committed results: means from the stored
bits, with numpy alone. Intervals come from the rule of the boards, given the values that are found here.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from normbench.board.ranking import differences, rank
from normbench.claims.base import RECORD
from normbench.pages import claims_page, home_page, study_pages
from normbench.paths import shipped
from normbench.store.store import Store

from tests.site.conftest import context_of

ROOT = Path(__file__).parents[2]
#: What decides how long a network trains, and on which images.
BUDGET = ("train_split", "train_examples", "validation")
COLUMNS = ["suite", "stage", "status", "board", "content", "device_class", "precision", "spec", "norm", "seed"]
BITS = ["clean_outcomes", "test_total", "attacks"]
#: Quantities of the curves that claims are read off.
READ = ("weight-norm.raw", "disturbance.relative")


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


@dataclass(frozen=True)
class Trial:
    """A stored row, its bits counted."""

    group: tuple[str, ...]
    """What the trials of one board share."""
    suite: str
    spec: dict[str, Any]
    seed: int
    clean: float
    attacks: dict[tuple[str, float], float]
    """Accuracy by attack and size."""
    worst: dict[float, float]
    """Share of images that withstand every attack within L-infinity up to a size."""
    curves: dict[tuple[str, str], list[float]]

    @property
    def decay(self) -> float:
        return float(self.spec["train"]["weight_decay"])

    def growth(self, layer: str = "") -> float:
        """log2 of the norm of the weights at the end over that at the start."""
        curve = self.curves["weight-norm.raw", layer]
        return math.log2(curve[-1] / curve[0])


def count(packed: bytes, total: int) -> int:
    return int(np.unpackbits(np.frombuffer(packed, np.uint8), count=total).sum())


def worst_of(attacks: Sequence[Mapping[str, Any]]) -> dict[float, float]:
    own = [a for a in attacks if a["threat"] == "linf" and a["outcomes"]]
    found = {}
    for size in {a["size"] for a in own}:
        within = [a for a in own if a["size"] <= size]
        if len({a["attack"] for a in within}) > 1:
            bits = np.bitwise_and.reduce([np.frombuffer(a["outcomes"], np.uint8) for a in within])
            found[round(size, 9)] = count(bits.tobytes(), own[0]["total"]) / own[0]["total"]
    return found


def curves_of(column: pa.ListArray) -> list[dict[tuple[str, str], list[float]]]:
    """Values by quantity and layer, in order."""
    found = []
    for i in range(len(column)):
        readings = column[i].values
        if readings is None:
            found.append({})
            continue
        kept = readings.filter(pc.is_in(readings.field("measure"), pa.array(READ)))
        made: dict[tuple[str, str], list[float]] = {}
        for r in sorted(kept.to_pylist(), key=lambda r: r["step"]):
            made.setdefault((r["measure"], r["layer"]), []).append(r["value"])
        found.append(made)
    return found


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    found = []
    for path in sorted((ROOT / "results").rglob("*.parquet")):
        schema = pq.read_schema(path)
        if "clean_outcomes" not in schema.names:
            continue
        table = pq.read_table(path, columns=[*COLUMNS, *BITS, "curves"])
        curves = curves_of(table["curves"].combine_chunks())
        for row, curve in zip(table.drop_columns(["curves"]).to_pylist(), curves, strict=True):
            if row["stage"] != "final" or row["status"] != "ok" or row["clean_outcomes"] is None:
                continue
            total = row["test_total"]
            spec = {k: v for k, v in json.loads(row["spec"]).items() if k != "seed"}
            found.append(
                Trial(
                    (
                        *(str(row[k]) for k in ("board", "content", "device_class", "precision")),
                        *(str(spec["data"][k]) for k in BUDGET),
                        str(spec["train"]["epochs"]),
                    ),
                    row["suite"],
                    spec,
                    row["seed"],
                    count(row["clean_outcomes"], total) / total,
                    {(a["attack"], a["size"]): count(a["outcomes"], a["total"]) / a["total"] for a in row["attacks"]},
                    worst_of(row["attacks"]),
                    curve,
                )
            )
    assert len(found) > 50
    return found


def boards(trials: Sequence[Trial]) -> list[list[list[Trial]]]:
    """Boards, their entries, their seeds."""
    made: dict[tuple[str, ...], dict[str, list[Trial]]] = {}
    for t in trials:
        made.setdefault(t.group, {}).setdefault(json.dumps(t.spec, sort_keys=True), []).append(t)
    return [[sorted(e, key=lambda t: t.seed) for e in entries.values()] for entries in made.values()]


def is_called(entry: Sequence[Trial], label: str) -> bool:
    """Whether `bn · lr 0.3 · wd 0` is this entry's label."""
    norm, *settings = label.split(" · ")
    train = entry[0].spec["train"]
    said = dict(s.rsplit(" ", 1) for s in settings if " " in s)
    paths = {"wd": train["weight_decay"], "lr": train["lr"], "epochs": train["epochs"]}
    return entry[0].spec["norm_label"] == norm and all(k in paths and float(v) == paths[k] for k, v in said.items())


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


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


Found = tuple[str, float, float, float]


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


def paired(families: Mapping[str, Sequence[float]], factor: float) -> list[Found]:
    """Mean differences with their intervals, all judged at once."""
    made = differences(list(families.values()))
    return [
        (what, factor * d.mean, factor * d.interval.low, factor * d.interval.high)
        for what, d in zip(families, made, strict=True)
        if d.interval
    ]


def printed_columns(board: Sequence[Sequence[Trial]]) -> dict[tuple[str, bool], Sequence[Trial]]:
    """Those of the four methods of the paper's tables that ran without and with weight decay; empty under two."""
    found = {(e[0].spec["norm_label"], e[0].decay > 0): e for e in board}
    both = [m for m in ("bn", "gn", "ln", "wn") if (m, False) in found and (m, True) in found]
    return {(m, d): found[m, d] for m in both for d in (False, True)} if len(both) > 1 else {}


def decay_claims(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    columns = printed_columns(board)
    if not columns or board[0][0].spec["train"]["epochs"] < 5:
        return
    noise, bim = (
        min((key for key in board[0][0].attacks if key[0].partition("[")[0] == kind), key=lambda k: k[1], default=None)
        for kind in ("noise", "bim")
    )
    if noise is None or bim is None:
        return

    def less(value: Any, method: str, *, raised: bool) -> list[float]:
        with_, without = columns[method, True], columns[method, False]
        sign = 1 if raised else -1
        return [sign * (value(a) - value(b)) for a, b in zip(with_, without, strict=True)]

    quantities = {
        "decay-noise": (lambda t: t.attacks[noise], True),
        "decay-bim": (lambda t: t.attacks[bim], True),
        "decay-noise-loss": (lambda t: t.clean - t.attacks[noise], False),
        "decay-bim-loss": (lambda t: t.clean - t.attacks[bim], False),
    }
    judged = paired(
        {
            f"{m.upper()} {name}": less(value, m, raised=raised)
            for m in dict.fromkeys(m for m, _ in columns)
            for name, (value, raised) in quantities.items()
        },
        100.0,
    )
    for name in quantities:
        yield name, [(what.split()[0], *rest) for what, *rest in judged if what.split()[1] == name]
    first = "layer1.0.conv1"
    of = first if ("weight-norm.raw", first) in board[0][0].curves else ""
    grown = {m: [[t.growth(of) for t in columns[m, d]] for d in (False, True)] for m, _ in columns}
    octaves = {f"{m.upper()} growth-without-decay": without for m, (without, _) in grown.items()}
    octaves |= {
        f"{m.upper()} decay-less-growth": [a - b for a, b in zip(*both, strict=True)] for m, both in grown.items()
    }
    made = paired(octaves, 1.0)
    for name in ("growth-without-decay", "decay-less-growth"):
        yield name, [(what.split()[0], *rest) for what, *rest in made if what.split()[1] == name]


def losses(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    """What the largest size of BIM costs each entry."""
    bims = [k for k in board[0][0].attacks if k[0].partition("[")[0] == "bim"]
    if bims:
        key = max(bims, key=lambda k: k[1])
        families = [[t.clean - t.attacks[key] for t in e if key in t.attacks] for e in board]
        for entry, d in zip(board, differences(families), strict=True):
            if d.interval:
                steps = re.sub(r"bim\[steps=(\d+)\]", r"\1 steps", key[0]).removeprefix("bim")
                label = f"{entry[0].spec['norm_label']} | BIM {steps} {round(255 * key[1])}/255"
                yield (
                    "vulnerable-everywhere",
                    [(label, 100 * d.mean, 100 * d.interval.low, 100 * d.interval.high)],
                )


def data_over_weights(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    standings = rank(
        [{t.seed: t.clean for t in e} for e in board], 1 / (board[0][0].spec["data"]["test_examples"] or 360)
    )
    entries = list(zip(board, standings.standings, strict=True))
    for a, mine in entries:
        for b, its in entries:
            norms = a[0].spec["norm_label"], b[0].spec["norm_label"]
            alike = norms[0] == "bn" and norms[1] in {"wn", "cwn", "ws", "sn"} and a[0].decay == b[0].decay
            if alike and mine.interval and its.interval:
                ends = (mine.interval.low - its.interval.high, mine.interval.high - its.interval.low)
                middle = 100 * sum(ends) / 2
                yield "data-over-weights", [(" ".join(norms), middle, 100 * ends[0], 100 * ends[1])]


def fisher(r: float, n: int, *, inflation: float) -> tuple[float, float]:
    half = 1.959964 * inflation / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def places(values: Any) -> Any:
    """Ranks, those of equal values their mean."""
    return np.array([np.mean([np.sum(values < v), np.sum(values <= v) - 1]) for v in values])


def ties(board: Sequence[Sequence[Trial]], robust: Any) -> Iterator[tuple[str, list[Found]]]:
    """Correlations of growth and vulnerability across methods and within them."""
    units = [
        (
            json.dumps(e[0].spec | {"train": e[0].spec["train"] | {"weight_decay": None}}),
            e[0].decay,
            mean([t.growth() for t in e]),
            mean([1 - robust(t) / t.clean for t in e]),
        )
        for e in board
        if all(("weight-norm.raw", "") in t.curves for t in e)
    ]
    least = min((u[1] for u in units), default=0.0)
    across = [u for u in units if u[1] == least]
    paired_ = [u for u in units if sum(v[0] == u[0] for v in units) > 1]
    for where, own, centred in (("across methods without decay", across, False), ("within methods", paired_, True)):
        x, y = np.array([u[2] for u in own]), np.array([u[3] for u in own])
        names = [u[0] for u in own]
        free = len(own) - (len(set(names)) - 1 if centred else 0)
        if free < 5:
            continue
        if centred:
            x, y = (v - np.array([v[[n == m for n in names]].mean() for m in names]) for v in (x, y))
        for name, r in (
            ("Pearson", np.corrcoef(x, y)[0, 1]),
            ("Spearman", np.corrcoef(places(x), places(y))[0, 1]),
        ):
            wider = 1.0 if name == "Pearson" else math.sqrt(1 + r**2 / 2)
            said = f"{name} of growth and vulnerability {where}"
            yield "growth-vulnerability", [(said, float(r), *fisher(float(r), free, inflation=wider))]


def whole(trial: Trial) -> float | None:
    own = trial.curves.get(("disturbance.relative", ""))
    layers = [c[-1] for (name, layer), c in trial.curves.items() if name == "disturbance.relative" and layer]
    return own[-1] if own else mean(layers) if layers else None


def whitening(board: Sequence[Sequence[Trial]]) -> Iterator[tuple[str, list[Found]]]:
    read = {e[0].spec["norm_label"]: [math.log2(v) for t in e if (v := whole(t))] for e in board}
    steps = list(pairwise([m for m in ("bw-pca", "bw-cd", "bw-zca", "bn") if read.get(m)]))
    families = {f"{a} over {b}": [x - y for x, y in zip(read[a], read[b], strict=True)] for a, b in steps}
    for found in paired(families, 1.0):
        yield "snd-order-trained", [found]
    for method in {m.partition("[")[0] for m in read}:
        sized = {
            int(m.partition("group=")[2][:-1]): v for m, v in read.items() if m.startswith(f"{method}[group=") and v
        }
        if len(sized) > 2:
            rise = np.polyfit(np.log2(sorted(sized)), [mean(sized[g]) for g in sorted(sized)], 1)[0]
            yield "snd-groups-trained", [(method, float(rise), math.nan, math.nan)]


def best_batches(trials: Sequence[Trial]) -> list[Found]:
    """Where the parabola through the best batch and its neighbours is largest, on log2 scales, held against the
    channels of the first stage; by the batch of the optimizer and, where that is 64, by that of the norm.
    """
    cells: dict[str, dict[float, dict[int, list[float]]]] = {"bn": {}, "ghost-bn": {}}

    def put(grid: str, t: Trial, batch: int) -> None:
        cells[grid].setdefault(16 * t.spec["model"]["width"], {}).setdefault(batch, []).append(t.clean)

    for t in trials:
        norm, batch = t.spec["norm_label"], t.spec["batch_size"]
        if norm == "bn":
            put("bn", t, batch)
        if batch == 64 and norm.split("[")[0] in {"bn", "ghost-bn"}:
            size = re.search(r"size=(\d+)", norm)
            put("ghost-bn", t, int(size[1]) if size else 16 if norm == "ghost-bn" else 64)
    found = []
    for grid, widths in cells.items():
        peaks = []
        for by_batch in widths.values():
            x, y = np.log2(sorted(by_batch)), [mean(by_batch[b]) for b in sorted(by_batch)]
            best = int(np.argmax(y))
            near = slice(best - 1, best + 2)
            bend, rise, _ = np.polyfit(x[near], y[near], 2) if 0 < best < len(y) - 1 else (-1.0, 2 * x[best], 0.0)
            peaks.append(-rise / (2 * bend))
        channels = np.log2(list(widths))
        found.append((f"slope {grid}", float(np.polyfit(channels, peaks, 1)[0]), math.nan, math.nan))
        found.append((f"over width {grid}", float(np.mean(peaks - channels)), math.nan, math.nan))
    return found


def robust_of(board: Sequence[Sequence[Trial]]) -> Any:
    """The robust accuracy that the suite names; else the worst case at the middle one of its sizes."""
    suite = ROOT / "suites" / f"{board[0][0].suite}.yaml"
    named = (yaml.safe_load(suite.read_text()) if suite.exists() else {}).get("headline")
    sizes = sorted(board[0][0].worst)
    size = round(eval(str(named["size"])), 9) if named else sizes[(len(sizes) - 1) // 2] if sizes else None
    return None if size is None else lambda t: t.worst[size]


@pytest.fixture(scope="module")
def read_off(trials: list[Trial]) -> dict[str, list[Found]]:
    """What the stored bits and curves say, by claim."""
    found: dict[str, list[Found]] = {}
    for board in boards(trials):
        robust = robust_of(board)
        for name, numbers in (
            *decay_claims(board),
            *losses(board),
            *data_over_weights(board),
            *(ties(board, robust) if robust else ()),
            *whitening(board),
        ):
            found.setdefault(name, []).extend(numbers)
    found["batch-equals-width"] = best_batches([t for t in trials if t.suite == "batch_width-digits"])
    return found


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
