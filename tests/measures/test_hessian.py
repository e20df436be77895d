"""Eigenvalues, trace and density against dense Hessians, scipy and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
import torch
from normbench.lab.observer import Observer
from normbench.measures import registry
from normbench.measures._lanczos import AsymmetryError, lanczos
from normbench.measures._loss import ProbeLoss, TwiceDifferentiable, flat
from normbench.measures.hessian import SHARES, Hessian
from normbench.norms import NormModifier
from normbench.norms import registry as norms
from normbench.pages.measured import interval
from normbench.spec.trial import TrainSpec
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations

from tests.matrix import sample
from tests.measures.curves import IMAGES, LABELS, Quadratic, network, probe, symmetric


def values(measure: Hessian, model: nn.Module, seed: int = 0) -> dict[str, float]:
    return {v.quantity.removeprefix("hessian."): v.value for v in measure.read(probe(model, seed=seed))}


def dense(model: nn.Module, mode: str) -> torch.Tensor:
    """The Hessian entry by entry."""
    model.train(mode == "train")
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    shapes = [model.get_parameter(n).shape for n in names]
    start = flat([model.get_parameter(n).detach() for n in names])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = torch.split(vector, [s.numel() for s in shapes])
        given = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
        with TwiceDifferentiable(), sdpa_kernel(SDPBackend.MATH):
            return nn.functional.cross_entropy(torch.func.functional_call(model, given, (IMAGES,)), LABELS)

    found: torch.Tensor = torch.autograd.functional.hessian(loss, start)
    return found


def signs(size: int, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, 2, (size,), generator=generator) * 2 - 1 for _ in range(count)]).double()


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("norm", sample(["bn", "gn", "wn", "lp-bn", "iternorm[group=2]"], ["bn", "wn"]))
def test_all_quantities_are_those_of_the_dense_hessian(norm: str, mode: Any) -> None:
    model = network(norm)
    found = values(Hessian(mode=mode, images=12, steps=1000, vectors=5), model)
    matrix = dense(model, mode)
    size = len(matrix)
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    for rank in (1, 2, 3):
        assert found[f"eigenvalue.{rank}"] == pytest.approx(float(eigenvalues[-rank]), rel=1e-6, abs=1e-9)
    assert found["eigenvalue.min"] == pytest.approx(float(eigenvalues[0]), rel=1e-6, abs=1e-9)
    assert found["residual"] < 1e-6
    samples = torch.einsum("vi,ij,vj->v", signs(size, 5), matrix, signs(size, 5))
    assert found["trace"] == pytest.approx(float(samples.mean()), rel=1e-6)
    assert found["trace.error"] == pytest.approx(float(samples.std()) / 5**0.5, rel=1e-6)
    weights = ((signs(size, 5) @ vectors).square() / size).mean(0)
    for share in SHARES:
        allowed = eigenvalues[
            (weights.cumsum(0) - share).abs() < weights.max()
        ]  # rounding may end on either side of a step
        assert any(found[f"quantile@{share:g}"] == pytest.approx(float(e), rel=1e-5, abs=1e-7) for e in allowed)


def test_many_vectors_find_the_trace() -> None:
    model = network("gn")
    found = values(Hessian(images=12, steps=1, vectors=1000), model)
    assert abs(found["trace"] - float(dense(model, "train").trace())) < 4 * found["trace.error"]
    assert found["trace.error"] < 0.2 * abs(found["trace"])


def test_the_interval_of_a_trace_from_four_vectors_holds_it() -> None:
    """Student's, which pages show, in 95 of 100 cases; the standard error by itself holds it in 61."""
    size, repeats = 40, 400
    held = short = 0
    for seed in range(repeats):
        drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        matrix = drawn + drawn.T
        loss = Quadratic(matrix, torch.zeros(size, dtype=torch.float64))
        found = {v.quantity: v.value for v in Hessian(steps=1).of(loss, seed=seed)}
        value, error = found["hessian.trace"], found["hessian.trace.error"]
        made = interval(value, error, Hessian().model_dump())
        assert made is not None
        held += made.low <= float(matrix.trace()) <= made.high
        short += abs(value - float(matrix.trace())) <= error
    assert held >= 0.93 * repeats
    assert short < 0.7 * repeats


def test_a_quadratic_in_closed_form() -> None:
    """Of a diagonal matrix every sign vector sees each eigenvalue with the same weight."""
    eigenvalues = torch.tensor([-3.0, -1.0, *[0.0] * 94, 0.5, 2.0, 7.0, 11.0], dtype=torch.float64)
    loss = Quadratic(torch.diag(eigenvalues), torch.ones(100, dtype=torch.float64))
    found = {v.quantity.removeprefix("hessian."): v.value for v in Hessian(steps=50, top=4).of(loss, seed=0)}
    assert [found[f"eigenvalue.{k}"] for k in (1, 2, 3, 4)] == pytest.approx([11, 7, 2, 0.5])
    assert found["eigenvalue.min"] == pytest.approx(-3)
    assert found["trace"] == pytest.approx(16.5)
    assert found["trace.error"] < 1e-10
    expected = np.quantile(eigenvalues.numpy(), [0.5, 0.75, 0.9, 0.999], method="inverted_cdf")
    assert [found[f"quantile@{s}"] for s in (0.5, 0.75, 0.9, 0.999)] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lanczos_against_scipy(dtype: torch.dtype) -> None:
    matrix = symmetric(200)
    start = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    full = lanczos(lambda v: matrix.to(dtype) @ v, start.to(dtype), 200)
    expected = scipy.linalg.eigvalsh(matrix.numpy())
    scale = abs(expected).max()
    assert np.abs(full.values.numpy() - expected).max() < (1e-10 if dtype == torch.float64 else 1e-4) * scale
    assert float(full.weights.sum()) == pytest.approx(1)
    short = lanczos(lambda v: matrix.to(dtype) @ v, start.to(dtype), 40)
    largest = scipy.sparse.linalg.eigsh(matrix.numpy(), k=1, which="LA", return_eigenvectors=False)[0]
    assert short.values[-1] <= largest + 1e-4 * scale
    assert abs(float(short.values[-1]) - largest) <= float(short.residuals[-1]) + 1e-4 * scale


