"""The contract of a study: what a question is given, and what its answer is made of.

A `Question` looks at the `Evidence` of one suite: `fits` says by the shape of its trials whether there is anything to
ask, and `study` answers. Neither reads a file or draws a random number without a fixed seed, so that the same results
give the same page. Every number carries an interval or says that it has none, and an answer never says more than the
interval that it quotes: where that holds both readings, the verdict is `cannot be told`. Where the trials are too few
for any interval it is `not tested`, and the answer says what is missing.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import islice
from typing import Any, ClassVar, Literal, TypeVar

import normbench.norms as norms
from normbench.board import Board, Metric, Run, boards
from normbench.spec.plugins import Plugin, PluginError
from normbench.studies._judged import Judged
from normbench.studies._stats import Estimate

#: Failed trials that a section lists, and sections of a page.
FAILURES, SECTIONS = 40, 20

Verdict = Literal["yes", "no", "cannot be told", "not tested"]
Curve = tuple[tuple[float, float], ...]
K = TypeVar("K", bound=Hashable)


@cache
def _card(name: str) -> type[norms.Norm] | None:
    try:
        return norms.registry.get(name)
    except PluginError:
        return None


@dataclass(frozen=True)
class Record:
    """A trial as studies see it."""

    run: Run
    spec: Mapping[str, Any]
    """The resolved specification without the seed."""
    board: str
    """Id of its board."""
    validation: float | None = None
    """Accuracy on held-out training images."""
    channels: tuple[int, ...] = ()
    """Of each place of normalization, in the order of the network; empty where the network was never built."""
    invariant: frozenset[str] = frozenset()
    """Layers whose weight was measured scale-invariant."""
    curves: Mapping[tuple[str, str], Curve] = ()  # type: ignore[assignment]
    """(epoch, value) by quantity and layer, of the quantities that a question asks for; without values that were not
    finite.
    """

    @property
    def norm(self) -> str:
        return str(self.spec["norm_label"])

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(c["name"] for c in self.spec["norm"])

    @property
    def weight_decay(self) -> float:
        return float(self.spec["train"]["weight_decay"])

    @property
    def cards(self) -> tuple[type[norms.Norm], ...]:
        """The classes of its methods that are registered here; results may come from elsewhere."""
        return tuple(c for name in self.methods if (c := _card(name)))

    @property
    def family(self) -> str:
        """Of its weight method where it has one, else of its activation method."""
        return self.cards[0].family if self.cards else "unknown"

    def last(self, quantity: str, layer: str = "") -> float | None:
        """Where a curve ends."""
        curve = self.curves.get((quantity, layer))
        return curve[-1][1] if curve else None

    def whole(self, quantity: str) -> float | None:
        """A quantity of the whole network at the end; the mean over the layers where it was recorded by layer alone."""
        found = self.last(quantity)
        if found is None:
            layers = [c[-1][1] for (name, _), c in self.curves.items() if name == quantity and c]
            found = math.fsum(layers) / len(layers) if layers else None
        return found


@dataclass(frozen=True)
class Evidence:
    """All finished and failed trials of one suite, candidates of tuning left out."""

    suite: str
    records: tuple[Record, ...]
    metrics: Mapping[str, Metric]
    """What `Run.values` holds, by key."""
    boards: tuple[Board, ...] = ()
    """The boards that these trials stand on, those with the most finished trials first."""

    @cached_property
    def by_id(self) -> dict[str, Record]:
        return {r.run.trial_id: r for r in self.records}

    @cached_property
    def _by_board(self) -> dict[str, tuple[Record, ...]]:
        return grouped(self.records, lambda r: r.board)

    def on(self, board: Board) -> tuple[Record, ...]:
        """The records of a board, in the order in which they come."""
        return self._by_board.get(board.id, ())

    @cached_property
    def settings(self) -> dict[str, tuple[Record, ...]]:
        """Records by dataset and architecture, in the order of their names."""
        found = grouped(self.records, lambda r: f"{r.spec['data']['dataset']} · {r.spec['model']['name']}")
        return dict(sorted(found.items()))

    def robust(self, records: Iterable[Record]) -> Metric | None:
        """The robust accuracy to look at: of the headlines of the boards (see `Board.headline`) the one that most
        trials have.
        """
        given = list(records)
        ids = {r.board for r in given}
        metrics = {m.key: m for b in self.boards if b.id in ids and (m := b.headline("robust"))}
        return max(metrics.values(), key=lambda m: sum(m.key in r.run.values for r in given), default=None)

    def quantities(self, *prefixes: str) -> list[str]:
        """Recorded quantities whose names start with one of `prefixes`, sorted."""
        names = {name for r in self.records for name, _ in r.curves}
        return sorted(n for n in names if n.startswith(prefixes))


def grouped(records: Iterable[Record], key: Callable[[Record], K]) -> dict[K, tuple[Record, ...]]:
    """Records by what `key` makes of them, in the order in which they come."""
    found: dict[K, list[Record]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return {k: tuple(v) for k, v in found.items()}


def of_spec(make: Callable[[Mapping[str, Any]], K]) -> Callable[[Record], K]:
    """A key for `grouped` that rests on the specification alone, which the seeds of an entry share: made once for all
    of them.
    """
    made: dict[int, K] = {}

    def key(record: Record) -> K:
        if id(record.spec) not in made:
            made[id(record.spec)] = make(record.spec)
        return made[id(record.spec)]

    return key


def varied(spec: Mapping[str, Any], *without: str) -> str:
    """A specification as text that is equal for trials that share everything but the fields named (`batch_size`,
    `train.lr`, ...).
    """

    def pruned(value: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {
            k: pruned(v, f"{path}{k}.") if isinstance(v, dict) and k in {"data", "model", "train"} else v
            for k, v in value.items()
            if f"{path}{k}" not in without
        }

    return json.dumps(pruned(spec, ""), sort_keys=True)


@dataclass(frozen=True)
class Cell:
    """A cell of a table. `trials`: what it was made from."""

    text: str
    note: str = ""
    trials: tuple[str, ...] = ()
    failed: bool = False


Row = tuple[Cell | str, ...]


@dataclass(frozen=True)
class Table:
    """`numbers`: which columns are set to the right. The first column heads its row."""

    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A chart as a Vega-Lite specification. `families`: whose colours its legend explains."""

    name: str
    title: str
    caption: str
    spec: dict[str, Any]
    families: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """The answer for one dataset and architecture."""

    heading: str
    verdict: Verdict
    answer: str
    """A sentence or two that follow from the numbers."""
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    """What cannot be told, and what to keep in mind."""
    findings: tuple[Judged, ...] = ()
    """What the answer rests on, finding by finding."""


