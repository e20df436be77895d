"""The table of all runs. What every view needs lies in one columnar script that `runs.js` reads; each other column lies
in a script of its own, which is read when a view asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from normbench.board import Board, Entry, Metric, Run
from normbench.board.badges import images_trained
from normbench.board.words import capital, quantity
from normbench.pages.context import Context, trial_slug
from normbench.pages.methods import key_of
from normbench.pages.writer import call
from normbench.spec.about import Role
from normbench.spec.text import natural, show
from normbench.spec.trial import UNWRITTEN

#: Columns that are shown even where all runs agree; others are then offered in the menu of columns.
ALWAYS = {"method", "dataset", "status"}
#: Metrics that are shown before anyone chooses; their columns are read at once.
SHOWN_METRICS = 3
#: Rows a page; the first page also stands there without JavaScript.
PAGE = 50
#: Groups of the menu of columns.
SETTINGS, ABOUT = "Settings", "The run"
GROUPS = {"clean": "Accuracy", "robust": "Robustness", "weight-norm": "Growth of the weights"}
#: Settings that have a column of their own name; the rest have that of their place in the specification.
NAMED = {
    *("train.weight_decay", "train.lr", "train.epochs", "batch_size", "model.name", "model.width"),
    *("data.dataset", "data.image_size", "data.train_examples"),
}
_NO_SETTINGS = {"norm", "norm_label", "seed", "stage", "attacks", "measures", "statistics"}
#: Columns of the results: heading, what the number is multiplied with, decimals.
MEASURED = {
    "images_per_second": ("Training speed, images/s", 1.0, 0),
    "train_loss": ("Training loss", 1.0, 4),
    "test_loss": ("Test loss", 1.0, 4),
    "train_seconds": ("Training time, s", 1.0, 1),
    "wall_seconds": ("Wall time, s", 1.0, 1),
    "peak_memory": ("Peak memory, MiB", 2.0**-20, 0),
}
#: Addresses of views name this column so since before the others were there.
KEYS = {"images_per_second": "speed"}
#: Results above which no curves are read.
CURVES = 5000
Runs = Sequence[tuple[Board, Entry, Run]]


def write(context: Context) -> None:
    """Write runs.html, runs-data.js, and `runs/` with a script for each column that is read when it is asked for."""
    runs = [(b, e, r) for b in context.results.boards for e in b.entries for r in e.runs]
    places = {b.id: (b.role is Role.EXAMPLE, place) for place, b in enumerate(context.results.boards)}
    order = {id(e): natural(e.label) for b in context.results.boards for e in b.entries}
    runs.sort(key=lambda x: (places[x[0].id], order[id(x[1])], x[2].seed))
    columns = [*_columns(context, runs)]
    for place, column in enumerate(columns):
        if not column["shown"] and "rows" in column and column["later"]:
            column["file"] = f"c{place}"
            context.writer.text(f"runs/c{place}.js", call("NB.column", column["key"], column["rows"]))
    kept = [{k: v for k, v in c.items() if k != "later" and (k != "rows" or "file" not in c)} for c in columns]
    told = {"rows": len(runs), "pages": context.trial_pages, "columns": kept}
    context.writer.text("runs-data.js", call("NB.runs", told))
    context.writer.page(
        "runs.html",
        "runs.html",
        title="All runs",
        description=f"All {len(runs):,} trials of the benchmark, one row each, with every setting and metric.",
        rows=len(runs),
        columns=columns,
        first=[[(text(c, i), c) for c in columns] for i in range(min(PAGE, len(runs)))],
        links=[context.trial_href(r.trial_id) if context.trial_pages else "" for _, _, r in runs[:PAGE]],
    )


def _columns(context: Context, runs: Runs) -> Iterator[dict[str, Any]]:
    """Those that every view needs, then those that wait."""
    methods = {id(e): context.methods[key_of(e)] for _, e, _ in runs}
    trained = {id(e): images_trained(e.spec["data"], b.images) for b, e, _ in runs}
    yield _category("method", "Method", [e.norm for _, e, _ in runs], shown=True)
    yield _category("name", "Full name", [methods[id(e)].summary for _, e, _ in runs])
    yield _category("family", "Family", [methods[id(e)].family for _, e, _ in runs])
    yield _category("suite", "Suite", [r.suite for _, _, r in runs], shown=True)
    yield _category("dataset", "Dataset", [b.dataset for b, _, _ in runs], shown=True)
    yield _category("side", "Image side", [b.side for b, _, _ in runs])
    yield _category("train", "Training images", [trained[id(e)] for _, e, _ in runs])
    yield _category("model", "Model", [b.model for b, _, _ in runs], shown=True)
    yield _category("batch", "Batch", [b.batch_size for b, _, _ in runs], shown=True)
    yield _category("width", "Width", [b.width for b, _, _ in runs], shown=True)
    yield _category("wd", "Weight decay", [e.spec["train"]["weight_decay"] for _, e, _ in runs], shown=True)
    yield _category("lr", "Learning rate", [e.spec["train"]["lr"] for _, e, _ in runs])
    yield _category("epochs", "Epochs", [e.spec["train"]["epochs"] for _, e, _ in runs])
    yield _category("seed", "Seed", [r.seed for _, _, r in runs], shown=True, group=ABOUT)
    yield _category("status", "Status", [r.status.replace("_", " ") for _, _, r in runs], shown=True, group=ABOUT)
    yield _category("level", "Trust", [r.level.value for _, _, r in runs], shown=True, group=ABOUT)
    yield from _metric_columns(runs)
    yield from _settings(runs)
    yield from _measured(context, runs)
    yield from _quantities(context, runs)
    trials = [trial_slug(r.trial_id) for _, _, r in runs]
    yield {"key": "trial", "label": "Trial", "kind": "text", "shown": True, "values": trials, "group": ABOUT}


def _metric_columns(runs: Runs) -> Iterator[dict[str, Any]]:
    metrics = _metrics(runs)
    first = [m.key for m in metrics if m.group == "clean"] + [m.key for m in metrics if m.group == "weight-norm"][:1]
    robust = [m.key for m in metrics if m.group == "robust"]
    first += robust[: SHOWN_METRICS - len(first)]
    for metric in metrics:
        values = [r.values.get(metric.key) for _, _, r in runs]
        label = f"{metric.title}, {metric.unit}"
        scale, shown = 100.0 if metric.share else 1.0, metric.key in first
        yield _number(metric.key, label, values, scale=scale, digits=2, group=GROUPS[metric.group], shown=shown)


def _metrics(runs: Runs) -> list[Metric]:
    """All metrics of the boards: within a group of one attack, that which most runs have first."""
    counts: Counter[str] = Counter()
    by_key: dict[str, Metric] = {}
    for board in {id(b): b for b, _, _ in runs}.values():
        for metric in board.metrics:
            by_key[metric.key] = metric
            counts[metric.key] += sum(metric.key in e.cells for e in board.entries)
    attacks: Counter[str] = Counter()
    for key, metric in by_key.items():
        attacks[metric.attack] += counts[key]
    groups = list(GROUPS)
    return sorted(
        by_key.values(),
        key=lambda m: (
            groups.index(m.group),
            -attacks[m.attack],
            m.attack,
            m.size or 0,
            m.key != "growth:weight-norm.raw",
            m.key,
        ),
    )


def _settings(runs: Runs) -> Iterator[dict[str, Any]]:
    """Every setting in which the runs differ and that no other column shows."""
    flat = {id(e): dict(_flat({**e.spec, "train": {**UNWRITTEN, **e.spec["train"]}})) for _, e, _ in runs}
    for key in sorted({k for settings in flat.values() for k in settings} - NAMED, key=natural):
        by_entry = {name: settings.get(key) for name, settings in flat.items()}
        if len(set(by_entry.values())) > 1:
            label = key.removeprefix("train.").replace("_", " ").replace(".", ", ")
            label = f"{label[:1].upper()}{label[1:]}"
            yield _category(f"spec.{key}", label, [by_entry[id(e)] for _, e, _ in runs], later=True)


def _flat(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Hashable]]:
    """Settings by their place; lists as one text. Norms, attacks and measures are no settings of the training."""
    for key, value in spec.items():
        if prefix or key not in _NO_SETTINGS:
            if isinstance(value, Mapping):
                yield from _flat(value, f"{prefix}{key}.")
            else:
                plain = value is None or (isinstance(value, int | float | str) and not isinstance(value, bool))
                yield f"{prefix}{key}", value if plain else show(value)


def _measured(context: Context, runs: Runs) -> Iterator[dict[str, Any]]:
    """Losses and costs as the results hold them."""
    table, position = context.results.table, context.results.position
    places = pa.array([position[r.trial_id] for _, _, r in runs], pa.int64())
    for name, (label, scale, digits) in MEASURED.items():
        values = table.column(name).take(places).to_pylist()
        if any(v is not None for v in values):
            yield _number(KEYS.get(name, name), label, values, scale=scale, digits=digits, group=ABOUT)


def _quantities(context: Context, runs: Runs) -> Iterator[dict[str, Any]]:
    """The last reading of each quantity of the whole network that a measure of the suite took, without those sampled at
    coordinates; nothing where there are more results than a page can say that of.
    """
    table, position = context.results.table, context.results.position
    if table.num_rows > CURVES:
        return
    names = sorted({m["name"] for b in context.results.boards for e in b.entries for m in e.spec["measures"]})
    last: dict[str, dict[int, float]] = {}
    for row, curve in enumerate(whole_network(table.column("curves"), names)):
        for reading in sorted(curve, key=lambda r: r["step"]):
            last.setdefault(reading["measure"], {})[row] = reading["value"]
    for key in sorted(last, key=natural):
        values = [last[key].get(position[r.trial_id]) for _, _, r in runs]
        named = capital(quantity(key))
        yield _number(f"measure.{key}", named, values, scale=1, digits=4, group="Measured inside, last reading")


def whole_network(curves: pa.ChunkedArray, names: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Of each row, the readings of the whole network by these measures."""
    wanted = {f"{name}." for name in names}
    for chunk in curves.chunks:
        readings = chunk.flatten()
        measure, layer, value = (readings.field(key) for key in ("measure", "layer", "value"))
        keep = pc.and_(pc.equal(layer, ""), pc.is_finite(value))
        keep = pc.and_(keep, pc.invert(pc.match_substring_regex(measure, r"@|\.error$")))
        mine = pc.is_in(pc.replace_substring_regex(measure, r"\..*", "."), pa.array(sorted(wanted), pa.string()))
        keep = pc.fill_null(pc.and_(keep, mine), False)
        rows: list[list[dict[str, Any]]] = [[] for _ in range(len(chunk))]
        parents = pc.list_parent_indices(chunk).filter(keep).to_pylist()
        for row, reading in zip(parents, readings.filter(keep).to_pylist(), strict=True):
            rows[row].append(reading)
        yield from rows


