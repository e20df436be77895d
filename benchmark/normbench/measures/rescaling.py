"""An intervention: what becomes of accuracy and robustness when scale-invariant weights are made ten times shorter or
longer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from normbench.measures._weights import raw_weights
from normbench.measures.base import EndMeasure, Probe, Value
from normbench.spec.text import Number

if TYPE_CHECKING:
    import torch
    from torch import nn

#: All invariant weights by one factor.
FACTORS = (0.1, 10.0)
#: Random factors of single rows lie between a tenth and ten, evenly in the logarithm.
DECADES = 1.0
#: In place of every eps, so that invariances that hold up to eps hold to rounding at weights ten times shorter; torch's
#: batch norm refuses 0.
TINY_EPS = 1e-12
#: |cos(row, gradient)| below which a row counts as invariant on its own.
ROW_COSINE = 1e-6
#: Numbers of the reference are written with this factor.
UNSCALED = "1"


class Rescaling(EndMeasure):
    """Rescales the weights that were measured scale-invariant and looks at what that changes, on a float64 copy of the
    network.

    If growing weights made a network vulnerable by themselves, shorter ones would mend it. For a weight whose length
    the function does not see they cannot:
    clean and robust accuracy stay, whatever the factor, and differences between methods or with weight decay must come
    from elsewhere (the learning rate that a long weight feels, what was learnt, weights that are not invariant).

    What is done. (1) The reference: a float64 copy in which every eps of a norm or a weight method is 1e-12, and every
    running statistic is taken anew: of the first `images` probe images in eval mode but for the norms that track
    (momentum 1, passes until nothing moves). Running statistics belong to the weights that they were collected with; `w
    -> a w` alone would leave a mean and a variance of another network behind, and eval mode would no longer be the
    function that was trained. Taking them anew gives the mean times a and the variance times a^2 without knowing what
    kind of statistic a method keeps. (2) Three further copies, treated alike: the invariant weights times 0.1, times
    10, and, where single rows turn out to be invariant, each row times its own random factor between 0.1 and 10 (rows:
    |cos(w_i, gradient)| < 1e-6 in float64 in training mode, for every row of the layer). (3) On each: accuracy on the
    first `images` test images (training images where the trial may not see test images), accuracy under the package's
    BIM at one `eps` in pixel space (images that are right before and after it), and the logits.

    `layers` and `row-layers`: how many layers were rescaled as a whole and by rows. `clean@F` and `bim@F`: accuracies
    at the factor F (`1`: the reference, `0.1`, `10`, `rows`). `logits@F`: largest change of a logit against the
    reference, as a share of its largest logit. `logits@reference`: the same between the network as it was trained and
    the reference, the price of (1). Without invariant weights only the reference's accuracies are recorded.

    Source: the claim is that of Sun et al., AAAI 2020, section 4.3, that growing weights amplify attacks; the
    intervention is this package's.
    """

    name: ClassVar[str] = "rescaling"
    summary: ClassVar[str] = "Accuracy and robustness before and after scale-invariant weights are rescaled"
    source: ClassVar[str] = "an intervention on the claim of Sun et al., AAAI 2020, section 4.3"
    cost: ClassVar[str] = (
        "in float64, four times: steps forwards and backwards of the images, and one forward of them a pass of the "
        "statistics"
    )

    images: Annotated[int, Field(ge=2, le=100_000)] = 256
    eps: Annotated[float, Number, Field(gt=0, le=1)] = 4 / 255
    """Of BIM, in pixel space."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 5

    def read(self, probe: Probe) -> Iterable[Value]:
        statistics = probe.images[: self.images].double()
        whole = probe.test_images is not None and probe.test_labels is not None
        images = (probe.test_images if whole else probe.images)[: self.images].double()  # type: ignore[index]
        labels = (probe.test_labels if whole else probe.labels)[: self.images]  # type: ignore[index]

        trained = _copy(probe.model)
        original = _logits(trained, images)
        _shrink_eps(trained)
        passes = _settle(trained, statistics, len(probe.norms) + 1)
        reference = _logits(trained, images)
        rows = _row_invariant(trained, probe, statistics)
        yield Value("rescaling.layers", "", len(probe.invariant))
        yield Value("rescaling.row-layers", "", len(rows))
        yield Value("rescaling.logits@reference", "", _change(original, reference))
        yield Value(f"rescaling.clean@{UNSCALED}", "", _accuracy(reference, labels))
        yield Value(f"rescaling.bim@{UNSCALED}", "", self._robust(trained, images, labels))
        for name, factors in _factors(trained, probe, rows).items():
            scaled = copy.deepcopy(trained)
            _scale(scaled, factors)
            _settle(scaled, statistics, passes)
            logits = _logits(scaled, images)
            yield Value(f"rescaling.clean@{name}", "", _accuracy(logits, labels))
            yield Value(f"rescaling.bim@{name}", "", self._robust(scaled, images, labels))
            yield Value(f"rescaling.logits@{name}", "", _change(logits, reference))

    def _robust(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        from normbench.attacks.bim import BasicIterative

        attack = BasicIterative(eps=(self.eps,), steps=self.steps)
        right = _logits(model, images).argmax(1) == labels
        stood = _logits(model, attack.perturb(model, images, labels, self.eps, [])).argmax(1) == labels
        return float((right & stood).double().mean())


def _copy(model: nn.Module) -> nn.Module:
    """In float64 and eval mode, with frozen parameters."""
    return copy.deepcopy(model).double().eval().requires_grad_(False)


def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    import torch

    with torch.no_grad():
        logits: torch.Tensor = model(images)
    return logits


def _accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def _change(logits: torch.Tensor, reference: torch.Tensor) -> float:
    return float((logits - reference).abs().max() / reference.abs().max().clamp_min(1e-300))


def _shrink_eps(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(getattr(module, "eps", None), float):
            module.eps = TINY_EPS  # type: ignore[assignment]


def _settle(model: nn.Module, images: torch.Tensor, passes: int) -> int:
    """Take running statistics anew, in at most `passes` forwards, fewer where one moves nothing; how many there were.

    The second moves nothing where norms in training mode look at the batch alone; batch renormalization also looks at
    its running statistics, and is settled one layer further behind with every pass.
    """
    import torch

    tracking = [m for m in model.modules() if isinstance(getattr(m, "momentum", None), float) and _running(m)]
    if not tracking:
        return 0
    kept = [m.momentum for m in tracking]
    for module in tracking:
        module.momentum = 1.0  # type: ignore[assignment]
        module.train()
    done, moving = 0, True
    with torch.no_grad():
        while moving and done < passes:
            before = [b.clone() for m in tracking for b in _running(m)]
            model(images)
            done += 1
            moving = not all(
                torch.equal(a, b) for a, b in zip(before, (b for m in tracking for b in _running(m)), strict=True)
            )
    for module, momentum in zip(tracking, kept, strict=True):
        module.momentum = momentum
        module.eval()
    return done


def _running(module: nn.Module) -> list[torch.Tensor]:
    return [b for name, b in module.named_buffers(recurse=False) if name.startswith("running_")]


def _row_invariant(model: nn.Module, probe: Probe, images: torch.Tensor) -> list[str]:
    """The invariant layers of which every row is orthogonal to its gradient, of a random projection of the logits in
    training mode.
    """
    import torch

    twin = copy.deepcopy(model).train()
    weights = {layer: raw.requires_grad_() for layer, _, raw in raw_weights(twin) if layer in probe.invariant}
    if not weights:
        return []
    logits = twin(images)
    projection = torch.randn(logits.shape, generator=torch.Generator().manual_seed(probe.seed), dtype=torch.float64).to(
        logits.device
    )
    gradients = torch.autograd.grad(
        (logits * projection).sum(), list(weights.values()), allow_unused=True, materialize_grads=True
    )
    found = []
    for (layer, weight), gradient in zip(weights.items(), gradients, strict=True):
        w, g = weight.detach().flatten(1), gradient.flatten(1)
        lengths = w.norm(dim=1) * g.norm(dim=1)
        cosines = (w * g).sum(1).abs() / lengths.clamp_min(1e-300)
        if float(g.norm()) > 0 and bool((cosines[g.norm(dim=1) > 1e-9 * g.norm()] < ROW_COSINE).all()):
            found.append(layer)
    return found


def _factors(model: nn.Module, probe: Probe, rows: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
    """By name of the intervention and layer: what the rows of the raw weight are multiplied with, one factor or one a
    row.
    """
    import torch

    found: dict[str, dict[str, torch.Tensor]] = {}
    if probe.invariant:
        found = {
            f"{a:g}": {layer: torch.tensor([a], dtype=torch.float64) for layer in probe.invariant} for a in FACTORS
        }
    if chosen := set(rows):
        generator = torch.Generator().manual_seed(probe.seed)
        found["rows"] = {
            layer: 10 ** (DECADES * (2 * torch.rand(len(raw), generator=generator, dtype=torch.float64) - 1))
            for layer, _, raw in raw_weights(model)
            if layer in chosen
        }
    return found


def _scale(model: nn.Module, factors: Mapping[str, torch.Tensor]) -> None:
    import torch

    with torch.no_grad():
        for layer, _, raw in raw_weights(model):
            if layer in factors:
                raw.mul_(factors[layer].to(raw.device).view(-1, *[1] * (raw.ndim - 1)))
