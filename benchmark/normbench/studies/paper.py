"""The source paper's experiments beside ours: Tables 1 and 2, Figures 2 and 3 of Sun et al., AAAI 2020.

What was printed is compared in the only way that prints without repeats or test size allow: each difference gets the
interval that it would have on 32 images, which Table 1 fits, and on 10,000. Ours have paired intervals over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from normbench.board import Board, Metric, t_interval, wilson
from normbench.board.layout import CITED, attacks_of, bims_of
from normbench.board.words import capital
from normbench.board.words import quantity as words
from normbench.pages.charts import Line, fit
from normbench.pages.line_charts import facets
from normbench.studies._charts import Series, around, beside, curves
from normbench.studies._judged import Judged, judged
from normbench.studies._paper import (
    CONV,
    DRIFT,
    NORM,
    WEIGHTS,
    Claim,
    Column,
    Ours,
    accuracy_claims,
    columns_of,
    gap,
    growth_claims,
    printed_dataset,
    tested,
    verdict,
)
from normbench.studies._stats import Estimate
from normbench.studies._sun2020 import BATCH, CITATION, CLEAN, PROTOCOL, SLIPS, TABLES, TITLES, WHOLE
from normbench.studies.base import (
    Cell,
    Evidence,
    Figure,
    Question,
    Row,
    Section,
    Table,
    failures,
    percent,
    points,
    probability,
)


class Paper(Question):
    name: ClassVar[str] = "paper"
    summary: ClassVar[str] = "Do the source paper's findings hold with repeats, and on more test images?"
    source: ClassVar[str] = (
        "Sun, Cao, Liang, Huang, Chen and Li 2020, New Interpretations of Normalization Methods in Deep Learning, AAAI "
        "2020, arXiv:2006.09104, Tables 1 and 2, Figures 2 and 3"
    )
    title: ClassVar[str] = "The source paper's tables and figures"
    why: ClassVar[str] = (
        "The paper rests its advice on single runs. Repeats with the same seeds say which of its findings are "
        "more than chance."
    )
    reads: ClassVar[tuple[str, ...]] = (WEIGHTS, DRIFT)
    method: ClassVar[str] = (
        f"The paper is {CITATION}. "
        "Acc-Diff1 is clean accuracy less that under noise, Acc-Diff2 clean accuracy less that under BIM. Printed "
        "numbers have no interval; shown are those "
        "that they would have from 32 images, whose multiples most clean and noise accuracies of Table 1 are, and "
        "from 10,000 (Wilson; differences as of two "
        "independent proportions, Newcombe). Ours are means over seeds on the test images named, differences paired "
        "by seed. Each finding is tested for each "
        "method, all of a dataset at once. The answer is yes where all findings hold for all "
        "methods, no where the opposite of one holds."
    )

    def fits(self, found: Evidence) -> bool:
        return any(columns_of(found, b) for b in found.boards if printed_dataset(b.dataset))

    def sections(self, found: Evidence) -> Iterator[Section]:
        for board in found.boards:
            if printed_dataset(board.dataset) and (columns := columns_of(found, board)):
                yield _section(found, board, columns)


def _section(found: Evidence, board: Board, columns: Mapping[Column, Ours]) -> Section:
    dataset = printed_dataset(board.dataset) or ""
    noise, bim = attacks_of(board)
    clean = board.headline("clean")
    assert noise is not None  # noqa: S101
    assert bim is not None  # noqa: S101
    assert clean is not None  # noqa: S101
    claims = tested([*accuracy_claims(dataset, columns, clean, noise, bim), *growth_claims(columns)])
    records = found.on(board)
    tables = [_side_by_side(dataset, columns, clean, noise, bim), _claims(claims), _printed_alone(dataset)]
    tables += [t for t in (_sizes(board, dataset, columns), _protocol(board, columns)) if t]
    tables += failures(records, lambda r: (f"{r.weight_decay:g}",), ("Weight decay",))
    return Section(
        board.title,
        verdict(claims),
        _answer(claims),
        tuple(tables),
        tuple(_figures(columns)),
        tuple(_notes(board, dataset, noise, bim)),
        tuple(_findings(claims)),
    )


def _findings(claims: Sequence[Claim]) -> Iterable[Judged]:
    texts = list(dict.fromkeys(c.text for c in claims))
    for c in sorted(claims, key=lambda c: texts.index(c.text)):
        yield judged(
            capital(c.text.removesuffix(" (octaves)")), c.method.upper(), "points" if c.percent else "octaves", c.here
        )


def _side_by_side(dataset: str, columns: Mapping[Column, Ours], clean: Metric, noise: Metric, bim: Metric) -> Table:
    rows: list[Row] = []
    for key, ours in columns.items():
        printed = TABLES[dataset][key]
        trials = tuple(r.run.trial_id for r in ours.records)
        cells: list[str] = []
        for value, metrics in (
            (printed.clean, (clean,)),
            (printed.noise, (noise,)),
            (printed.diff1, (clean, noise)),
            (printed.bim, (bim,)),
            (printed.diff2, (clean, bim)),
        ):
            cells += [percent(value), _text(ours.seeds(*metrics))]
        rows.append((Cell(_name(key), ours.entry.status, trials), *cells))
    heads = [
        f"{what}, {whose}"
        for what in ("Clean", "Noise", "Acc-Diff1", "BIM", "Acc-Diff2")
        for whose in ("printed", "here")
    ]
    caption = (
        f"In %. Here: {noise.label} and {bim.label}, mean over seeds with 95 % t-interval. Printed: "
        f"{TITLES[dataset][0]} of the paper."
    )
    return Table(f"{TITLES[dataset][0]} beside ours", caption, ("Method", *heads), tuple(rows), frozenset(range(1, 11)))


def _name(key: Column) -> str:
    return f"{key[0].upper()}{' + WD' if key[1] else ''}"


def _text(by_seed: Mapping[int, float]) -> str:
    if not by_seed:
        return "–"
    values = list(by_seed.values())
    return Estimate.of(math.fsum(values) / len(values), t_interval(values)).text(100)


#: What is told of a finding -> how an answer says so.
_SAID = {
    "holds": "holds for",
    "the opposite": "the opposite holds for",
    "cannot": "it cannot be told for",
    "not tested": "not tested for",
}


def _answer(claims: Sequence[Claim]) -> str:
    """Findings by what can be told of them, those first that come out alike for all methods."""
    alike: dict[str, list[str]] = {}
    mixed = []
    for text in dict.fromkeys(c.text for c in claims):
        own = [c for c in claims if c.text == text]
        counts = {v: [c.method.upper() for c in own if c.verdict.startswith(v)] for v in _SAID}
        told = {v: names for v, names in counts.items() if names}
        finding = text.removesuffix(" (octaves)")
        if len(told) == 1:
            alike.setdefault(next(iter(told)), []).append(finding)
        else:
            mixed.append(f"{capital(finding)}: {', '.join(f'{_SAID[v]} {_listed(n)}' for v, n in told.items())}")
    lacking = ", ".join(dict.fromkeys(c.verdict.partition(": ")[2] for c in claims if c.verdict.startswith("not")))
    said = [
        f"{capital(_SAID[v])} all methods{f' ({lacking})' if v == 'not tested' and lacking else ''}: {'; '.join(texts)}"
        for v, texts in alike.items()
    ]
    return ". ".join([*said, *mixed]) + "."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _claims(claims: Sequence[Claim]) -> Table:
    rows: list[Row] = []
    texts = list(dict.fromkeys(c.text for c in claims))
    for c in sorted(claims, key=lambda c: texts.index(c.text)):
        mean, interval = c.here.mean, c.here.interval
        here = (
            "–"
            if mean is None
            else points(Estimate.of(mean, interval))
            if c.percent
            else Estimate.of(mean, interval).text(sign=True)
        )
        rows.append(
            (
                Cell(f"{c.text[:1].upper()}{c.text[1:]}"),
                c.method.upper(),
                c.printed,
                c.in_print,
                here,
                probability(c.here.p),
                c.verdict,
            )
        )
    caption = (
        "Differences in percentage points (octaves where said), above zero where the finding holds. Here: "
        "mean over seeds, with an interval and p for all findings of the table at once. In print: what the printed "
        "number says by itself, which has no interval."
    )
    return Table(
        "The findings, method by method",
        caption,
        ("Finding", "Method", "Printed", "In print", "Here", "p", "What can be told"),
        tuple(rows),
        frozenset({2, 4, 5}),
    )


def _printed_alone(dataset: str) -> Table:
    """What the print by itself can tell of weight decay."""
    rows: list[Row] = []
    for method in ("bn", "gn", "ln", "wn"):
        a, b = TABLES[dataset][method, False], TABLES[dataset][method, True]
        for what, x, y in (("clean", b.clean, a.clean), ("noise", b.noise, a.noise), ("BIM", b.bim, a.bim)):
            spans = [printed_interval(x, y, n) for n in (BATCH, WHOLE)]
            told = ["apart" if not low <= 0 <= high else "cannot be told apart" for low, high in spans]
            shown = (f"[{100 * low:+.1f}, {100 * high:+.1f}]: {t}" for (low, high), t in zip(spans, told, strict=True))
            rows.append((Cell(f"{method.upper()}, {what}"), gap(x, y), *shown))
    title, multiples = TITLES[dataset]
    caption = (
        "With weight decay less without, percentage points, and the 95 % interval that the difference would have "
        "from so many images and one network each. "
        f"{multiples} of the 24 accuracies of {title} are multiples of 1/32, of which chance makes about one in a "
        "hundred."
    )
    head = ("Printed accuracy", "Difference", f"From {BATCH} images", f"From {WHOLE:,} images")
    return Table("What the printed numbers can tell by themselves", caption, head, tuple(rows), frozenset({1}))


def printed_interval(a: float, b: float, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two proportions, each of n images: Newcombe 1998, method 10 (from Wilson's
    intervals).
    """
    x, y = wilson(a * n, n), wilson(b * n, n)
    return a - b - math.hypot(a - x.low, y.high - b), a - b + math.hypot(x.high - a, b - y.low)


