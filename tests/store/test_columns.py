"""A sealed shard from anyone: what no result holds is named with its column and left out, and stops no command."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from normbench.board import boards
from normbench.board.tuning import sweeps
from normbench.cli.terminal import render_all
from normbench.plan.plan import State, make
from normbench.spec.outcome import Outcome
from normbench.store.columns import RULES, odd
from normbench.store.compact import compact
from normbench.store.merge import merge
from normbench.store.reading import LARGE, RATIO, SMALL
from normbench.store.schema import BRIEF, SCHEMA
from normbench.store.store import Store, compact_name, to_bytes
from normbench.store.verify import verify
from rich.console import Console

from tests.command import bench
from tests.conftest import MakeTrial
from tests.store import hostile
from tests.store.samples import fill, outcome, rows

SUITE = """
suite: s
about: A test.
data: {dataset: stripes, image_size: 16}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [bn]
batch_sizes: [16]
widths: [0.125]
seeds: 2
train: {epochs: 1, lr: 0.05}
"""
#: Examples of the fuzz test; many of them in the run of faults.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))


@pytest.fixture
def row(tmp_path: Path, make_trial: MakeTrial) -> hostile.Row:
    store = Store(tmp_path / "good")
    fill(store, make_trial, [0])
    return rows(store)[0] | {
        "robustness": [{"attack": "a", "threat": "linf", "sizes": [0.1], "fell_at": b"\0" * 20, "area": 0.5}],
        "health": [{"check": "c", "passed": True, "evidence": "e"}],
    }


def test_every_column_has_a_rule() -> None:
    assert sorted(RULES) == sorted(SCHEMA.names)


def test_a_good_row_is_good(row: hostile.Row) -> None:
    assert odd(hostile.table(row)) == {}
    assert odd(hostile.table(row).slice(0, 0)) == {}


@pytest.mark.parametrize(("column", "change"), hostile.ODD, ids=[f"{i}-{c}" for i, (c, _) in enumerate(hostile.ODD)])
def test_what_no_result_holds_is_named_by_its_column(
    tmp_path: Path, row: hostile.Row, column: str, change: Callable[[hostile.Row], hostile.Row]
) -> None:
    store = Store(tmp_path / "r")
    name = f"s/{row['trial_id']}.parquet"
    store.put(name, hostile.content(change(row)))
    assert rows(store) == []
    (told,) = store.problems.values()
    assert column in told
    assert "expected" in told or "is not" in told
    assert len(told) < 1000
    assert [f.problem for f in verify(Store(tmp_path / "r"))[1]] == [told]


def test_one_odd_row_spoils_its_file_alone(tmp_path: Path, row: hostile.Row) -> None:
    ids = [f"{i:016x}" for i in range(6)]
    made = [hostile.table(row | {"trial_id": i}) for i in ids]
    made[1] = hostile.table(row | {"trial_id": ids[1], "norm": None})
    store = Store(tmp_path / "r")
    content = to_bytes(pa.concat_tables(made[:3]))
    store.put(f"s/{compact_name(content)}", content)
    for i in (3, 4):
        store.put(f"s/{ids[i]}.parquet", to_bytes(made[i]))
    store.put(f"s/{ids[5]}.parquet", hostile.content(row | {"trial_id": ids[5], "lr": -1.0}))
    assert [r["trial_id"] for r in rows(store)] == ids[3:5]
    told = {Path(path).name: problem for path, problem in store.problems.items()}
    assert told == {
        compact_name(content): f"column norm is null, expected text of at most 4,096 bytes (row 2, {ids[1]})",
        f"{ids[5]}.parquet": "column lr is -1.0, expected a number from 0 to 1000",
    }
    norms = pa.schema([SCHEMA.field("norm")], metadata=SCHEMA.metadata)
    for wanted, named in ((SCHEMA, f" (row 2, {ids[1]})"), (norms, " (row 2)")):
        alone = Store(tmp_path / "r")
        assert alone.read(f"s/{compact_name(content)}", wanted) is None
        assert list(alone.problems.values()) == [f"column norm is null, expected text of at most 4,096 bytes{named}"]
    compact(store, "s")
    assert {p.name for p in (tmp_path / "r" / "s").iterdir()} > set(told), "what is odd stays where it is"
    target = Store(tmp_path / "target")
    assert merge(store, target)["added"] == 2
    assert len(rows(target)) == 2
    assert not target.problems


@pytest.mark.matrix
def test_no_command_stops_at_odd_shards(
    tmp_path: Path, row: hostile.Row, make_trial: MakeTrial, data_dir: Path
) -> None:
    """All of them in one folder, with two good results among them."""
    store = Store(tmp_path / "r")
    fill(store, make_trial, [0, 1])
    for i, (_, change) in enumerate(hostile.ODD):
        store.put(f"s/{i:016x}.parquet", hostile.content(change(row) | {"trial_id": f"{i:016x}"}))
    store.put("s/suite.json/x", b"")
    store.put("s/reproductions.jsonl", b"[]\n" + hostile.DEEP.encode() + b"\n\xff\xfe\n")
    (tmp_path / "s.yaml").write_text(SUITE)
    at = ("--results", "r")
    for verb, code in (
        (("results", "verify", *at), 1),
        (("board", "s.yaml", *at), 0),
        (("plan", "s.yaml", *at, "--data", str(data_dir)), 0),
        (("status", "s.yaml", *at, "--data", str(data_dir)), 0),
        (("results", "merge", "r", "other"), 1),
        (("results", "export", "exported", *at), 1),
        (("results", "gc", *at, "--stale", "s.yaml"), 0),
        (("results", "migrate", "r"), 0),
        (("site", "--out", "site", *at), 0),
        (("results", "compact", *at), 1),
    ):
        answer = bench(*verb, cwd=tmp_path)
        assert "Traceback" not in answer.stderr, (verb, answer.stderr[-6000:])
        assert answer.returncode == code, (verb, answer.stderr[-500:])
        assert len(answer.stdout + answer.stderr) < 100_000, verb
    assert len(rows(Store(tmp_path / "other"))) == 2
    assert len(list((tmp_path / "r" / "s").glob("0000*.parquet"))) == len(hostile.ODD), "nothing was lost"


_numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, 20, 2**31, hostile.HUGE, -hostile.HUGE]))
_floats = st.floats() | st.sampled_from([0.0, 1.0, 1e308, float("nan"), float("inf")])
_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "[/x]", "[bold]", "\x1b[2J", "\u202e", "null", "{}", "[]", hostile.DEEP, "</script>", "\0"]),
)


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Values that a column of this kind can hold."""
    if pa.types.is_list(kind):
        return st.none() | st.lists(_values(kind.value_type), max_size=2)
    if pa.types.is_struct(kind):
        fields = {kind.field(i).name: _values(kind.field(i).type) for i in range(kind.num_fields)}
        return st.none() | st.fixed_dictionaries(fields)
    if pa.types.is_string(kind):
        return st.none() | _texts
    if pa.types.is_binary(kind):
        return st.none() | st.binary(max_size=4)
    if pa.types.is_boolean(kind):
        return st.none() | st.booleans()
    return st.none() | (_floats if pa.types.is_floating(kind) else _numbers)