@dataclass(frozen=True)
class Study:
    """A question and what the trials of a suite say to it."""

    name: str
    suite: str
    title: str
    question: str
    method: str
    """How the numbers are made, in a few sentences."""
    sections: tuple[Section, ...]
    more: bool = False
    """Whether there were more than `SECTIONS`."""
    why: str = ""
    source: str = ""


class Question(Plugin, ABC):
    """A question to the trials of a suite. `summary`: the question, as its page asks it. `source`: where the claim
    comes from.
    """

    title: ClassVar[str]
    why: ClassVar[str] = ""
    """Why the question matters, in a sentence or two."""
    method: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the quantities in `Record.curves` that it needs."""

    @abstractmethod
    def fits(self, found: Evidence) -> bool:
        """Whether the trials have the shape that the question needs. Curves may be missing here."""

    @abstractmethod
    def sections(self, found: Evidence) -> Iterator[Section]:
        """The answer for each dataset and architecture."""

    def study(self, found: Evidence) -> Study | None:
        """The answer; None where there was nothing to say after all."""
        every = self.sections(found)
        sections = tuple(islice(every, SECTIONS))
        more = next(every, None) is not None
        return (
            Study(self.name, found.suite, self.title, self.summary, self.method, sections, more, self.why, self.source)
            if sections
            else None
        )


def evidence(rows: Iterable[Mapping[str, Any]], suite: str | None = None) -> Evidence:
    """The evidence in rows as `normbench.store.store.Store.rows` gives them; of one suite where it is named."""
    given = [r for r in rows if suite is None or r["suite"] == suite]
    made = boards(given)
    return gather(suite or (given[0]["suite"] if given else ""), made, given)


def gather(
    suite: str, made: Sequence[Board], rows: Iterable[Mapping[str, Any]], prefixes: tuple[str, ...] = ("",)
) -> Evidence:
    """The evidence of `rows` of a suite, whose numbers the boards hold. Rows need `trial_id`, `validation_accuracy`,
    `audit` and `curves`, of which the quantities that start with one of `prefixes` are kept; a row without the last two
    is a trial of which nothing but its numbers is known.
    """
    by_id = {
        run.trial_id: (run, entry.spec, board.id) for board in made for entry in board.entries for run in entry.runs
    }
    records = []
    for row in rows:
        if row["trial_id"] not in by_id or row.get("stage", "final") != "final":
            continue
        run, spec, board = by_id[row["trial_id"]]
        channels, invariant = _audited(row.get("audit") or "{}")
        records.append(
            Record(
                run,
                spec,
                board,
                row.get("validation_accuracy"),
                channels,
                invariant,
                _curves(row.get("curves") or (), prefixes),
            )
        )
    present = {r.board for r in records}
    records.sort(key=lambda r: (r.norm, r.run.seed, r.run.trial_id))
    own = tuple(sorted((b for b in made if b.id in present), key=lambda b: b.prominence, reverse=True))
    return Evidence(suite, tuple(records), {m.key: m for b in own for m in b.metrics}, own)


@lru_cache(1024)
def _audited(text: str) -> tuple[tuple[int, ...], frozenset[str]]:
    audit = json.loads(text)
    channels = tuple(place.get("channels", 0) for place in audit.get("replaced") or ())
    return channels, frozenset(name.removesuffix(".weight") for name in audit.get("scale_invariant") or ())


def _curves(readings: Iterable[Mapping[str, Any]], prefixes: tuple[str, ...]) -> dict[tuple[str, str], Curve]:
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for r in readings:
        if r["value"] is not None and math.isfinite(r["value"]) and r["measure"].startswith(prefixes):
            found.setdefault((r["measure"], r["layer"]), []).append((r["epoch"], r["value"]))
    return {key: tuple(sorted(points, key=lambda p: p[0])) for key, points in found.items()}


def failures(
    records: Iterable[Record], places: Callable[[Record], Sequence[str]], heads: Sequence[str]
) -> tuple[Table, ...]:
    """A table of the trials without a number; none where all have one. `places` says where in the design a trial
    stands.
    """
    lost = [r for r in records if not r.run.ok]
    if not lost:
        return ()
    rows: tuple[Row, ...] = tuple(
        (
            Cell(r.norm),
            *places(r),
            str(r.run.seed),
            Cell(r.run.status.replace("_", " "), r.run.reason, (r.run.trial_id,), failed=True),
        )
        for r in lost[:FAILURES]
    )
    more = f" {len(lost) - FAILURES} more stand in the table of all runs." if len(lost) > FAILURES else ""
    title = f"Trials without a number: {len(lost)}"
    return (
        Table(
            title,
            f"They are in no mean above.{more}",
            ("Method", *heads, "Seed", "What happened"),
            rows,
            frozenset({len(heads) + 1}),
        ),
    )


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def points(estimate: Estimate | None) -> str:
    """A difference of accuracies in percentage points: `+1.20 [0.31, 2.09]`."""
    return "–" if estimate is None else estimate.text(100, sign=True)


def probability(p: float | None) -> str:
    """A p-value: three digits, `< 0.001` below."""
    return "–" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"
