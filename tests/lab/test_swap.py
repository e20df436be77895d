"""Swapping norms in timm's networks: what is replaced, what is kept, what is said about it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from normbench.lab.network import ModelError, Request, construct
from normbench.lab.network.flow import FlowError, trace
from normbench.lab.network.invariance import audit, weight_cosines
from normbench.lab.network.swap import Audit, SwapError, kind, swap
from normbench.norms import NormSiteError, resolve
from normbench.norms.layers.base import Affine
from torch import nn

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(name: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return construct(Request(**{"name": name, "width": 0.25, **changes}))


def swapped(model: nn.Module, norm: str, example: torch.Tensor = IMAGES) -> Audit:
    return swap(model, resolve(norm)[1], example)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        "resnetv2_18",
        "wrn-10-1",
        "resnet20",
        "vgg11_bn",
        "densenet121",
        "efficientnet_b0",
        "mobilenetv2_100",
        "regnetx_002",
    ],
)
def test_bn_to_bn_is_bit_identical(name: str) -> None:
    original = network(name)
    model = copy.deepcopy(original)
    done = swapped(model, "bn")
    assert done.parameters_before == done.parameters_after
    assert len(done.replaced) == sum(kind(m) is not None for m in original.modules()) > 5
    for training in (True, False):
        assert torch.equal(model.train(training)(IMAGES), original.train(training)(IMAGES))


def test_ln_tok_is_the_transformers_own() -> None:
    original = network("vit_tiny_patch16_224", kwargs={"depth": 2})
    model = copy.deepcopy(original)
    done = swapped(model, "ln-tok")
    assert {r.axis for r in done.replaced} == {-1}
    assert {r.eps for r in done.replaced} == {1e-6}
    assert torch.allclose(model(IMAGES), original(IMAGES), atol=1e-5)


@pytest.mark.parametrize("norm", ["rms", "dyt", "derf", "bn", "none", "ln", "gn", "in"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mixer_s32_224"])
def test_transformers_take_other_norms(name: str, norm: str) -> None:
    model = network(name, kwargs={"depth": 2} if name.startswith("vit") else {})
    done = swapped(model, norm)
    assert len(done.replaced) > 3
    images = IMAGES.clone().requires_grad_()
    model(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_gammas_that_start_at_zero_survive() -> None:
    for norm in ("gn", "in", "rms", "bcn", "bw-zca", "none"):
        model: Any = network("resnet18")
        swapped(model, norm)
        assert not model.layer1[0].bn2.weight.any()
        assert model.layer1[0].bn1.weight.eq(1).all()


def test_affine_values_eps_and_momentum_are_carried() -> None:
    model: Any = network("resnet18")
    model.bn1.weight.data.uniform_()
    model.bn1.bias.data.uniform_()
    model.bn1.eps, model.bn1.momentum = 1e-3, 0.07
    before = copy.deepcopy(model.bn1)
    done = swapped(model, "bw-zca")
    assert torch.equal(model.bn1.weight, before.weight)
    assert torch.equal(model.bn1.bias, before.bias)
    first = done.replaced[0]
    assert (first.name, first.eps, first.momentum, first.eps_before, first.momentum_before) == (
        "bn1",
        1e-3,
        0.07,
        1e-3,
        0.07,
    )
    again = swapped(network("resnet18"), "bn[eps=0.01,momentum=0.5]").replaced[0]
    assert (again.eps, again.momentum, again.eps_before) == (0.01, 0.5, 1e-5)


def test_fused_activations_stay() -> None:
    """torch's own converter to synchronized batch norm drops them."""
    for norm in ("syncbn", "gn"):
        model: Any = network("resnetv2_18")
        done = swapped(model, norm)
        assert {r.activation for r in done.replaced} == {"ReLU"}
        seen = []
        model.norm.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out))
        model(IMAGES)
        assert seen[0].min() == 0


