"""Cosines of weights and gradients: closed forms, another implementation, and what each kind of norm does to rows and
tensors.
"""

from __future__ import annotations

import pytest
import torch
from normbench.measures import Step, registry
from normbench.norms import registry as norms
from normbench.norms.base import ActivationNorm, Site
from scipy.spatial.distance import cosine
from torch import nn

from tests.measures.conftest import follow


def _step(w: torch.Tensor, g: torch.Tensor, invariant: frozenset[str] = frozenset({"a"})) -> Step:
    return Step(
        before={"a": w},
        gradient={"a": g},
        after={"a": w},
        lr=0.1,
        momentum=0,
        weight_decay={"a": 0.0},
        optimizer="sgd",
        invariant=invariant,
    )


def _values(step: Step) -> dict[tuple[str, str], float]:
    measure = registry.make("orthogonality")
    return {(v.quantity, v.layer): v.value for v in measure.follow(step)}  # type: ignore[attr-defined]


def test_set_values() -> None:
    found = _values(_step(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0], [0.0, -1.0]])))
    assert found["orthogonality.row", "a"] == pytest.approx((3 / 5 + 1) / 2)
    assert found["orthogonality.row-worst", "a"] == pytest.approx(1)
    assert found["orthogonality.tensor", "a"] == pytest.approx(abs(3 - 1) / (2 * 26) ** 0.5)


def test_agrees_with_scipy() -> None:
    w, g = torch.randn(2, 5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    found = _values(_step(w, g))
    rows = [abs(1 - cosine(a, b)) for a, b in zip(w.flatten(1).numpy(), g.flatten(1).numpy(), strict=True)]
    assert found["orthogonality.row", "a"] == pytest.approx(sum(rows) / 5)
    assert found["orthogonality.row-worst", "a"] == pytest.approx(max(rows))
    assert found["orthogonality.tensor", "a"] == pytest.approx(
        abs(1 - cosine(w.flatten().numpy(), g.flatten().numpy()))
    )


def test_what_has_no_direction_has_no_value() -> None:
    w = torch.ones(2, 3)
    assert not _values(_step(w, torch.zeros(2, 3)))
    found = _values(_step(w, torch.tensor([[1.0, 1, 1], [0, 0, 0]])))
    assert found["orthogonality.row", "a"] == pytest.approx(1)


def test_the_whole_network_is_its_scale_invariant_layers() -> None:
    w, g = torch.ones(1, 4), torch.tensor([[1.0, -1, 1, 1]])
    both = {"a": w, "b": w, "c": w}
    step = Step(
        before=both,
        gradient={"a": g, "b": torch.tensor([[1.0, -1, 1, -1]]), "c": w},
        after=both,
        lr=0.1,
        momentum=0,
        weight_decay={},
        optimizer="sgd",
        invariant=frozenset({"a", "b"}),
    )
    found = _values(step)
    assert found["orthogonality.tensor", ""] == pytest.approx(0.25)
    assert found["orthogonality.tensor-worst", ""] == pytest.approx(0.5)
    assert found["orthogonality.tensor", "c"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["bn", "in", "gn", "ln", "rms", "none", "dyt"])
def test_rows_and_tensors_are_orthogonal_as_the_norm_claims(name: str) -> None:
    """In float64 with eps at 1e-12; the claims are those of the method."""
    method = norms.make(name, {"eps": 1e-12} if "eps" in norms.get(name).model_fields else {})
    assert isinstance(method, ActivationNorm)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), method.layer(Site(name="norm", channels=8, eps=1e-12)), nn.Tanh()
    ).double()
    images = torch.rand(6, 3, 7, 7, dtype=torch.float64)
    found = follow(
        registry.make("orthogonality", {"steps": 3}), model, images, torch.optim.SGD(model.parameters(), 0.1)
    )  # type: ignore[arg-type]
    tensor, row = found["orthogonality.tensor-worst", "0"], found["orthogonality.row-worst", "0"]
    assert tensor is not None
    assert row is not None
    claimed = method.claims.weight_scale
    assert (row < 1e-9) is (claimed == "row")
    assert (tensor < 1e-9) is (claimed != "none")