_changed = st.lists(
    st.sampled_from([f for f in SCHEMA if f.name != "trial_id"]).flatmap(
        lambda f: st.tuples(st.just(f.name), _values(f.type))
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=_changed)
def test_any_sealed_shard_is_read_or_named(
    tmp_path: Path, row: hostile.Row, changed: list[tuple[str, Any]], make_trial: MakeTrial
) -> None:
    """Whatever stands in which column: the whole way from the store to boards on a terminal."""
    root = tmp_path / f"r{random.Random(repr(changed)).getrandbits(64):x}"
    store = Store(root)
    store.put(f"s/{row['trial_id']}.parquet", hostile.content(row | dict(changed)))
    found = rows(store)
    assert bool(found) != bool(store.problems)
    verify(store)
    tried = sweeps(found)
    with io.StringIO() as out:
        Console(file=out, width=200).print(render_all(boards(found, sweeps=tried), tried))
    merge(store, Store(root / "to"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: pa.array(["x" * 1_000_000] * 100),  # one value in a dictionary, named often
        lambda: pa.nulls(20_000_000, pa.string()),  # no value at all, said in a few bytes
        lambda: pa.array(["x" * 100_000_000]),  # one long text, which compresses well
    ],
    ids=["dictionary", "nulls", "text"],
)
def test_a_small_file_does_not_unpack_to_a_large_one(
    tmp_path: Path, make: Callable[[], pa.Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make()
    names = ("suite", "trial_id")
    columns = [log if f.name == "log" else pa.nulls(len(log), f.type) for f in SCHEMA if f.name in {*names, "log"}]
    out = io.BytesIO()
    schema = pa.schema([SCHEMA.field(n) for n in (*names, "log")], metadata=SCHEMA.metadata)
    pq.write_table(pa.table(columns, schema=schema), out, compression="zstd")
    content = out.getvalue()
    assert len(content) < 200_000
    store = Store(tmp_path)
    store.put("s/0123456789abcdef.parquet", content)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("it was read"))
    assert store.read("s/0123456789abcdef.parquet", schema) is None
    (told,) = store.problems.values()
    assert told == f"its {len(content):,} bytes would unpack to more than " + (
        f"{min(LARGE, SMALL + RATIO * len(content)):,}, as those of no results do"
    )


def test_links_loops_and_pipes_are_named_and_left_alone(tmp_path: Path, make_trial: MakeTrial) -> None:
    outside, root = tmp_path / "outside", tmp_path / "r"
    fill(Store(outside), make_trial, range(3), suite="t")
    before = {p.name: p.read_bytes() for p in (outside / "t").iterdir()}
    store = Store(root)
    (mine,) = fill(store, make_trial, [5])
    (root / "t").symlink_to(outside / "t")
    (root / "loop").symlink_to(root / "loop")
    (root / "s" / "0123456789abcdef.parquet").symlink_to(root / "s" / "0123456789abcdef.parquet")
    (root / "s" / f"{'1' * 16}.parquet").symlink_to(next((outside / "t").iterdir()))
    (root / "s" / f"{'2' * 16}.parquet").symlink_to(store.path("s", mine.trial_id))
    os.mkfifo(root / "s" / f"{'3' * 16}.parquet")
    link = "it is a link, which is not followed"
    for store in (Store(root), Store(f"file://{root}")):
        assert store.suites() == ["s"]
        assert store.shards("t") == []
        assert store.problems[store.files.where("t")] == link
    store = Store(root)
    list(store.rows())
    assert store.problems[str(root / "loop")] == link
    assert {Path(p).stem[0]: told for p, told in store.problems.items() if p.endswith(".parquet")} == {
        **dict.fromkeys("012", link),
        "3": "it is no regular file",
    }
    (tmp_path / "t.yaml").write_text(SUITE.replace("suite: s", "suite: t"))
    for verb in (
        ("results", "gc", "--stale", "t.yaml", "--broken", "--yes", "--results", "r"),
        ("results", "compact", "--results", "r"),
        ("results", "merge", "r", "target"),
        ("results", "merge", "outside", "r"),
        ("results", "verify", "--results", "r"),
        ("board", "t.yaml", "--results", "r"),
    ):
        answer = bench(*verb, cwd=tmp_path)
        assert "Traceback" not in answer.stderr, (verb, answer.stderr)
        assert {p.name: p.read_bytes() for p in (outside / "t").iterdir()} == before, verb
    assert [r["seed"] for r in Store(tmp_path / "target").rows()] == [5]


def test_what_every_outcome_has_no_row_lacks() -> None:
    """Code behind the store's door may take it for granted."""
    kinds = get_type_hints(Outcome)
    lacking = {name for name, kind in kinds.items() if type(None) in get_args(kind)} | {"clean_accuracy"}
    assert {n for n in SCHEMA.names if RULES[n].null} == lacking | {"content", "device_class", "precision"}


def test_packed_bits_are_as_many_as_images() -> None:
    from normbench.store.columns import _unpackable

    total, outcomes = [9, 8, 9, 9, 0, None], [b"\xff\x80", b"\xff", b"\xff\xc0", b"\xff", b"", b"\0"]
    found = _unpackable(pa.array([1] * 6), pa.array(total, pa.int64()), pa.array(outcomes))
    assert found.tolist() == [False, False, True, True, True, True]
    assert np.array_equal(
        _unpackable(pa.array([1] * 4), pa.array(total[2:], pa.int64()), pa.array(outcomes)[2:]), found[2:]
    )


#: Columns that a plan does not need.
UNREAD = sorted({*SCHEMA.names} - {*BRIEF})


@pytest.mark.parametrize("column", UNREAD)
def test_what_boards_leave_out_is_not_cached_for_a_plan(
    column: str, tmp_path: Path, make_trial: MakeTrial, data_dir: Path
) -> None:
    store, trials = Store(tmp_path / "r"), [make_trial(seed=s) for s in range(2)]
    for item in make("s", trials, store, data_dir).items:
        store.write("s", item.trial, item.identity.to_dict(), outcome())
    assert make("s", trials, store, data_dir).todo == []
    (bad,) = (r for r in store.rows() if r["seed"] == 1)
    change = next(change for c, change in hostile.ODD if c == column)
    odd_row = change(bad | {"robustness": [], "health": []})
    store.put(f"s/{bad['trial_id']}.parquet", hostile.content(odd_row))
    boards = {r["trial_id"] for r in store.rows(["s"])}
    cached = {i.trial.trial_id for i in make("s", trials, store, data_dir).items if i.state is State.CACHED}
    assert boards == cached == {trials[0].trial_id}
