"""From rows of results to boards."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from normbench.board.badges import badge
from normbench.board.metric import Metric
from normbench.board.ranking import Ranking, Standing, rank
from normbench.board.reading import absent, audited, budget
from normbench.board.stats import t_interval
from normbench.board.titles import DECAY, RATE, apart, label, set_up, settings_of, short, slugify, title
from normbench.board.tuning import Choices, Sweep
from normbench.board.types import Board, Cell, Entry, Point, Run
from normbench.board.words import describe
from normbench.spec import robustness
from normbench.spec.about import About
from normbench.spec.outcome import BALLS, Status
from normbench.spec.robustness import WORST_CASE, survivors
from normbench.spec.text import natural, show
from normbench.spec.trial import EVALUATION_DATA, digest
from normbench.store.levels import Level

#: Ends after which a row's numbers count. A trial that failed while it was attacked has trained to its end: its clean
#: accuracy, and the attacks that had ended, are as good as those of any other.
_MEASURED = frozenset({Status.OK, Status.ERROR, Status.OUT_OF_MEMORY})
#: A measure's whole-network curve whose end over its start is shown as growth.
GROWTH = "weight-norm."


def boards(
    rows: Iterable[Mapping[str, Any]],
    *,
    abouts: Mapping[str, About] | None = None,
    sweeps: Iterable[Sweep] = (),
    together: bool = False,
) -> list[Board]:
    """Boards of all rows, ordered by dataset, model, width and batch size.

    rows: those of a store; without the long columns (`curves`, ...) a board has fewer metrics. One of several suites
    counts once, with its latest result; candidates of tuning are left out. abouts: what suites say of themselves, by
    name. sweeps: what their tuning tried. together: average over classes of devices and precisions.
    """
    given = abouts or {}
    reader = _Reader(together=together)
    latest: dict[str, _Reduced] = {}
    suites: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.get("stage") == "tuning":  # candidates never see a test image; see `normbench.board.tuning`
            continue
        reduced = reader.reduce(row)
        trial_id = reduced.run.trial_id
        suites[trial_id].add(reduced.run.suite)
        if trial_id not in latest or latest[trial_id].newer < reduced.newer:
            latest[trial_id] = reduced
    groups: dict[tuple[str, _Place], list[_Reduced]] = defaultdict(list)
    for board, place, reduced in _placed(latest.values()):
        groups[board, place].append(reduced)
    choices = Choices(sweeps)
    made = [
        _board(board, place, group, {s: given.get(s, About()) for r in group for s in suites[r.run.trial_id]}, choices)
        for (board, place), group in groups.items()
    ]
    made.sort(key=lambda b: (b.dataset, b.model, b.stem, b.set_up, b.width, b.batch_size, b.id))
    return _named_apart(made)


class _Place(NamedTuple):
    """What the trials of one board share besides their specification; None where a trial failed before it knew."""

    content: str | None
    """Fingerprint of the dataset."""
    device_class: str | None
    precision: str | None

    @property
    def known(self) -> tuple[bool, ...]:
        return tuple(part is not None for part in self)

    def may_be(self, other: _Place) -> bool:
        """Is `other` a place where a trial may stand that knows this much of its own?"""
        return all(mine in (None, its) for mine, its in zip(self, other, strict=True)) and self.known < other.known


@dataclass(frozen=True, slots=True)
class _Reduced:
    """A row, reduced to what boards need of it, so that a hundred thousand fit in memory."""

    run: Run
    entry: str
    board: str
    """A digest of what is tested, and of the budget."""
    spec: dict[str, Any]
    """Of the entry: without the seed."""
    place: _Place
    metrics: tuple[Metric, ...]
    newer: tuple[Any, str]


def _placed(latest: Iterable[_Reduced]) -> Iterator[tuple[str, _Place, _Reduced]]:
    """Each trial with its board and place. One that failed before it knew its place stands where most trials of its
    board do that it could stand with.
    """
    every = list(latest)
    counts: dict[str, Counter[_Place]] = defaultdict(Counter)
    for reduced in every:
        counts[reduced.board][reduced.place] += 1
    for reduced in every:
        seen = counts[reduced.board]
        fitting = [place for place in seen if reduced.place.may_be(place)]
        place = max(fitting, key=lambda p: (sum(p.known), seen[p], tuple(str(part) for part in p)), default=None)
        yield reduced.board, place or reduced.place, reduced


class _Reader:
    """Reads rows. Trials that differ only in their seed share one parsed specification, which is most of the work."""

    def __init__(self, *, together: bool) -> None:
        self._specs: dict[str, tuple[str, dict[str, Any]]] = {}
        self._together = together

    def reduce(self, row: Mapping[str, Any]) -> _Reduced:
        values: dict[str, float] = {}
        metrics: list[Metric] = []
        if row["status"] in _MEASURED:
            for metric, value in _values(row):
                if math.isfinite(value):
                    values[metric.key] = value
                    metrics.append(metric)
        network = row if "layers" in row else audited(row.get("audit"))
        run = Run(
            trial_id=row["trial_id"],
            suite=row["suite"],
            seed=row["seed"],
            status=row["status"],
            reason=row["reason"] or "",
            epoch=row["epoch"] or 0,
            total=row["test_total"],
            values=values,
            source=row["source"] or "",
            images_per_second=row.get("images_per_second"),
            invariant=network["invariant"],
            layers=network["layers"],
            parameters=network["parameters"],
            flags=tuple(h["check"] for h in row.get("health") or () if not h["passed"]),
            level=Level(row.get("level") or Level.SELF_REPORTED),
            stale=bool(row.get("stale")),
            absent=row.get("absent") or absent(row.get("provenance")),
        )
        if row["entry"] not in self._specs:
            spec = {k: v for k, v in json.loads(row["spec"]).items() if k != "seed"}
            self._specs[row["entry"]] = digest([row["board"], budget(spec)]), spec
        placed = ("", "") if self._together else (row["device_class"], row["precision"])
        return _Reduced(
            run,
            row["entry"],
            *self._specs[row["entry"]],
            _Place(row["content"], *placed),
            tuple(metrics),
            (row["started"], row["suite"]),
        )


def _values(row: Mapping[str, Any]) -> Iterable[tuple[Metric, float]]:
    """What was measured. There is no worst case where an attack is missing: too many images would seem to stand."""
    whole = row["status"] == Status.OK
    if row["clean_accuracy"] is not None:
        yield CLEAN, row["clean_accuracy"]
    elif not whole:
        return
    for a in (attacks := row["attacks"] or []):
        yield attack_metric(a["attack"], a["threat"], a["size"]), a["accuracy"]
    for threat, several in _within_balls(attacks).items() if whole else ():
        packed = ((a["attack"], a["size"], np.frombuffer(a["outcomes"], np.uint8)) for a in several)
        for left in survivors(packed):
            if left.attacks > 1:  # the worst case of a single attack is that attack, which has its own metric
                yield worst_metric(threat, left.size), int(np.bitwise_count(left.bits).sum()) / several[0]["total"]
    for measure, (first, last) in growth(row.get("curves") or []).items():
        yield growth_metric(measure), last / first


def _within_balls(attacks: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Results of attacks by threat, of the threats that a ball bounds and whose outcomes are all of the same images."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for a in attacks:
        if a["threat"] in BALLS and a.get("outcomes"):
            found[a["threat"]].append(a)
    return {k: v for k, v in found.items() if len({(a["total"], len(a["outcomes"])) for a in v}) == 1}


CLEAN = Metric("clean", "clean", "clean accuracy")


@cache
def attack_metric(attack: str, threat: str, size: float) -> Metric:
    """The accuracy under one attack or noise at one size; or on the images as they are, by other statistics."""
    if threat == robustness.CLEAN:
        return Metric(f"{attack}@{size:.9g}", "clean", attack, attack, threat)
    return Metric(f"{attack}@{size:.9g}", "robust", f"{attack} {show(size)}", attack, threat, size)


@cache
def worst_metric(threat: str, size: float) -> Metric:
    """The share of images that withstand every attack of the evaluation within one ball or a smaller one."""
    label = f"{WORST_CASE} {threat} {show(size)}"
    return Metric(f"worst-{threat}@{size:.9g}", "robust", label, WORST_CASE, threat, size)


@cache
def growth_metric(measure: str) -> Metric:
    """How much a weight norm of the whole network has grown: end over start."""
    return Metric(f"growth:{measure}", "weight-norm", f"growth, {measure.removeprefix(GROWTH)}")


def growth(curves: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """First and last whole-network value of each kind of weight norm; without those that were not finite or start at
    zero.
    """
    ends: dict[str, list[tuple[int, float | None]]] = defaultdict(list)
    for reading in curves:
        if reading["layer"] == "" and reading["measure"].startswith(GROWTH):
            ends[reading["measure"]].append((reading["step"], reading["value"]))
    found = {}
    for measure, points in ends.items():
        (_, first), (_, last) = min(points, key=lambda p: p[0]), max(points, key=lambda p: p[0])
        if first and last is not None and math.isfinite(first) and math.isfinite(last) and len(points) > 1:
            found[measure] = (first, last)
    return found


def _board(
    board: str, place: _Place, group: Sequence[_Reduced], suites: Mapping[str, About], choices: Choices
) -> Board:
    metrics = sorted({m.key: m for r in group for m in r.metrics}.values(), key=_order)
    specs = {r.entry: r.spec for r in group}
    settings = {k: settings_of(s, {n for other in specs.values() for n in other["train"]}) for k, s in specs.items()}
    names = sorted({n for s in settings.values() for n in s})
    varying = [n for n in names if len({s.get(n) for s in settings.values()}) > 1]
    tuned = {k: choices.of(suites, s) for k, s in specs.items()}
    entries = _entries(group, specs, settings, varying, tuned)
    common = settings[entries[0].id]
    shared = group[0].spec
    model = shared["model"]
    foremost = sorted(suites, key=lambda name: (-suites[name].role.height, name))
    named = [h.key for name in foremost if (h := suites[name].headline) and h.key in {m.key for m in metrics}]
    images = [there for about in suites.values() if (there := about.datasets.get(place.content or ""))]
    total = max((r.run.total for r in group if r.run.total), default=None)
    ranked, rankings = _ranked(entries, metrics, total)
    return Board(
        id=digest([board, *place])[:12],
        slug="",
        title=title(shared),
        dataset=shared["data"]["dataset"],
        model=model["name"],
        stem=model["stem"],
        width=model["width"],
        batch_size=shared["batch_size"],
        test_total=total,
        device_class=place.device_class or "",
        precision=place.precision or "",
        attacks=tuple(shared["attacks"]),
        shared=tuple((short(n), common[n]) for n in names if n not in varying and common.get(n) not in {None, "–"}),
        metrics=tuple(metrics),
        entries=ranked,
        rankings=rankings,
        suites=tuple(sorted(suites)),
        role=suites[foremost[0]].role,
        named=named[0] if named else "",
        data={k: shared["data"][k] for k in EVALUATION_DATA},
        images=images[0] if images else None,
        set_up=set_up(shared),
        alike=_alike(shared, place, entries, settings),
    )


def _alike(
    shared: Mapping[str, Any], place: _Place, entries: Sequence[Entry], settings: Mapping[str, Mapping[str, str]]
) -> str:
    """A digest that boards share which differ in nothing but what pages filter by (width, batch size, weight decay)
    and in what was tuned for them.
    """
    said = {
        name: sorted({"tuned" if short(name) in e.tuned else settings[e.id].get(name, "–") for e in entries})
        for name in {n for own in settings.values() for n in own} - {DECAY}
    }
    test = {k: shared["data"][k] for k in EVALUATION_DATA}
    model = {k: v for k, v in shared["model"].items() if k != "width"}
    return digest([test, model, shared["attacks"], *place, said])[:12]


def _order(metric: Metric) -> tuple[Any, ...]:
    """Clean accuracy, attacks within balls, other threats, worst cases, and last weight norms, the raw one first."""
    return (
        metric.group != "clean",
        metric.group != "robust",
        metric.attack == WORST_CASE,
        metric.threat not in BALLS,
        metric.attack,
        metric.size or 0,
        metric.key != "growth:weight-norm.raw",
        metric.key,
    )


def _entries(
    group: Sequence[_Reduced],
    specs: Mapping[str, dict[str, Any]],
    settings: Mapping[str, dict[str, str]],
    varying: Sequence[str],
    tuned: Mapping[str, Mapping[str, str]],
) -> list[Entry]:
    """The entries of a board by label, still without cells."""
    columns = [RATE, *(n for n in varying if n != RATE)]
    runs: dict[str, list[Run]] = defaultdict(list)
    for reduced in group:
        runs[reduced.entry].append(reduced.run)
    made = [
        Entry(
            id=k,
            label=label(k, specs, settings, varying),
            norm=specs[k]["norm_label"],
            methods=tuple(c["name"] for c in specs[k]["norm"]),
            settings=tuple((short(n), settings[k].get(n, "–")) for n in columns),
            tuned={short(f"train.{key}"): end for key, end in tuned[k].items()},
            spec=specs[k],
            runs=tuple(sorted(own, key=lambda run: (run.seed, run.trial_id))),
            cells={},
        )
        for k, own in runs.items()
    ]
    return sorted(made, key=lambda e: (natural(e.label), e.id))


def _ranked(
    entries: Sequence[Entry], metrics: Sequence[Metric], total: int | None
) -> tuple[tuple[Entry, ...], dict[str, Ranking]]:
    """The entries with their cells, and how each metric ranks them. total: test images."""
    cells: dict[str, dict[str, Cell]] = {e.id: {} for e in entries}
    rankings = {}
    for metric in metrics:
        points = {e.id: found for e in entries if (found := _points(metric, e.runs))}
        resolution = 1 / total if metric.share and total else 0.0
        made = rank([{p.seed: p.value for p in own} for own in points.values()], resolution)
        rankings[metric.key] = made
        for (name, own), standing in zip(points.items(), made.standings, strict=True):
            cells[name][metric.key] = _cell(metric, own, standing)
    return tuple(replace(e, cells=cells[e.id]) for e in entries), rankings


def _points(metric: Metric, runs: Sequence[Run]) -> tuple[Point, ...]:
    return tuple(
        Point(r.seed, r.trial_id, r.values[metric.key], r.total if metric.share else None)
        for r in runs
        if metric.key in r.values
    )


def _cell(metric: Metric, points: tuple[Point, ...], standing: Standing) -> Cell:
    alone = t_interval([p.value for p in points])
    if metric.share:
        alone = alone and alone.within(0.0, 1.0)
        interval = standing.interval and standing.interval.within(0.0, 1.0)
    else:
        interval = standing.interval
    # Growth has no better end, hence no rank.
    rank = standing.rank if metric.share else None
    return Cell(metric, standing.mean, interval or alone, points, rank, alone, standing)


#: What may tell boards of one title apart, in the order in which it is tried.
_TELLS: tuple[Callable[[Board], str], ...] = (
    lambda b: b.placed or "never placed",
    lambda b: badge(b, "test"),
    lambda b: badge(b, "epochs"),
    lambda b: badge(b, "train"),
    lambda b: f"suite {', '.join(b.suites)}",
    lambda b: "; ".join(describe(a) for a in b.attacks) or "no attacks",
    lambda b: b.id,
)


def _named_apart(made: Sequence[Board]) -> list[Board]:
    """With titles and slugs that are unique ignoring case."""
    slugs: set[str] = set()
    named = []
    for board, text in zip(made, apart(made, lambda b: b.title, _TELLS), strict=True):
        slug = slugify(board.title)
        if slug in slugs:
            slug = f"{slug}-{board.id}"
        slugs.add(slug)
        named.append(replace(board, title=text, slug=slug))
    return named