def _category(
    key: str, label: str, values: Sequence[Any], *, shown: bool = False, later: bool = False, group: str = SETTINGS
) -> dict[str, Any]:
    """A column of few distinct values: the values in order, those that are not known last, and for each row which one;
    no rows where there is one value alone.
    """
    there = set(values)
    numeric = all(isinstance(v, int | float) for v in there - {None})
    distinct: list[Any] = sorted(there - {None}, key=None if numeric else lambda v: natural(str(v)))
    distinct += [None] * (None in there)
    place = {v: i for i, v in enumerate(distinct)}
    found = {
        "key": key,
        "label": label,
        "kind": "category",
        "numeric": numeric,
        "group": group,
        "shown": shown and (len(distinct) > 1 or key in ALWAYS),
        "later": later,
        "values": ["–" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in distinct],
    }
    return found | ({"rows": [place[v] for v in values]} if len(distinct) > 1 else {})


def _number(
    key: str,
    label: str,
    values: Sequence[float | None],
    *,
    scale: float,
    digits: int,
    group: str,
    shown: bool = False,
) -> dict[str, Any]:
    exact = 6 if scale == 100 else 4
    return {
        "key": key,
        "label": label,
        "kind": "number",
        "group": group,
        "shown": shown,
        "later": True,
        "scale": scale,
        "digits": digits,
        "rows": [None if v is None else round(v, exact) for v in values],
    }


def text(column: dict[str, Any], row: int) -> str:
    """A cell as shown; `runs.js` shows it the same way."""
    if column["kind"] == "category":
        return str(column["values"][column["rows"][row] if "rows" in column else 0])
    if column["kind"] == "text":
        return str(column["values"][row])
    value = column["rows"][row]
    return "–" if value is None else f"{value * column['scale']:.{column['digits']}f}"
