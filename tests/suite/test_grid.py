"""The grid: what the product holds, how it is shaped, and in which order it comes."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.paths import shipped
from normbench.spec.trial import Component, Limits, TrainSpec, Trial
from normbench.suite import Suite, SuiteError, expand, load
from normbench.suite._load import read

BASE: dict[str, Any] = {
    "suite": "x",
    "data": {"dataset": "somewhere"},
    "models": "resnet18",
    "norms": ["bn", "gn"],
    "seeds": 1,
}


def trials(**keys: Any) -> list[Trial]:
    return expand(read(yaml.safe_dump(BASE | keys).encode(), Path("f.yaml")))


def cells(found: list[Trial], *keys: str) -> list[tuple[Any, ...]]:
    values = {
        "norm": lambda t: t.norm_label,
        "batch_size": lambda t: t.batch_size,
        "seed": lambda t: t.seed,
        "width": lambda t: t.model.width,
    }
    return [tuple(values[k](t) if k in values else getattr(t.train, k) for k in keys) for t in found]


def test_every_list_is_an_axis() -> None:
    found = trials(
        data={"dataset": ["a", "b"], "image_size": [8, None], "validation": 0.1},
        models=["resnet18", {"name": "resnet34", "kwargs": {"drop_rate": 0.1}}],
        batch_sizes=[32, 64],
        widths=[1, "1/2"],
        seeds=[3, 7],
        train={"lr": ["1e-1", "5e-2"], "clip_grad": [None, 1]},
    )
    assert len(found) == len({t.trial_id for t in found}) == 2**9
    assert {t.data.image_size for t in found} == {8, None}
    assert {t.model.kwargs.get("drop_rate") for t in found} == {None, 0.1}
    assert {(t.train.lr, t.train.clip_grad) for t in found} == set(itertools.product((0.1, 0.05), (None, 1.0)))
    assert {t.model.width for t in found} == {1.0, 0.5}
    assert {t.seed for t in found} == {3, 7}


def test_a_recipe_of_steps_is_one_specification_however_it_is_written() -> None:
    written = [
        {"train": {"schedule": "step", "milestones": ["3/4", 0.5, "1/2"], "factor": "1/10"}},
        {"train": {"schedule": "step"}},
        {"overrides": [{"when": {"norm": "bn"}, "set": {"schedule": "step", "milestones": [0.75, "1/2"]}}]},
    ]
    assert len({trial.trial_id for more in written for trial in trials(norms="bn", **more)}) == 1
    (other,) = trials(norms="bn", train={"schedule": "step", "milestones": 0.3})
    assert other.train.milestones == (0.3,)
    both = trials(norms="bn", train={"schedule": ["step", "cosine"], "factor": [0.1, 0.2], "ema": [None, 0.9]})
    assert len(both) == 8


def test_defaults_are_those_of_the_trial() -> None:
    (trial, _) = trials()
    assert trial.train == TrainSpec()
    assert (trial.batch_size, trial.model.width, trial.model.stem, trial.seed) == (128, 1.0, "cifar", 0)
    suite = read(yaml.safe_dump(BASE).encode(), Path("f.yaml"))
    assert suite.limits == Limits()
    assert suite.source == Path("f.yaml")
    del BASE["seeds"]
    assert {t.seed for t in trials()} == {0, 1, 2}
    BASE["seeds"] = 1


def test_numbers_and_names_are_resolved() -> None:
    (trial,) = trials(
        norms="ws+gn[groups=8]",
        attacks=["noise", {"bim": {"eps": ["8/255", "1/255"], "steps": 5}}],
        measures={"weight-norm": {"every": 2}},
    )
    assert trial.norm_label == "ws+gn[groups=8]"
    assert [c.name for c in trial.norm] == ["ws", "gn"]
    assert trial.norm[1].params["groups"] == 8
    noise, bim = trial.attacks
    assert noise.params["std"] == [1 / 16]
    assert bim.params["eps"] == [1 / 255, 8 / 255], "sizes ascend"
    assert bim.params["steps"] == 5
    assert trial.measures == (Component(name="weight-norm", params=trial.measures[0].params | {"every": 2}),)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86400), (45, 45), (0.5, 0.5), ("60", 60)],
)
def test_time_limit(written: Any, seconds: float) -> None:
    suite = read(yaml.safe_dump(BASE | {"limits": {"time": written, "gpu": "1/4", "cpu": 2}}).encode(), Path("f.yaml"))
    assert suite.limits == Limits(time=seconds, gpu=0.25, cpu=2)


def test_the_order_of_augmentations_makes_no_other_trial() -> None:
    crop_flip, flip_crop = (
        trials(data={"dataset": "a", "augment": names})[0] for names in (["crop", "flip"], ["flip", "crop", "flip"])
    )
    assert crop_flip == flip_crop
    assert crop_flip.data.augment == ("crop", "flip")


def test_repeated_values_make_one_trial() -> None:
    assert len(trials(norms=["bn", "bn", "gn"], seeds=[0, 0], batch_sizes=[32, 32])) == 2


def test_exclude_drops_what_all_keys_fit() -> None:
    found = trials(batch_sizes=[1, 32], exclude=[{"norm": "bn", "batch_size": 1}])
    assert cells(found, "norm", "batch_size") == [("gn", 1), ("bn", 32), ("gn", 32)]


def test_include_adds_a_product_with_axes_replaced() -> None:
    found = trials(
        batch_sizes=[32],
        train={"lr": [0.1, 0.2]},
        include=[{"norm": "ln", "batch_size": [1, 2]}, {"seed": 9, "lr": 0.1}],
    )
    assert set(cells(found, "norm", "batch_size", "lr", "seed")) == {
        *itertools.product(("bn", "gn"), (32,), (0.1, 0.2), (0,)),
        *itertools.product(("ln",), (1, 2), (0.1, 0.2), (0,)),
        *itertools.product(("bn", "gn"), (32,), (0.1,), (9,)),
    }
    assert len(found) == 10


def test_overrides_apply_in_order_and_merge_what_becomes_equal() -> None:
    found = trials(
        norms=["bn", "gn", "none"],
        train={"lr": [0.1, 0.2]},
        overrides=[
            {"when": {"norm": ["gn", "none"]}, "set": {"lr": 0.02}},
            {"when": {"lr": 0.02, "norm": "none"}, "set": {"lr": 0.01, "batch_size": 8}},
        ],
    )
    assert sorted(cells(found, "norm", "lr", "batch_size")) == [
        ("bn", 0.1, 128),
        ("bn", 0.2, 128),
        ("gn", 0.02, 128),
        ("none", 0.01, 8),
    ]


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ("gn", ["gn", "gn[groups=8]"]),
        ("gn[groups=8]", ["gn[groups=8]"]),
        ("ws+gn", ["ws+gn", "ws+gn[groups=4]"]),
        ("gn+ws", ["ws+gn", "ws+gn[groups=4]"]),
        ("ws+gn[groups=4]", ["ws+gn[groups=4]"]),
        ("wn", ["wn"]),
        ("wn+none", ["wn"]),
        ("none", ["none"]),
        (["none", "gn[groups=8]"], ["gn[groups=8]", "none"]),
    ],
)
def test_norms_in_rules(rule: Any, fits: list[str]) -> None:
    norms = ["gn", "gn[groups=8]", "ws+gn", "ws+gn[groups=4]", "wn", "none"]
    found = trials(norms=norms, overrides=[{"when": {"norm": rule}, "set": {"lr": 0.5}}])
    assert [label for label, lr in cells(found, "norm", "lr") if lr == 0.5] == fits


def test_rules_know_models_widths_and_data() -> None:
    found = trials(
        models=["resnet18", "resnet34"],
        widths=[1, 2],
        data={"dataset": ["a", "b"]},
        exclude=[{"model": "resnet34", "width": 2}, {"dataset": "b", "model": ["resnet34"]}],
    )
    left = {(t.data.dataset, t.model.name, t.model.width) for t in found}
    assert left == {
        ("a", "resnet18", 1),
        ("a", "resnet18", 2),
        ("a", "resnet34", 1),
        ("b", "resnet18", 1),
        ("b", "resnet18", 2),
    }


def test_seed_by_seed_and_shape_by_shape() -> None:
    found = trials(
        seeds=[5, 2],
        batch_sizes=[32, 64],
        train={"lr": [0.1, 0.2]},
        include={"norm": "ln"},
        overrides={"when": {"norm": "gn", "batch_size": 64}, "set": {"batch_size": 32}},
    )
    assert [seed for seed, _ in itertools.groupby(t.seed for t in found)] == [5, 2]
    first = [t for t in found if t.seed == 5]
    shapes = [shape for shape, _ in itertools.groupby(cells(first, "norm", "batch_size"))]
    assert len(shapes) == len(set(shapes)), "trials of one shape stand together"
    assert set(cells(first, "norm", "batch_size", "lr")) == set(
        itertools.product(("bn", "ln"), (32, 64), (0.1, 0.2))
    ) | {("gn", 32, 0.1), ("gn", 32, 0.2)}
    assert cells([t for t in found if t.seed == 2], "norm", "batch_size", "lr") == cells(
        first, "norm", "batch_size", "lr"
    )


AXES = {
    "norms": st.lists(st.sampled_from(["bn", "gn", "gn[groups=8]", "ws+gn", "none"]), min_size=1, max_size=4),
    "seeds": st.integers(1, 3) | st.lists(st.integers(0, 5), min_size=1, max_size=3),
    "batch_sizes": st.lists(st.integers(1, 64), min_size=1, max_size=3),
    "widths": st.lists(st.sampled_from([0.25, 0.5, 1, 2]), min_size=1, max_size=2),
    "train": st.fixed_dictionaries(
        {}, optional={"lr": st.lists(st.floats(0.001, 1), min_size=1, max_size=3), "epochs": st.integers(1, 9)}
    ),
}


@settings(deadline=None, max_examples=60)
@given(st.fixed_dictionaries(AXES), st.randoms(use_true_random=False))
def test_grid_properties(keys: dict[str, Any], random: Any) -> None:
    """As many trials as the product of the distinct values; valid each by itself; the same again; the same set in
    whatever order axes are written.
    """
    found = trials(**keys)
    distinct = [len(set(keys[k])) for k in ("norms", "batch_sizes", "widths")] + [
        len(set(keys["train"].get("lr", [0])))
    ]
    distinct.append(keys["seeds"] if isinstance(keys["seeds"], int) else len(set(keys["seeds"])))
    product = 1
    for n in distinct:
        product *= n
    assert len(found) == len({t.trial_id for t in found}) == product
    assert all(Trial.model_validate_json(t.model_dump_json()) == t for t in found[:5])
    assert [t.trial_id for t in trials(**keys)] == [t.trial_id for t in found]
    shuffled = {k: random.sample(v, len(v)) if isinstance(v, list) else v for k, v in keys.items()}
    assert {t.trial_id for t in trials(**shuffled)} == {t.trial_id for t in found}


def test_a_suite_made_in_code_can_be_too_large() -> None:
    suite = Suite.model_validate(BASE | {"seeds": 10**6})
    with pytest.raises(SuiteError, match=r"seeds: the grid has 2,000,000 trials \(seeds 1,000,000 x norms 2\)"):
        expand(suite)


@pytest.mark.parametrize("path", sorted(shipped("suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_suites_that_ship(path: Path) -> None:
    suite = load(path)
    assert suite.name == path.stem
    assert suite.about
    assert expand(suite)


def test_the_cifar_suite_plans_the_real_thing() -> None:
    found = expand(load("cifar"))
    assert len({t.norm_label for t in found}) >= 8
    assert {(t.train.weight_decay > 0, t.seed) for t in found} == set(itertools.product((False, True), range(3)))
    assert {t.model.name for t in found} == {"resnet18"}
    assert all(t.data.test_examples is None and len(t.attacks[1].params["eps"]) >= 4 for t in found)
    assert {t.train.lr for t in found if t.norm_label in {"wn", "sn", "none"}} == {0.02}


def test_a_bare_name_is_looked_up_here_then_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("digits").source == shipped("suites", "digits.yaml")
    Path("suites").mkdir()
    Path("suites/digits.yaml").write_text(yaml.safe_dump(BASE | {"suite": "mine"}), encoding="utf-8")
    assert load("digits").name == "mine"
    Path("digits").write_text(yaml.safe_dump(BASE | {"suite": "nearest"}), encoding="utf-8")
    assert load("digits").name == "nearest"
    assert load(Path("suites/digits.yaml")).name == "mine"


def test_planning_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from normbench.suite import expand, json_schema, load; expand(load('digits')); "
        "json_schema(); print(sorted(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'normbench.suite._grid'" in shown
    for heavy in ("torch", "timm", "ray", "foolbox", "pyarrow"):
        assert f"'{heavy}'" not in shown


def test_statistics_are_asked_for_beside_the_running_ones() -> None:
    """Running statistics are those of a trial's own numbers: asking for nothing else leaves its id what it was."""
    bare = [t.trial_id for t in trials()]
    assert bare == [t.trial_id for t in trials(statistics="running")] == [t.trial_id for t in trials(statistics=[])]
    found = trials(statistics=["running", "precise", {"batch": {"size": 16}}, "adapted"])
    assert [c.name for c in found[0].statistics] == ["precise", "batch", "adapted"]
    assert found[0].statistics[1].params == {"size": 16}
    assert [t.trial_id for t in found] != bare
    assert [t.board for t in found] == [t.board for t in trials()]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("precse", "no statistics is called 'precse'; did you mean 'precise'?"),
        ({"batch": {"size": 0}}, "statistics.batch.size: expected a whole number of at least 1, found 0"),
        ({"batch": {"sizes": 8}}, "statistics 'batch' has no parameter 'sizes'; it has size; did you mean 'size'?"),
        (["batch", {"batch": {"size": 64}}], "batch stands here twice (also statistics[0]); write it once"),
    ],
)
def test_statistics_that_there_are_not_are_one_message(written: Any, said: str) -> None:
    with pytest.raises(SuiteError) as error:
        trials(statistics=written)
    assert said in str(error.value)
