"""A trial by other statistics: numbers of their own in its row, and none of its others moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import normbench.attacks as attacks
import normbench.statistics as statistics
import pytest
import torch
from normbench.board import Board, boards, why_not
from normbench.cli.terminal import render_all
from normbench.lab import data, evaluate
from normbench.lab.restated import KEEPS_NONE, restated
from normbench.lab.train import Tensors
from normbench.lab.trial_run import Context, run
from normbench.plan.identity import identity
from normbench.spec.outcome import Outcome, Status
from normbench.spec.robustness import unpack
from normbench.spec.trial import Component, Trial
from normbench.statistics._layers import keeping
from normbench.store.columns import odd
from normbench.store.schema import SCHEMA, to_row
from rich.console import Console
from torch import nn

from tests.conftest import MakeTrial, make_plain

NOISE = attacks.registry.make("noise", {"std": [0.05, 0.1]})
CORRUPTIONS = attacks.registry.make("corruptions", {"severity": [3], "kinds": ["contrast", "defocus_blur"]})
BIM = attacks.registry.make("bim", {"eps": [4 / 255], "steps": 2})
ASKED = [
    statistics.registry.make(name, params)
    for name, params in (("precise", {"size": 8}), ("batch", {"size": 8}), ("adapted", {"size": 8, "prior": 4}))
]


class Network(nn.Module):
    """With drop-out, which no statistics switch on."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(6 * 36, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def test_set() -> Tensors:
    """Sorted by class, as stored test sets may be."""
    drawn = torch.randint(0, 256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Tensors(drawn, torch.arange(30) // 6)


def network(norm: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    made = Network(norm or nn.BatchNorm2d(6))
    made.train()(torch.rand(16, 3, 8, 8))
    return made


def call(model: nn.Module, test: Tensors, wanted: Any = ASKED, methods: Any = (NOISE, CORRUPTIONS, BIM)) -> Any:
    training = test.images.flip(0)
    return restated(model, wanted, methods, test, training, seed=3, batch_size=7, data_dir=None)


def test_running_statistics_give_the_numbers_that_a_row_has_anyway(test_set: Tensors) -> None:
    model = network()
    clean = evaluate.clean(model, test_set, 30)
    rows = [
        r
        for m in (NOISE, CORRUPTIONS)
        for r in evaluate.attack(model, m, test_set, clean.correct, seed=3, batch_size=30)
    ]
    found = call(model, test_set, [statistics.registry.make("running")])
    assert [a.outcomes for a in found.results] == [evaluate.pack(clean.correct), *(r.outcomes for r in rows)]


def test_each_number_is_named_by_its_images_and_statistics(test_set: Tensors) -> None:
    """No gradient of another network is climbed: attacks are left out."""
    found = call(network(), test_set)
    images = ["clean", "noise", "noise", *(f"corruptions[kinds={k}]" for k in ("contrast", "defocus_blur"))]
    by = ["precise[size=8]", "batch[size=8]", "adapted[prior=4,size=8]"]
    assert [a.attack for a in found.results] == [f"{i} under {s}" for s in by for i in images]
    assert {(a.threat, a.size) for a in found.results if a.attack.startswith("clean")} == {("clean", 0.0)}
    assert found.absent == {}
    assert len({a.outcomes for a in found.results}) > 3


def test_a_batch_has_the_statistics_of_train_mode_and_is_drawn_at_random(test_set: Tensors) -> None:
    """Held against the layer in train mode by itself, in the batches that were drawn."""
    model = network()
    sets: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: sets.append(inputs[0]))
    (result,) = call(model, test_set, ASKED[1:2], ()).results
    pixels = evaluate.pixels(test_set.images)
    index = [[int((pixels == image).flatten(1).all(1).nonzero()) for image in batch] for batch in sets]
    assert sorted(i for batch in index for i in batch) == list(range(30))
    assert [len(batch) for batch in index] == [8, 8, 14]
    assert all(len({i // 6 for i in batch}) > 2 for batch in index), "each holds several classes"
    model.eval()
    keeping(model)[0].train()
    right = torch.zeros(30, dtype=torch.bool)
    with torch.no_grad():
        for batch in index:
            right[batch] = model(pixels[batch]).argmax(1) == test_set.labels[batch]
    assert unpack(result.outcomes, 30).tolist() == right.tolist()


@pytest.mark.parametrize("statistics_", ASKED, ids=lambda s: s.name)
def test_the_network_is_left_bit_for_bit_as_it_was(statistics_: Any, test_set: Tensors) -> None:
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    momenta = [layer.momentum for layer in keeping(model)]
    assert call(model, test_set, [statistics_]).results
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [m.training for m in model.modules()] == modes
    assert [layer.momentum for layer in keeping(model)] == momenta
    assert all(p.requires_grad for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_network_without_running_statistics_has_no_numbers_and_says_why(test_set: Tensors) -> None:
    found = call(network(nn.GroupNorm(2, 6)), test_set)
    assert found.results == []
    assert found.absent == {s.setting: KEEPS_NONE for s in ASKED}


def test_a_layer_that_refuses_a_batch_costs_those_statistics_alone(test_set: Tensors) -> None:
    """One value a channel has no variance in training."""
    model = network()
    model.body = nn.Sequential(nn.Conv2d(3, 216, 8), nn.BatchNorm2d(216), nn.Flatten())
    single = statistics.registry.make("batch", {"size": 1})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = call(model, test_set, [single, *ASKED], ())
    assert found.absent.keys() == {"batch[size=1]"}
    assert "ValueError: Expected more than 1 value per channel" in found.absent["batch[size=1]"]
    assert len(found.results) == len(ASKED)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def _trial(norm: str, *, asked: bool) -> Trial:
    components = tuple(s.component() for s in ASKED) if asked else ()
    methods = (NOISE.component(), CORRUPTIONS.component())
    return make_plain(norm).model_copy(update={"attacks": methods, "statistics": components})


def _run(trial: Trial, data_dir: Path) -> tuple[Outcome, dict[str, Any]]:
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    content = data.fingerprint(source)
    outcome = run(trial, Context(data_dir=str(data_dir), fingerprint=content), lambda _: None)
    return outcome, to_row("s", trial, identity(trial, content).placed(outcome).to_dict(), outcome)


@pytest.fixture(scope="module")
def rows(data_dir: Path) -> dict[str, tuple[Outcome, dict[str, Any]]]:
    """Batch norm with and without the question, and group norm with it."""
    asked = {f"{norm} asked": _run(_trial(norm, asked=True), data_dir) for norm in ("bn", "gn")}
    return asked | {"bn": _run(_trial("bn", asked=False), data_dir)}


def test_asking_for_statistics_moves_no_other_number(rows: dict[str, tuple[Outcome, dict[str, Any]]]) -> None:
    plain, asked = rows["bn"][0], rows["bn asked"][0]
    assert (plain.status, asked.status) == (Status.OK, Status.OK)
    drop = {"attacks", "provenance", "started", "wall_seconds", "train_seconds", "images_per_second", "measure_seconds"}
    drop |= {"peak_memory"}
    assert plain.model_dump(exclude=drop) == asked.model_dump(exclude=drop)
    shared = len(plain.attacks)
    bare = [a.model_dump(exclude={"seconds"}) for o in (plain, asked) for a in o.attacks[:shared]]
    assert bare[:shared] == bare[shared:]
    assert len(asked.attacks) == shared + 15


def test_boards_show_them_as_metrics_and_say_who_has_none(rows: dict[str, tuple[Outcome, dict[str, Any]]]) -> None:
    import pyarrow as pa

    made = [row for name, (_, row) in rows.items() if name.endswith("asked")]
    assert odd(pa.Table.from_pylist(made, schema=SCHEMA)) == {}
    board = _board([row for _, row in rows.values()])
    bn, gn, plain = (
        next(e for e in board.entries if e.label.startswith(n))
        for n in ("bn · statistics p", "gn", "bn · statistics –")
    )
    clean = [m for m in board.metrics if m.group == "clean"]
    assert [m.label for m in clean] == [
        "clean accuracy",
        *(f"clean under {s.setting}" for s in sorted(ASKED, key=lambda s: s.setting)),
    ]
    by_precise = clean[-1]
    outcome = rows["bn asked"][0]
    expected = next(a.accuracy for a in outcome.attacks if a.attack == by_precise.attack)
    assert bn.cells[by_precise.key].value == expected
    assert by_precise.key not in gn.cells
    assert why_not(gn, by_precise) == KEEPS_NONE
    assert why_not(plain, by_precise) == "not measured"
    assert {m.size for m in board.metrics if m.attack == "noise under precise[size=8]"} == {0.05, 0.1}
    assert board.headline("clean") == clean[0]
    console = Console(width=300)
    with console.capture() as capture:
        console.print(render_all([board], []))
    text = capture.get()
    assert "precise" in text
    assert "adapted" in text


def _board(found: list[dict[str, Any]]) -> Board:
    (board,) = boards(found)
    return board


def test_a_specification_without_statistics_is_written_as_ever(make_trial: MakeTrial) -> None:
    plain = make_trial()
    assert "statistics" not in plain.model_dump(mode="json")
    asked = plain.model_copy(update={"statistics": (Component(name="batch", params={"size": 64}),)})
    again = Trial.model_validate_json(asked.model_dump_json())
    assert again.statistics == asked.statistics
    assert len({plain.trial_id, again.trial_id}) == 2
    assert plain.board == again.board, "their own numbers may stand on one board"