def _sizes(board: Board, dataset: str, columns: Mapping[Column, Ours]) -> Table | None:
    """BIM at all sizes, since the paper names none."""
    metrics = bims_of(board)
    if len(metrics) < 2:
        return None
    rows: list[Row] = [
        (Cell(_name(key)), percent(TABLES[dataset][key].bim), *(_text(ours.seeds(m)) for m in metrics))
        for key, ours in columns.items()
    ]
    head = ("Method", "Printed", *(m.title for m in metrics))
    return Table(
        "BIM at every size",
        "Accuracy in %. The paper names no size.",
        head,
        tuple(rows),
        frozenset(range(1, len(head))),
    )


def _protocol(board: Board, columns: Mapping[Column, Ours]) -> Table:
    spec = next(iter(columns.values())).entry.spec
    train, data = spec["train"], spec["data"]
    decays = sorted({o.entry.spec["train"]["weight_decay"] for o in columns.values()})
    rates = sorted({o.entry.spec["train"]["lr"] for o in columns.values()})
    seeds = sorted({len(o.records) for o in columns.values()})
    rows: list[tuple[str, str, str]] = [
        ("Network", str(PROTOCOL["model"]), f"{board.model}, stem {board.stem}, width ×{board.width:g}"),
        (
            "Optimizer and learning rate",
            f"{PROTOCOL['optimizer']}, {PROTOCOL['lr']:g}",
            f"{train['optimizer']}, {', '.join(f'{r:g}' for r in rates)}",
        ),
        ("Epochs", f"{PROTOCOL['epochs']}", f"{train['epochs']}"),
        ("Augmentation", "flip", ", ".join(data["augment"]) or "none"),
        ("Batch size", "not named", f"{board.batch_size}"),
        ("Momentum, schedule", "not named", f"{train['momentum']:g}, {train['schedule']}"),
        ("Weight decay", "not named", ", ".join(f"{d:g}" for d in decays)),
        ("Seeds", "not named", " to ".join(str(s) for s in dict.fromkeys((seeds[0], seeds[-1])))),
        (
            "Test images",
            f"not named; {TITLES[printed_dataset(board.dataset) or ''][0]} fits 32 in part",
            f"{board.test_total or '–'}",
        ),
        (
            "Methods",
            "BN, GN, LN, WN; groups and kind of LN not named",
            ", ".join(dict.fromkeys(o.entry.norm for o in columns.values())),
        ),
    ]
    return Table(
        "Protocol",
        "What the paper names, and what was taken here.",
        ("Setting", "Paper", "Here"),
        tuple((Cell(a), b, c) for a, b, c in rows),
    )


