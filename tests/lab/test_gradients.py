"""What attacks search with may be fast and rough: verdicts are the model's own, and gradients that are not the model's
are not climbed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from normbench import attacks, norms
from normbench.attacks.base import Attack
from normbench.lab import evaluate
from normbench.lab.engine.gradients import CompiledGradients, Searches
from normbench.lab.train import Tensors
from normbench.lab.trial_run import Context, run
from normbench.spec.outcome import AttackResult, Status
from normbench.spec.robustness import unpack
from torch import nn

from tests.conftest import MakeTrial, stripes
from tests.lab.engines import Net

#: Whose searches are compiled in every run of the tests; the others take minutes (`tox -e engine`).
ALWAYS = ("bn",)
BATCH = 32


def _trained(norm: str) -> nn.Module:
    torch.manual_seed(1)
    model, data = Net(norm), some_data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(evaluate.pixels(data.images)), data.labels).backward()
        optimizer.step()
    return model.eval()


def some_data() -> Tensors:
    images, labels = stripes(72, 0)  # two batches of 32 and a rest
    return Tensors(torch.from_numpy(images)[:, None], torch.from_numpy(labels))


def _method(name: str, **params: object) -> Attack:
    method: Attack = attacks.registry.make(name, {"eps": [4 / 255, 16 / 255, 64 / 255], **params})
    return method


def _attacked(model: nn.Module, method: Attack, search: CompiledGradients | None) -> list[AttackResult]:
    data = some_data()
    right = evaluate.clean(model, data, BATCH).correct
    assert right.sum() > 40
    return evaluate.attack(model, method, data, right, seed=0, batch_size=BATCH, search=search)


def _prepared(model: nn.Module, precision: str = "float32") -> CompiledGradients:
    data, search = some_data(), CompiledGradients(model, precision)
    with evaluate.evaluating(model):
        search.prepare(evaluate.pixels(data.images[:BATCH]), data.labels[:BATCH])
    return search


def _apart(found: list[AttackResult], expected: list[AttackResult]) -> int:
    """Images with another verdict, over all sizes."""
    return sum(
        int((unpack(f.outcomes, f.total) != unpack(e.outcomes, e.total)).sum())
        for f, e in zip(found, expected, strict=True)
    )


def _methods() -> list[object]:
    alone = [
        n for n in norms.registry.names() if not issubclass(norms.registry.get(n), norms.NormModifier) and n != "none"
    ]
    return [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.engine) for n in sorted({*alone, "ws+gn"})]


@pytest.mark.parametrize("norm", _methods())
def test_a_compiled_search_finds_what_the_model_finds(norm: str) -> None:
    model = _trained(norm)
    search = _prepared(model)
    assert (search.engine, search.reason) == ("compile", "")
    assert search.compile_seconds > 0
    found, expected = (_attacked(model, _method("pgd", steps=7), s) for s in (search, None))
    assert _apart(found, expected) <= 1  # rounding may decide one image
    assert [r.correct for r in expected] != [expected[0].correct] * 3, "the sizes tell nothing apart"
    assert search.engine == "compile", "it fell back meanwhile"


@pytest.mark.parametrize("name", ["fgsm", "bim", "bim-l2", "mim", "pgd-l1"])
def test_every_gradient_attack_takes_the_search(name: str) -> None:
    model = _trained("bn")
    radii = {} if name in {"fgsm", "bim", "mim"} else {"eps": [0.2, 1.0] if name == "bim-l2" else [1.0, 8.0]}
    method = _method(name, **radii)
    search = _Watched(model)
    found, expected = _attacked(model, method, search), _attacked(model, method, None)
    assert search.calls
    assert [r.outcomes for r in found] == [r.outcomes for r in expected]


def test_noise_does_not() -> None:
    model, search = _trained("bn"), _Watched(_trained("bn"))
    _attacked(model, attacks.registry.make("noise", {}), search)
    assert not search.calls


#: What asks for more than the direction of a gradient.
SEARCHING: dict[str, dict[str, Any]] = {
    "square": {"eps": [8 / 255, 64 / 255], "queries": 30},
    "cw-l2": {"steps": 20, "searches": 2, "first": 30.0, "step_size": 0.1, "eps": [0.5, 4.0]},
    "deepfool": {"steps": 5},
}


@pytest.mark.parametrize("name", SEARCHING)
def test_verdicts_of_other_attacks_are_exact_whatever_they_search_with(name: str) -> None:
    """A search that agrees gives the same; one that believes everything, or has nothing finite, costs time alone."""
    model, method = _trained("bn"), attacks.registry.make(name, SEARCHING[name])
    expected = _attacked(model, method, None)
    assert 0 < sum(r.correct for r in expected) < sum(r.total for r in expected)
    for kind in (_Watched, _Deceived, _Overflowing):
        search = kind(model)
        assert [r.outcomes for r in _attacked(model, method, search)] == [r.outcomes for r in expected], kind
        assert search.calls


def test_each_attack_has_the_search_that_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", _no_compiler)
    data = some_data()
    searches = Searches(_trained("bn"), "bf16", evaluate.pixels(data.images[:BATCH]), data.labels[:BATCH])
    assert searches.facts == {}
    assert searches.of(attacks.registry.make("noise", {})) is None
    fast, exact = (searches.of(attacks.registry.make(name, {})) for name in ("bim", "square"))
    assert fast is searches.of(attacks.registry.make("pgd-l2", {}))
    assert exact is searches.of(attacks.registry.make("cw-l2", {}))
    assert [s.precision for s in (fast, exact) if s] == ["bf16", "float32"]
    assert searches.facts["search_precision"] == "bf16"
    assert searches.facts["exact_search_reason"] == "RuntimeError: no C++ compiler"


@pytest.mark.engine
@pytest.mark.parametrize("name", SEARCHING)
def test_a_compiled_search_without_gradients(name: str) -> None:
    model, data = _trained("bn"), some_data()
    search = CompiledGradients(model, "float32")
    with evaluate.evaluating(model):
        search.prepare(evaluate.pixels(data.images[:BATCH]), data.labels[:BATCH], plain=True)
    method = attacks.registry.make(name, SEARCHING[name])
    found, expected = _attacked(model, method, search), _attacked(model, method, None)
    assert (search.engine, search.reason) == ("compile", "")
    assert _apart(found, expected) <= 1


class _Watched(CompiledGradients):
    """The eager search, counting its calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, "float32")
        self.calls = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().__call__(images)