def test_norms_with_an_activation_of_their_own_take_its_place() -> None:
    model: Any = network("resnet18")
    done = swapped(model, "frn")
    by_name = {r.name: r for r in done.replaced}
    assert (by_name["layer1.0.bn1"].absorbed, by_name["layer1.0.bn2"].absorbed) == ("ReLU", "")
    assert isinstance(model.layer1[0].act1, nn.Identity)
    assert isinstance(model.layer1[0].act2, nn.ReLU)
    assert model.layer1[0].bn1.tau is not None
    assert model.layer1[0].bn2.tau is None
    fused: Any = network("resnetv2_18")
    assert {r.absorbed for r in swapped(fused, "evonorm-s0").replaced} == {"ReLU"}
    assert not any(isinstance(m, nn.ReLU) for m in fused.modules())


def test_an_activation_behind_several_norms_is_not_taken_away() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(2 * self.act(self.bn(self.conv(x))))

    model = Shared()
    assert swapped(model, "frn").replaced[0].absorbed == ""
    assert isinstance(model.act, nn.ReLU)


def test_norms_that_come_with_an_activation_leave_one_behind() -> None:
    torch.manual_seed(0)
    evo = timm.create_model("resnetv2_50d_evos", num_classes=10)
    done = swapped(evo, "gn", torch.rand(1, 3, 64, 64))
    assert {r.activation for r in done.replaced} == {"SiLU"}


def test_skipinit_starts_branches_at_zero_by_a_scalar() -> None:
    model: Any = network("resnet18")
    done = swapped(model, "skipinit")
    ends = {r.name for r in done.replaced if r.ends_branch}
    assert ends == {f"layer{i}.{j}.bn2" for i in (1, 2, 3, 4) for j in (0, 1)}
    block = model.layer1[0]
    assert block.bn2.alpha == 0
    assert block.bn2.weight.eq(1).all()
    model(IMAGES).square().sum().backward()
    assert block.bn2.alpha.grad.abs() > 0
    with pytest.raises(SwapError, match="no residual branch of VGG ends in a normalization layer"):
        swapped(network("vgg11_bn"), "skipinit")


def test_branch_ends_of_other_blocks() -> None:
    for name, last in (("resnet50", {"bn3"}), ("mobilenetv2_100", {"bn2", "bn3"}), ("seresnet50", {"bn3"})):
        model = network(name)
        ends = trace(model, {n: 1 for n, m in model.named_modules() if kind(m)}, IMAGES).branch_ends
        assert len(ends) > 5
        assert {e.rpartition(".")[2] for e in ends} == last


def test_weight_methods_wrap_what_feeds_a_norm() -> None:
    model = network("resnet18")
    done = swapped(model, "ws+gn")
    assert len(done.wrapped) == 20
    assert {w.feeds for w in done.wrapped} == {r.name for r in done.replaced}
    assert [(k.name, k.reason) for k in done.kept] == [("fc", "its output goes into no norm")]
    everything = swapped(network("resnet18"), "wn[where=all]")
    assert len(everything.wrapped) == 21
    assert everything.parameters_after == everything.parameters_before + sum(w.shape[0] for w in everything.wrapped)


def test_weight_methods_leave_what_has_no_direction() -> None:
    mixer = swapped(network("mixer_s32_224"), "wn[where=all]")
    assert {k.reason for k in mixer.kept} == {"a row of zeros has no direction"}
    one_value = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3), nn.BatchNorm2d(3))
    with pytest.raises(SwapError):
        swap(nn.Sequential(nn.Conv2d(3, 3, 1, groups=3)), resolve("ws")[1], IMAGES)
    assert swapped(one_value, "ws+bn").kept[0].reason == "one value a row"


def test_nothing_to_replace_is_an_error() -> None:
    with pytest.raises(SwapError, match="VGG: there is no normalization layer to replace"):
        swapped(network("vgg11"), "bn")
    with pytest.raises(SwapError, match="where=all"):
        swapped(network("vgg11"), "wn")
    assert len(swapped(network("vgg11"), "wn[where=all]").wrapped) == 9