def _figures(columns: Mapping[Column, Ours]) -> Iterable[Figure]:
    for layer, where in ((CONV, f"the weight of {CONV}"), ("", "all weights")):
        lines = [
            Line(_name(k), o.records[0].family, points_, dashed=k[1])
            for k, o in columns.items()
            if len(points_ := _mean(o, WEIGHTS, layer)) > 1
        ]
        if lines:
            values = [v for line in lines for _, *ys in line.points for v in ys if v is not None]
            log = min(values) > 0 and max(values) / min(values) > 3
            x = fit((p[0] for line in lines for p in line.points), "Epoch", whole=True)
            spec = facets(lines, x, fit(values, "L2 norm (log)" if log else "L2 norm", log=log))
            caption = (
                f"L2 norm of {where}, mean over seeds; bands from the smallest to the largest seed. Dashed: "
                "with weight decay. Grey: other families."
            )
            yield Figure("norms", "Figure 3: norms of the weights over training", caption, spec)
            break
    bn = columns.get(("bn", False))
    quantities = sorted(
        {q for r in (bn.records if bn else ()) for q, layer in r.curves if q.startswith(DRIFT) and layer == NORM}
    )
    panels = []
    for quantity in quantities if bn else ():
        series = [Series(quantity, _mean(bn, quantity, NORM))] if bn else []
        if series and len(series[0].points) > 1:
            x, y = around(series, "Epoch", which=0), around(series, words(quantity), which=1)
            panels.append(curves(words(quantity), series, x, y))
    if panels:
        caption = (
            f"Of the norm {NORM} of BN without weight decay, mean over seeds; bars from the smallest to the "
            "largest seed."
        )
        yield Figure("drift", "Figure 2: scale and shift against the input's statistics", caption, beside(panels, 2))