class _Deceived(_Watched):
    """A search that takes every image that is classified correctly for fooled."""

    def _run(self, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        return -super()._run(forward, images)


class _Overflowing(_Watched):
    """A search whose logits are never finite."""

    def _run(self, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        return super()._run(forward, images) * float("inf")


def test_what_has_fallen_for_the_search_alone_is_attacked_again_without_it() -> None:
    """A search that believes everything at once must not make a network look more robust than it is."""
    model = _trained("bn")
    for method in (_method("bim", steps=7), _method("pgd", steps=7, restarts=2)):
        found, expected = _attacked(model, method, _Deceived(model)), _attacked(model, method, None)
        assert [f.outcomes for f in found] == [e.outcomes for e in expected]
        assert all(f.model_calls > e.model_calls for f, e in zip(found, expected, strict=True) if e.model_calls)


def test_compiled_code_that_is_deceived_by_some_images_costs_nothing_but_time() -> None:
    """Only whole batches go through compiled code, and only some images deceive it: its word is doubted all the same,
    however few stand at the end.
    """
    model = _trained("bn")
    known = evaluate.pixels(some_data().images).flatten(1)

    def compiled(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(images)
        deceived = torch.cdist(images.detach().flatten(1), known).argmin(1) % 3 == 0
        return torch.where(deceived[:, None], -logits, logits)

    search = CompiledGradients(model, "float32")
    search._compiled, search._size, search.engine = compiled, BATCH, "compile"
    for method in (_method("bim", steps=7), _method("pgd", steps=7)):
        found, expected = _attacked(model, method, search), _attacked(model, method, None)
        assert [f.outcomes for f in found] == [e.outcomes for e in expected]


def test_low_precision_proposes_and_float32_decides() -> None:
    model, method = _trained("gn"), _method("pgd", steps=7)
    search = CompiledGradients(model, "bf16")
    found, expected = _attacked(model, method, search), _attacked(model, method, None)
    images = evaluate.pixels(some_data().images)
    with evaluate.evaluating(model):
        assert not torch.equal(search(images), model(images)), "this is not low precision"
        assert search(images).dtype == torch.float32
    assert sum(abs(f.correct - e.correct) for f, e in zip(found, expected, strict=True)) <= 3


@pytest.mark.parametrize("how", ["zero", "nan", "other"])
def test_gradients_that_low_precision_has_spoilt_are_not_climbed(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """An attack that they lead nowhere would make a network look robust."""
    monkeypatch.setattr(torch, "compile", _no_compiler)
    model = _trained("bn")

    class Spoilt(CompiledGradients):
        def _run(self, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
            logits = super()._run(forward, images)
            if self.precision == "float32":
                return logits
            noughts = (images - images.detach()).flatten(1).sum(1, keepdim=True)  # zeros, with a gradient
            return logits.detach() + {"zero": 0.0 * noughts, "nan": noughts.abs().sqrt(), "other": noughts}[how]

    data, search = some_data(), Spoilt(model, "bf16")
    with evaluate.evaluating(model):
        search.prepare(evaluate.pixels(data.images[:BATCH]), data.labels[:BATCH])
    assert (search.precision, search.engine) == ("float32", "eager")
    assert search.reason.startswith("bf16: its gradients are off by ")
    method = _method("pgd", steps=7)
    assert [r.outcomes for r in _attacked(model, method, search)] == [
        r.outcomes for r in _attacked(model, method, None)
    ]


def test_what_overflows_in_the_search_alone_is_asked_of_the_model() -> None:
    model, images = _trained("bn"), evaluate.pixels(some_data().images)
    search = CompiledGradients(model, "float32")
    search._compiled, search._size = lambda x: model(x) * float("inf"), len(images)
    with evaluate.evaluating(model):
        assert not search.overflowed()
        assert not search(images.requires_grad_()).any()
        assert search.overflowed()
        assert not search.overflowed()
    method = _method("pgd", steps=7)
    found, expected = _attacked(model, method, _Overflowing(model)), _attacked(model, method, None)
    assert [f.outcomes for f in found] == [e.outcomes for e in expected]


def test_fewer_images_are_filled_up_or_go_through_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _trained("bn")
    search = _prepared(model)
    images, compiled, sizes = evaluate.pixels(some_data().images), search._compiled, []
    assert compiled is not None
    monkeypatch.setattr(search, "_compiled", lambda x: sizes.append(len(x)) or compiled(x))
    with evaluate.evaluating(model):
        for count in (BATCH, BATCH - 1, BATCH // 2, BATCH // 2 - 1, 1, BATCH + 1):
            x = images[:count].clone().requires_grad_()
            logits = search(x)
            (gradient,) = torch.autograd.grad(logits.sum(), x)
            expected = model(images[:count])
            assert logits.shape == (count, 3)
            assert gradient.shape == x.shape
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert sizes == [BATCH] * 3


def _no_compiler(*_: object, **__: object) -> None:
    raise RuntimeError("no C++\ncompiler")


def test_wrong_code_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code whose gradients are not the model's, and code that there is no compiler for, leave a reason and the eager
    model.
    """
    model = _trained("bn")
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda x: model(x) * 1.1)
    wrong = _prepared(model)
    assert wrong.engine == "eager"
    assert wrong.reason.startswith("its gradients are off by 0.")
    monkeypatch.setattr(torch, "compile", _no_compiler)
    assert _prepared(model).reason == "RuntimeError: no C++ compiler"


@pytest.mark.engine
def test_a_row_says_what_was_searched_with(make_trial: MakeTrial, data_dir: Path) -> None:
    from normbench.lab import data

    trial = make_trial("bn")
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    context = {"data_dir": str(data_dir), "fingerprint": data.fingerprint(source)}
    eager, compiled = (run(trial, Context(engine=engine, **context), lambda _: None) for engine in ("eager", "compile"))
    assert eager.status is compiled.status is Status.OK, compiled.log
    assert "search" not in eager.provenance
    assert {k: compiled.provenance[k] for k in ("search", "search_precision", "search_reason")} == {
        "search": "compile",
        "search_precision": "float32",
        "search_reason": "",
    }
    assert compiled.provenance["search_seconds"] > 0
