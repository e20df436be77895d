"""What a board is made of. Frozen values; every number can be followed back to its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from normbench.board.metric import Group, Metric
from normbench.board.ranking import Ranking, Standing
from normbench.board.stats import MIN_SEEDS, Interval, Rank
from normbench.spec.about import Images, Role
from normbench.spec.outcome import BALLS
from normbench.spec.robustness import WORST_CASE, apart
from normbench.spec.text import natural
from normbench.store.levels import Level, lowest

#: Of an entry whose board has no variance that an interval could come from.
VARIES_NOT = "not tested: no seed differs from another"
#: Threats within a ball, in the order in which their worst cases are looked for.
_BALLS = ("linf", "l2", "l1")
#: Weight norms whose growth tables show.
GROWTH = ("raw", "raw-invariant", "effective")


@dataclass(frozen=True)
class Point:
    """One trial's value of a metric; `interval` over the test images where it is an accuracy."""

    seed: int
    trial_id: str
    value: float
    total: int | None = None


@dataclass(frozen=True)
class Cell:
    """One entry's value of one metric: how large, how sure, of which trials, and on which rank."""

    metric: Metric
    value: float
    """Mean over the seeds."""
    interval: Interval | None
    """Two methods are told apart exactly where these do not overlap; where no other entry was tested, `alone`."""
    points: tuple[Point, ...]
    rank: Rank | None = None
    alone: Interval | None = None
    """Where the mean itself lies, whatever the other methods do."""
    standing: Standing | None = None
    """What the interval and the rank come from."""

    @property
    def n(self) -> int:
        return len(self.points)

    @property
    def trials(self) -> tuple[str, ...]:
        return tuple(p.trial_id for p in self.points)

    @property
    def covers(self) -> str:
        """Which variance the interval is about, in words."""
        if self.interval is None:
            return untested(self.n) or VARIES_NOT
        own = ""
        if self.alone:
            low, high = (self.metric.display(v) for v in (self.alone.low, self.alone.high))
            own = f"95 % t-interval of the mean itself {low} to {high} {self.metric.unit}"
        if self.interval.covers == "comparison":
            said = f"{self.n} seeds; told apart from methods whose interval does not overlap, 95 % sure over the board"
            return f"{said}; {own}" if own else said
        return f"{own}, {self.n} seeds"

    @property
    def display(self) -> str:
        """`98.12 ± 0.31`, or the value alone where there is no interval."""
        text = self.metric.display(self.value)
        if self.interval is None:
            return text
        if self.interval.low < self.value < self.interval.high:
            half = max(self.interval.high - self.value, self.value - self.interval.low)
            return f"{text} ± {self.metric.display(half)}"
        return f"{text} [{self.metric.display(self.interval.low)}, {self.metric.display(self.interval.high)}]"