def test_a_start_vector_within_few_eigenvectors_ends_early() -> None:
    matrix = torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64))
    start = torch.zeros(8, dtype=torch.float64)
    start[[1, 4]] = 1.0
    found = lanczos(lambda v: matrix @ v, start, 8)
    assert found.values.tolist() == pytest.approx([2, 5])
    assert found.weights.tolist() == pytest.approx([0.5, 0.5])
    assert lanczos(lambda v: 0 * v, start, 8).values.tolist() == [0.0]


@pytest.mark.parametrize("factor", sample([0.3, 3.0], [0.3]))
def test_the_largest_eigenvalue_falls_with_the_square_of_an_invariant_weight(factor: float) -> None:
    model = network("bn", eps=1e-12)
    weights = [model[0].weight, model[3].weight]
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is w for w in weights))
    measure = Hessian(images=12, steps=100)
    before = values(measure, model)
    with torch.no_grad():
        for weight in weights:
            weight.mul_(factor)
    after = values(measure, model)
    for name in ("eigenvalue.1", "eigenvalue.2", "eigenvalue.min", "trace"):
        assert after[name] == pytest.approx(before[name] / factor**2, rel=1e-6)


def test_the_mode_decides_with_batch_statistics_and_not_without() -> None:
    for norm, same in (("bn", False), ("ln", True)):
        model = network(norm)
        train, evaluated = (values(Hessian(mode=mode, images=12), model)["eigenvalue.1"] for mode in ("train", "eval"))
        assert (train == pytest.approx(evaluated, rel=1e-9)) is same


def test_products_that_are_not_symmetric_are_an_error() -> None:
    matrix = symmetric(20)
    matrix[3, 5] += 0.01
    with pytest.raises(AsymmetryError, match="not those of a symmetric matrix"):
        lanczos(lambda v: matrix @ v, torch.ones(20, dtype=torch.float64), 20)


def test_weight_normalization_written_out_is_that_of_torch() -> None:
    conv = parametrizations.weight_norm(nn.Conv2d(3, 4, 2, dtype=torch.float64))
    with torch.no_grad():
        conv.parametrizations.weight.original0.mul_(1.7)
    with TwiceDifferentiable():
        written = conv.weight
    assert torch.allclose(written, conv.weight, rtol=1e-14)


@pytest.mark.parametrize("name", norms.names())
def test_the_loss_of_every_method_is_a_function_with_a_hessian(name: str) -> None:
    """The same at the same parameters whatever was looked at before, and products with the Hessian are differences of
    gradients.
    """
    norm = f"bn+{name}" if issubclass(norms.get(name), NormModifier) else name
    model = network(norm)
    for module in model.modules():
        for name, (low, high) in getattr(module, "bounds", {}).items():  # at a bound there is a kink
            getattr(module, name).data.fill_((low + high) / 2)
    loss = ProbeLoss(model, IMAGES, LABELS, "train", 3)
    first, gradient = loss.gradient()
    again, other = loss.gradient()
    assert first == again
    assert torch.equal(gradient, other)
    vector = signs(loss.size, 1)[0]
    times = loss.hessian()
    product = times(vector)
    assert product.isfinite().all()
    lanczos(times, vector, 10)  # raises where products are not symmetric
    with loss.moved(1e-5 * vector):
        ahead = loss.gradient()[1]
    with loss.moved(-1e-5 * vector):
        behind = loss.gradient()[1]
    # u and v of sn, constants of the gradient, follow the weight; the one gain of scalenorm gets C times its gradient.
    if norm not in {"sn", "scalenorm"}:
        assert torch.allclose((ahead - behind) / 2e-5, product, rtol=1e-4, atol=1e-5 * float(product.abs().max()))
    assert torch.equal(loss.gradient()[1], gradient)


def test_attention_has_second_derivatives() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.head = nn.Linear(6, 18), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.mix(x).chunk(3, -1)
            out: torch.Tensor = self.head(nn.functional.scaled_dot_product_attention(q, k, v).mean((1, 2)))
            return out

    torch.manual_seed(0)
    model = Attending().double()
    eigenvalues = torch.linalg.eigvalsh(dense(model, "train"))
    assert values(Hessian(images=12, steps=1000), model)["eigenvalue.1"] == pytest.approx(
        float(eigenvalues[-1]), rel=1e-6
    )


def test_a_layer_without_a_second_derivative_is_an_error_of_the_measure() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * 2

    class Layer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = Once.apply(x)
            return out

    model = network("bn")
    model.insert(3, Layer())
    observer = Observer(
        [registry.make("hessian", {"images": 12}), registry.make("weight-norm")], probe(model), TrainSpec()
    )
    readings = observer.look(0, 0)
    assert {r.measure.partition(".")[0] for r in readings} == {"weight-norm"}
    assert "a layer's second derivative is wrong or missing" in observer.errors["hessian"]
    assert not model.training