def _mean(ours: Ours, quantity: str, layer: str) -> tuple[tuple[float, float, float | None, float | None], ...]:
    """Mean curve over the seeds that have it, with the smallest and the largest."""
    by_epoch: dict[float, list[float]] = {}
    made = [r.curves[quantity, layer] for r in ours.records if (quantity, layer) in r.curves]
    for epoch, value in (p for curve in made for p in curve):
        by_epoch.setdefault(epoch, []).append(value)
    whole = {e: v for e, v in sorted(by_epoch.items()) if len(v) == len(made)}
    return tuple(
        (e, math.fsum(v) / len(v), min(v) if len(v) > 1 else None, max(v) if len(v) > 1 else None)
        for e, v in whole.items()
    )


def _notes(board: Board, dataset: str, noise: Metric, bim: Metric) -> Iterable[str]:
    yield CLEAN[dataset]
    yield from SLIPS.get(dataset, ())
    if board.dataset != dataset:
        yield (
            f"Run on {board.dataset}, whose images are not those of {dataset}: accuracies are not comparable with "
            "the printed ones."
        )
    if board.model != PROTOCOL["model"]:
        yield f"Run with {board.model}, not {PROTOCOL['model']}: the findings can be compared, the accuracies cannot."
    if noise.attack != CITED[0]:
        yield (
            "The paper takes noise and BIM from Galloway et al. 2019, in standardised space; here they are "
            f"{noise.label} and {bim.label} in pixel space."
        )
    yield (
        "A difference that the print shows without repeats may be the seed's: the paper names neither repeats nor "
        "intervals."
    )
