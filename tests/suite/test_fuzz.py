"""Files that nobody thought of: any bytes are a suite, or a `SuiteError` with its lines."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from normbench.spec.trial import DataSpec, TrainSpec
from normbench.suite import Suite, SuiteError, expand, searches
from normbench.suite._load import read

SUITE = """\
suite: x
data: {dataset: digits, augment: [flip]}
models: [resnet18, {name: resnet34, kwargs: {drop_rate: 0.1}}]
norms: [bn, 'gn[groups=8]']
seeds: 2
train: {lr: [0.1, 1/5], epochs: 3}
attacks: [noise, bim: {eps: 8/255}]
measures: [weight-norm]
exclude: {norm: bn, lr: 1/5}
include: [{norm: none}]
overrides: [{when: {norm: gn}, set: {lr: 0.3}}]
limits: {time: 30m}
"""
TUNED = """\
suite: x
data: {dataset: digits}
models: resnet18
norms: [bn, 'gn[groups=8]']
seeds: 2
batch_sizes: [32, 64]
tune: {lr: [0.1, 1/5], weight_decay: [0, 5e-4], on: validation, validation: 0.2, seeds: [3], per: [norm, batch_size],
  scheduler: asha}
overrides: [{when: {norm: gn}, set: {epochs: 3}}]
"""

WORDS = [
    "bn",
    "gn[groups=8]",
    "ws+gn",
    "none",
    "resnet18",
    "vit_tiny_patch16_224",
    "digits",
    "bim",
    "noise",
    "weight-norm",
    "8/255",
    "1/0",
    "30m",
    "sgd",
]
ODDITIES = [
    *("~", "true", ".nan", "-.inf", "1e400", "0x1F", "0", "-1", "0.5", "5e-4", "9" * 5000, "[]", "{}"),
    *(
        "!!python/name:os.system x",
        "!t",
        "*a",
        "&a 1",
        "&a [*a]",
        "'",
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        "|",
        "{",
        "[",
        "- ",
        "? ",
        "%",
        "---",
        "\t",
        "\0",
        "\u2028",
    ),
]
RULES = [
    "when",
    "set",
    "norm",
    "model",
    "width",
    "seed",
    "batch_size",
    "name",
    "stem",
    "kwargs",
    "bim",
    "eps",
    "steps",
    "noise",
    "std",
    "<<",
    "1",
    "~",
]
KEYS = st.sampled_from(
    [
        "on",
        "per",
        "scheduler",
        *(f.alias or k for k, f in Suite.model_fields.items()),
        *TrainSpec.model_fields,
        *DataSpec.model_fields,
        *RULES,
    ]
)


def _list(values: list[str]) -> str:
    return f"[{', '.join(values)}]"


def _mapping(entries: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in entries) + "}"


SCALARS = (
    st.sampled_from(WORDS)
    | st.sampled_from(ODDITIES)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda v: st.lists(v, max_size=3).map(_list) | st.lists(st.tuples(KEYS, v), max_size=3).map(_mapping),
    max_leaves=6,
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def survives(data: bytes) -> None:
    """Bytes are a suite whose trials have identities, or a `SuiteError` of one line a problem."""
    try:
        suite = read(data, Path("f.yaml"))
        trials = expand(suite)
        assert all(s.candidates and s.finals for s in searches(suite))
    except SuiteError as error:
        problems = error.problems
    else:
        assert len({t.trial_id for t in trials[:50]}) == len(trials[:50]) > 0
        return
    lines = len(data.decode(errors="replace").splitlines())
    for problem in problems:
        assert str(problem).isprintable(), str(problem)
        assert problem.line is None or 1 <= problem.line <= lines + 1
    assert problems


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    survives(data)


@FUZZ
@given(st.text(alphabet="ab:-[]{}&*!|>?%@'\"\\\n \t,#<0.~u", max_size=80))
def test_any_text_like_yaml(text: str) -> None:
    survives(encoded(text))


@FUZZ
@given(st.lists(st.tuples(KEYS, VALUES), max_size=6))
def test_any_keys_and_values(entries: list[tuple[str, str]]) -> None:
    survives(encoded("".join(f"{key}: {value}\n" for key, value in entries)))


@FUZZ
@given(st.integers(0, len(SUITE)), st.integers(0, 12), VALUES)
def test_a_piece_of_a_valid_suite_replaced(start: int, length: int, value: str) -> None:
    survives(encoded(SUITE[:start] + value + SUITE[start + length :]))


@FUZZ
@given(st.integers(0, len(TUNED)), st.integers(0, 12), VALUES)
def test_a_piece_of_a_tuned_suite_replaced(start: int, length: int, value: str) -> None:
    survives(encoded(TUNED[:start] + value + TUNED[start + length :]))


@FUZZ
@given(st.sampled_from(SUITE.splitlines()), KEYS, VALUES)
def test_a_line_of_a_valid_suite_replaced(line: str, key: str, value: str) -> None:
    survives(encoded(SUITE.replace(line, f"{key}: {value}")))