def test_impossible_places_are_named() -> None:
    with pytest.raises(
        NormSiteError, match="bn1: 32 groups do not divide 16 channels; the nearest number that does is 16"
    ):
        swapped(network("resnet18"), "gn[groups=32]")
    with pytest.raises(FlowError, match="VGG cannot run 3x16x16 images"):
        swapped(network("vgg11_bn"), "bn", torch.rand(1, 3, 16, 16))


def test_shared_modules_stay_shared() -> None:
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.ReLU(), nn.Conv2d(4, 4, 1), norm)
    swapped(model, "gn")
    assert model[1] is model[4]
    assert isinstance(model[1], nn.GroupNorm)


def test_a_shared_block_is_changed_once_for_all() -> None:
    block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.Sequential(nn.Conv2d(3, 4, 1), block, nn.Sequential(block))
    swapped(model, "gn")
    assert model[1] is block is model[2][0]
    assert [type(m) for m in block] == [nn.Conv2d, nn.GroupNorm, nn.ReLU]


def test_torchs_classes_are_known_by_the_names_that_they_inherit() -> None:
    batch = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LazyBatchNorm2d)
    assert {kind(c(4) if "Lazy" not in c.__name__ else c()) for c in batch} == {"_BatchNorm"}  # type: ignore[operator]
    instance = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    assert {kind(c(4)) for c in instance} == {"_InstanceNorm"}
    assert kind(nn.Conv2d(4, 4, 1)) is None


def test_the_probe_leaves_no_trace() -> None:
    model = network("resnet18").train()
    model.get_submodule("layer1").eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    trace(model, {"bn1": 1}, IMAGES)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not model.get_submodule("layer1").training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_modes_are_kept() -> None:
    model: Any = network("resnet18").eval()
    swapped(model, "gn")
    assert not model.bn1.training


def test_positions_are_recorded() -> None:
    done = swapped(network("resnet18"), "in")
    assert {r.positions for r in done.replaced} == {1024, 256, 64, 16}
    assert swapped(network("convnext_atto"), "in").replaced[-1].positions == 1


def test_audit_counts_scale_invariant_weights() -> None:
    """All but the classifier where each convolution feeds a norm; with pre-activation, only the first of each block."""
    found = {name: audit(name, "bn", width=0.25) for name in ("resnet18", "resnetv2_18", "vgg11_bn")}
    assert {n: (len(a.scale_invariant or ()), a.weights) for n, a in found.items()} == {
        "resnet18": (20, 21),
        "resnetv2_18": (8, 21),
        "vgg11_bn": (8, 9),
    }
    assert "fc.weight" not in (found["resnet18"].scale_invariant or ())
    assert len(audit("resnet18", "none", width=0.25).scale_invariant or ()) == 0
    wrapped = audit("resnet18", "wn", width=0.25).scale_invariant or ()
    assert "layer1.0.conv1.parametrizations.weight.original1" in wrapped
    assert len(wrapped) == 20


def test_cosines_leave_the_network_alone() -> None:
    model = network("resnet18")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    assert len(weight_cosines(model, 3, 32)) == 21
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_networks_without_logits_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ModelError, match=r"Sequential gives \(4, 4, 30, 30\) for 4 images, not logits"):
        weight_cosines(model, 3, 32)


def test_no_norm_is_a_scale_and_a_shift() -> None:
    model: Any = network("resnet18")
    swapped(model, "none")
    assert type(model.bn1) is Affine


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.cuda
def test_swapped_networks_move_to_the_gpu() -> None:
    model = network("resnet18")
    swapped(model, "sn+bw-zca")
    with torch.autocast("cuda", torch.bfloat16):
        assert model.cuda()(IMAGES.cuda()).isfinite().all()