@dataclass(frozen=True, slots=True)
class Run:
    """A trial as a board sees it."""

    trial_id: str
    suite: str
    seed: int
    status: str
    reason: str
    epoch: int
    total: int | None
    values: Mapping[str, float]
    """By metric key. Of a trial that failed: what it had measured, once it had trained to its end."""
    source: str = ""
    """Hash of what else decides a result (code, libraries, data), the same for trials that may be averaged."""
    images_per_second: float | None = None
    invariant: str = ""
    """How many of its weight tensors are scale-invariant, as measured at the start: `20 of 21`; empty where that is not
    known.
    """
    layers: int | None = None
    """Convolutions and linear layers of its network; None where they were not counted."""
    parameters: Sequence[int] | None = None
    """Of its network as built, and with the method in place; None where the trial ended before."""
    flags: tuple[str, ...] = ()
    """Health checks on its robustness numbers that did not pass."""
    level: Level = Level.SELF_REPORTED
    """How far the result was checked by others."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """By which statistics it has no numbers, and why."""
    stale: bool = False
    """Whether the code that it was made by has changed since."""

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class Entry:
    """All trials that share everything but the seed."""

    id: str
    label: str
    """The method, and the settings that tell this entry from others of the same method: `bn · wd 0.0005`."""
    norm: str
    """The method as written: `ws+gn[groups=8]`."""
    methods: tuple[str, ...]
    """Names of its components: `("ws", "gn")`."""
    settings: tuple[tuple[str, str], ...]
    """The learning rate, and the training settings that differ inside the board, by short name."""
    spec: Mapping[str, Any]
    """The resolved specification without the seed."""
    runs: tuple[Run, ...]
    cells: Mapping[str, Cell]
    """By metric key; without those that no trial has."""
    tuned: Mapping[str, str] = field(default_factory=dict)
    """By short name, of the settings that were tuned: `smallest` or `largest` where the value is at an end of those
    that were tried, so that a better one may lie beyond; else nothing.
    """

    @cached_property
    def failed(self) -> tuple[Run, ...]:
        return tuple(r for r in self.runs if not r.ok)

    @cached_property
    def status(self) -> str:
        """Empty when all trials are fine, else such as `1 of 3 diverged`."""
        kinds: dict[str, int] = {}
        for run in self.failed:
            kinds[run.status] = kinds.get(run.status, 0) + 1
        return ", ".join(f"{n} of {len(self.runs)} {kind.replace('_', ' ')}" for kind, n in sorted(kinds.items()))

    @cached_property
    def flags(self) -> str:
        """Empty when the robustness numbers of all trials passed their health checks, else such as `gradients in 2 of
        3`.
        """
        checks = dict.fromkeys(check for run in self.runs for check in run.flags)
        return ", ".join(
            f"{check} in {sum(check in r.flags for r in self.runs)} of {len(self.runs)}" for check in checks
        )

    @cached_property
    def stale(self) -> str:
        """Empty where the code that made its trials is the code here, else `stale` or such as `1 of 3 stale`."""
        count = sum(run.stale for run in self.runs)
        return "" if not count else "stale" if count == len(self.runs) else f"{count} of {len(self.runs)} stale"

    @cached_property
    def level(self) -> Level:
        """That of its least checked trial."""
        return lowest(r.level for r in self.runs)

    @cached_property
    def invariant(self) -> str:
        """How many weight tensors are scale-invariant; several where its trials differ."""
        return ", ".join(dict.fromkeys(run.invariant for run in self.runs if run.invariant))

    @cached_property
    def mixed(self) -> bool:
        """Whether its trials were run by different versions of code, libraries or data."""
        return len({r.source for r in self.runs}) > 1


@dataclass(frozen=True)
class Board:
    """Entries that may be compared: see `normbench.board`."""

    id: str
    slug: str
    title: str
    dataset: str
    model: str
    stem: str
    width: float
    batch_size: int
    test_total: int | None
    """Test images; None when no trial got that far."""
    device_class: str
    """What computed it: `cpu` or the name of a GPU; empty where no trial got that far, or all are taken together."""
    precision: str
    """Of training; empty likewise."""
    attacks: tuple[Mapping[str, Any], ...]
    """The attacks of the evaluation: name and all parameters."""
    shared: tuple[tuple[str, str], ...]
    """Training settings that all entries have in common, by short name."""
    metrics: tuple[Metric, ...]
    entries: tuple[Entry, ...]
    suites: tuple[str, ...]
    role: Role = Role.STUDY
    """The foremost of its suites' roles."""
    named: str = ""
    """Key of the metric that a suite names as its headline; empty where none does, or where no trial has it."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What decides on which images trials are tested: the keys `EVALUATION_DATA` of the specification."""
    images: Images | None = None
    """What its dataset holds; None where that is not known."""
    set_up: str = ""
    """The title without width and batch size."""
    rankings: Mapping[str, Ranking] = field(default_factory=dict, repr=False, compare=False)
    """By metric key."""
    alike: str = ""
    """The same for boards that differ in nothing but what pages filter by (width, batch size, weight decay) and in what
    was tuned for them.
    """

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Convolutions and linear layers of its networks; several where they differ, none where it is not known."""
        return tuple(sorted({r.layers for e in self.entries for r in e.runs if r.layers is not None}))

    @cached_property
    def parameters(self) -> tuple[int, ...]:
        """Of its networks as built, before the swap; likewise."""
        return tuple(sorted({r.parameters[0] for e in self.entries for r in e.runs if r.parameters}))

    @property
    def side(self) -> int | None:
        """Of the images that networks see, in pixels; None where it is not known."""
        return self.data["image_size"] or (self.images.side if self.images else None)

    @property
    def placed(self) -> str:
        """`cpu, float32`; empty where no trial knew its place."""
        return ", ".join(filter(None, (self.device_class, self.precision)))

    @property
    def prominence(self) -> tuple[int, bool, int]:
        """What to show first: by the role of its suites, then a board with intervals before one without, then the one
        with more finished trials.
        """
        finished = [len(e.runs) - len(e.failed) for e in self.entries]
        return self.role.height, any(n >= MIN_SEEDS for n in finished), sum(finished)

    @property
    def contends(self) -> bool:
        """Whether it may say who is the best: no example does, nor a board on which no entry has seeds enough for an
        interval.
        """
        return self.role is not Role.EXAMPLE and self.prominence[1]

    def of(self, group: Group) -> tuple[Metric, ...]:
        return tuple(m for m in self.metrics if m.group == group)

    @property
    def growth(self) -> tuple[Metric, ...]:
        """Of the growth of weight norms, those that tables show; all of them are in the downloads."""
        return tuple(m for m in self.of("weight-norm") if m.key.removeprefix("growth:weight-norm.") in GROWTH)

    def metric(self, key: str) -> Metric:
        return next(m for m in self.metrics if m.key == key)

    def standings(self, metric: Metric) -> list[Entry]:
        """Entries with the largest value first; those without a value (failed) last."""
        key = metric.key

        def place(entry: Entry) -> tuple[bool, float, Any]:
            cell = entry.cells.get(key)
            return cell is None, -cell.value if cell else 0.0, natural(entry.label)

        return sorted(self.entries, key=place)

    def headline(self, group: Group) -> Metric | None:
        """The metric that a group's table is ordered by.

        Of robustness: what a suite of the board names. Without that, by a rule that looks at no result: the worst case
        over the attacks within a ball (L-infinity, else L2, else L1) where there are several, else the first attack
        within a ball as the suite lists them, else the first of whatever perturbations there are; at the middle one of
        its sizes, of an even number of sizes the smaller of the two.
        """
        found = self.of(group)
        if group != "robust" or not found:
            return next(iter(found), None)
        if self.named:
            return self.metric(self.named)
        listed = [a["name"] for a in self.attacks]

        def place(metric: Metric) -> tuple[bool, int, int]:
            ball = _BALLS.index(metric.threat) if metric.threat in BALLS else len(_BALLS)
            if metric.attack == WORST_CASE:
                return False, ball, 0
            name = metric.attack.partition("[")[0]
            return True, metric.threat not in BALLS, listed.index(name) if name in listed else len(listed)

        first = min(found, key=place)
        sizes = [m for m in found if (m.attack, m.threat) == (first.attack, first.threat)]
        return sorted(sizes, key=lambda m: m.size or 0.0)[(len(sizes) - 1) // 2]

    def tied_for_first(self, metric: Metric) -> list[Entry]:
        """The entries whose best rank is 1; none that was not tested."""
        return [e for e in self.standings(metric) if (rank := self.rank(e, metric)) and rank.best == 1]

    def rank(self, entry: Entry, metric: Metric) -> Rank | None:
        """The rank of an entry; None where it was not tested, and where more is not better."""
        return None if why_not(entry, metric) else entry.cells[metric.key].rank

    def tested(self, metric: Metric) -> bool:
        """Whether any entry has a rank."""
        return any(self.rank(e, metric) for e in self.entries)


#: What `Entry.stale` means.
STALE = "the code that made a result has changed since"


def untested(seeds: int, what: str = "seed") -> str:
    """`not tested: 1 seed, 3 needed`; empty where there are enough of them."""
    counted = f"{seeds} {what if seeds == 1 else what.replace('seed', 'seeds', 1)}"
    return f"not tested: {counted}, {MIN_SEEDS} needed" if seeds < MIN_SEEDS else ""


def why_not(entry: Entry, metric: Metric) -> str:
    """Why an entry has no rank in a metric, and is compared with nothing: how its trials ended (`diverged`, `1 of 2
    diverged, 1 of 2 error`), `not measured`, or `not tested: 1 seed, 3 needed`. Empty where it was tested.
    """
    cell = entry.cells.get(metric.key)
    if cell is not None:
        return untested(cell.n) or ("" if cell.interval else VARIES_NOT)
    ends = {r.status for r in entry.failed}
    if len(entry.failed) == len(entry.runs) and len(ends) == 1:
        return next(iter(ends)).replace("_", " ")
    _, statistics = apart(metric.attack)
    return entry.status or next((r.absent[statistics] for r in entry.runs if statistics in r.absent), "not measured")


def why_not_compared(a: Entry, b: Entry, metric: Metric) -> str:
    """Likewise, why two entries are not compared: what is amiss with one of them, how its trials ended before how few
    there are. Empty where they are compared: then one is higher or lower, or they cannot be told apart.
    """
    amiss = {why_not(a, metric), why_not(b, metric)} - {""}
    return min(amiss, key=lambda why: (why.startswith("not tested"), why), default="")
