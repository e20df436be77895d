"""Boards in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from normbench.board import EDGE, MIN_SEEDS, STALE, Board, Entry, Metric, badges, why_not
from normbench.board.tuning import Sweep, Tried
from normbench.cli.say import shown
from normbench.plan.plan import Plan
from normbench.runner.fitted import Column, Fitted, number
from normbench.spec.robustness import WORST_CASE, apart
from normbench.spec.text import show
from normbench.spec.tuning import TuningSearch, order, written
from normbench.store.levels import Level
from normbench.suite import Tune

METHOD = Column("Method", key=True)

#: What stands under every set of boards, so that no number is read for more than it is.
NOTE = (
    "Methods are told apart where their intervals (±) do not overlap: seeds are paired, these test images taken as "
    "given; of boards on which no methods differ, at most 1 in 20 tells any pair apart. Rank a–b: at best a, at worst "
    f"b. Under {MIN_SEEDS} seeds there is neither: not tested."
)


#: What says more of a stale result, and what replaces it.
WHY = "`bench status SUITE --why` says what, `bench run SUITE` runs it again"


def render_all(boards: Iterable[Board], sweeps: Sequence[Sweep]) -> Group:
    """Boards, and what their tuning tried."""
    return Group(render(boards), *render_sweeps(sweeps))


#: What stands under comparisons.
COMPARED = (
    "A − B, from and to are in the unit of the metric, accuracies in points of %; seeds are paired, these test images "
    "taken as given. Two methods are told apart exactly where their intervals on the board do not overlap: there from "
    "and to have one sign. p is that of the whole board's rule."
)

#: What stands under other people's tables.
RANKS = (
    "Methods are told apart where their intervals (from, to) do not overlap: seeds are paired; of boards on which no "
    "methods differ, at most 1 in 20 tells any pair apart. Rank a–b: at best a, at worst b; with fewer than "
    f"{MIN_SEEDS} seeds it is –."
)


def render(boards: Iterable[Board]) -> Group:
    """Accuracy, robustness and weight-norm tables of each board."""
    parts: list[Fitted | Text] = []
    levels: set[Level] = set()
    starred = stale = False
    for board in boards:
        stale |= any(e.stale for e in board.entries)
        starred |= any(any(e.tuned.values()) for e in board.entries)
        parts += _tables(board)
        levels |= {e.level for e in board.entries}
    if not parts:
        return Group(shown("No results yet."))
    told = [NOTE, f"{EDGE}." if starred else "", f"stale: {STALE}; {WHY}." if stale else "", _trust(levels)]
    return Group(*parts, shown(" ".join(filter(None, told)), style="dim"))


def _trust(levels: set[Level]) -> str:
    """What the marks of trust mean; with nothing but self-reported results, that there are none."""
    if levels == {Level.SELF_REPORTED}:
        return "All of these results are self-reported."
    return f"{', '.join(f'{level.symbol} {level.value}' for level in Level)}; an entry as its least checked trial."


def _tables(board: Board) -> list[Fitted | Text]:
    made: list[Fitted | Text] = []
    clean, robust, weights = board.of("clean"), board.of("robust"), board.growth
    made.append(shown(f"\n{board.title}", style="bold"))
    told = [badge.text for badge in badges(board)]
    told += [f"{k} {v}" for k, v in board.shared if k in {"optimizer", "wd", "schedule"}]
    made.append(shown(" · ".join(told), style="dim"))
    if clean or not (robust or weights):
        made += _table("Accuracy, %", board, clean, clean[0] if clean else None)
    if by := board.headline("robust"):
        ordered = f"{'ranked' if board.tested(by) else 'ordered'} by {by.label}"
        made += _table(f"Robust accuracy, % (sizes in pixel space; {ordered})", board, _telling(robust), by)
    made += [
        shown(f"⚑ {e.label}: health checks that did not pass: {e.flags}", style="yellow")
        for e in board.entries
        if e.flags
    ]
    if weights:
        made += _table("Weight norm, end / start", board, weights, None)
    return made


def _telling(metrics: Sequence[Metric]) -> list[Metric]:
    """What fits a terminal: at a size that has a worst case, it stands for the attacks."""
    covered = {(m.threat, m.size) for m in metrics if m.attack == WORST_CASE}
    return [m for m in metrics if (m.threat, m.size) not in covered or m.attack == WORST_CASE]


def _heading(metric: Metric) -> str:
    """On lines of its own, to be narrow: `worst`, `linf`, `8/255`."""
    images, statistics = apart(metric.attack)
    by = f"\n{statistics}".replace("[", "\n[") if statistics else ""
    if metric.group == "clean":
        return f"Clean{by}"
    if metric.size is None:
        return metric.label.replace(", ", "\n").replace("-", "\n")
    # Corruptions are attacks of one name, each of its own kind.
    own = images.partition("kinds=")[2].rstrip("]") or images.partition("[")[0]
    name = f"worst\n{metric.threat}" if metric.attack == WORST_CASE else own.replace("_", "\n")
    return f"{name}{by}\n{show(metric.size)}"


def _table(title: str, board: Board, metrics: Sequence[Metric], ranked: Metric | None) -> tuple[Text, Fitted]:
    by = ranked or (metrics[0] if metrics else None)
    order = board.standings(by) if by else list(board.entries)
    tested = ranked is not None and board.tested(ranked)
    # Told where the ranks are, and once where it is the same for all.
    notes = [_note(entry, by) if ranked or not metrics else "" for entry in order]
    if not tested and len(set(notes)) == 1 and notes[0]:
        title, notes = f"{title}: {notes[0]}", [""] * len(order)
    table = Fitted(
        [
            *([number("Rank")] if tested else []),
            METHOD,
            *map(number, [*_columns(board), *map(_heading, metrics), "Seeds"]),
            *([Column("Note", words=True)] if any(notes) else []),
        ]
    )
    for entry, note in zip(order, notes, strict=True):
        rank = board.rank(entry, ranked) if ranked else None
        level = "" if entry.level is Level.SELF_REPORTED else f" {entry.level.symbol}"
        cells: list[str | Text] = [rank.text if rank else "–"] if tested else []
        stale = f" ({entry.stale})" if entry.stale else ""
        cells.append(shown(f"{entry.label}{stale}{' ⚑' if entry.flags else ''}{level}"))
        cells += [shown(_setting(entry, name)) for name in _columns(board)]
        # the interval stands where the ranks are from; elsewhere it would not fit
        cells += [
            (c.display if m == ranked or not ranked else m.display(c.value)) if (c := entry.cells.get(m.key)) else "–"
            for m in metrics
        ]
        cells.append(str(len(entry.runs)))
        if any(notes):
            cells.append(shown(note, style="red" if entry.failed else ""))
        table.add_row(*cells)
    return shown(title, style="italic"), table


def _columns(board: Board) -> list[str]:
    """The learning rate, and the other settings in which entries differ."""
    return [name for name, _ in board.entries[0].settings]


def _setting(entry: Entry, name: str) -> str:
    """A setting as text, with a star where tuning chose it at an end of what it tried."""
    return f"{dict(entry.settings)[name]}{'*' if entry.tuned.get(name) else ''}"


def _note(entry: Entry, metric: Metric | None) -> str:
    """How trials failed, with the first reason; and why there is no rank."""
    reason = next((r.reason for r in entry.failed if r.reason), "")
    why = why_not(entry, metric) if metric else ""
    ended = f"{why if len(entry.failed) == len(entry.runs) else entry.status}: {reason}" if reason else entry.status
    return "; ".join(dict.fromkeys(filter(None, (ended, "" if metric and metric.key not in entry.cells else why))))


def render_choices(plan: Plan) -> Text:
    """What tuning has chosen so far, a line a search."""
    lines = []
    for tuning in plan.tuning:
        choice = tuning.choice
        if choice is None:
            lines.append(f"  {tuning.search.label}: waits for {len(tuning.search.candidates)} candidates")
        elif choice.settings is None:
            lines.append(f"  {tuning.search.label}: {choice.status.value}: {choice.reason}")
        else:
            lines.append(
                f"  {tuning.search.label}: {written(choice.settings)}, validation accuracy {choice.accuracy:.2%}"
            )
    return shown("\n".join(lines))


def tuned_in_words(tune: Tune, search: TuningSearch) -> str:
    """What a suite tunes, and how, on one line."""
    settings = "; ".join(
        f"{key} {', '.join('null' if v is None else show(v) for v in values)}"
        for key, values in tune.settings().items()
    )
    seeds = len({c.seed for c in search.candidates})
    return (
        f"{settings}; per {', '.join(dict.fromkeys(('norm', *tune.per)))}; on "
        f"{search.candidates[0].data.validation:g} of the training images, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}, scheduler {search.scheduler}"
    )


#: Settings that get a column each; with more of them only the choice is shown.
TRIED = 8


def render_sweeps(sweeps: Sequence[Sweep]) -> list[Fitted | Text]:
    """What tuning tried, a line a method: validation accuracy of each setting, the choice in brackets, and what it
    cost.
    """
    if not sweeps:
        return []
    settings = list(dict.fromkeys(t.settings for s in sweeps for t in s.tried))
    settings = sorted(settings, key=order) if len(settings) <= TRIED and len({s.keys for s in sweeps}) == 1 else []
    chosen = [Column("Chosen", words=True), number("Validation")]
    table = Fitted(
        [
            METHOD,
            *([number(written(setting).replace(", ", "\n")) for setting in settings] or chosen),
            *map(number, ("Tried", "Epochs", "Train\ns")),
        ]
    )
    for sweep in sweeps:
        by = {t.settings: t for t in sweep.tried}
        edge = "*" if sweep.at_the_edge else ""
        cells = [_tried(by.get(setting), edge) for setting in settings]
        if not settings:
            cells = [
                sweep.chosen.text + edge if sweep.chosen else "none",
                sweep.chosen.display if sweep.chosen else "–",
            ]
        table.add_row(
            shown(sweep.label),
            *map(shown, cells),
            str(sweep.trials),
            f"{sweep.epochs:,}",
            f"{sweep.train_seconds:,.0f}",
        )
    shares, seeds = sorted({f"{s.held_out:g}" for s in sweeps}), sorted({s.seeds for s in sweeps})
    note = (
        f"On {' or '.join(shares)} of the training images, held out; {' or '.join(map(str, seeds))} "
        f"seed{'' if seeds == [1] else 's'}; [chosen]. "
        f"{EDGE}."
    )
    return [shown("\nTuning, validation accuracy in %"), table, shown(note, style="dim")]


def _tried(tried: Tried | None, edge: str) -> str:
    if tried is None:
        return "–"
    return f"[{tried.display}]{edge}" if tried.chosen else tried.display


def render_ranks(lines: Sequence[Mapping[str, Any]], value: str) -> Group:
    """What `normbench.rank` found, a table for each board, the best first."""
    parts: list[Fitted | Text] = []
    for board in dict.fromkeys(line["board"] for line in lines):
        own = [line for line in lines if line["board"] == board]
        own.sort(key=lambda line: (line["best"] is None, line["best"] or 0, -(line["mean"] or 0.0)))
        table = Fitted([number("Rank"), METHOD, *map(number, (value, "from", "to", "Seeds"))])
        for line in own:
            best, worst = line["best"], line["worst"]
            rank = "–" if best is None else str(best) if best == worst else f"{best}–{worst}"
            numbers = ("–" if line[k] is None else f"{line[k]:.5g}" for k in ("mean", "low", "high"))
            table.add_row(rank, shown(line["method"]), *numbers, str(line["n"]))
        parts += [shown(str(board), style="italic")] if board is not None else []
        parts.append(table)
    return Group(*parts, shown(RANKS, style="dim")) if parts else Group(shown("The table has no rows."))
