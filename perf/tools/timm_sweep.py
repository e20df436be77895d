"""Swaps norms in one network of every kind that timm has, trains a step and asks for what an attack needs (`tox -e
sweep`).

    python perf/tools/timm_sweep.py --table docs/sweep.md

builds every network of `NETWORKS` on small images and swaps each of `NORMS` and `STRICT` in; a case passes when loss,
gradients, outputs in eval mode and the gradient to the input are finite. Exits with 1 when a case of `NORMS` fails that
`normbench.spec.architectures` does not refuse by name. With `--cases FILE` every network's cases are kept there, and a
sweep that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from normbench.lab.network import ModelError, Request, construct
from normbench.lab.network.flow import FlowError, trace
from normbench.lab.network.swap import swap
from normbench.norms import resolve
from normbench.spec.architectures import architectures, file_of, norm_problem
from torch import nn

NORMS = ("bn", "ln", "gn", "in", "ws+gn", "none", "wn")
#: `in` lets maps of one position pass, where it has nothing to normalize; this form refuses them, as the paper's would
#: have to.
STRICT = "in[one_position=error]"
#: Sides that are tried in turn, smallest first; some networks only take a multiple of their windows or the size that
#: they were designed for.
SIDES = (64, 96, 128, 160, 224, 240, 256, 299, 384)
EXAMPLES = 2

#: The smallest network of every file of `timm.models`, then the smallest of further kinds within a file, by size.
NETWORKS: tuple[str, ...] = (
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "cpubone_nano",
    "crossvit_tiny_240",
    "cs3darknet_focus_s",
    "csatv2",
    "cspnext_tiny",
    "davit_tiny",
    "deepseek_vit_412m",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla46x_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "ese_vovnet19b_slim_dw",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "gemma4_vit_167m",
    "ghostnet_050",
    "gmlp_ti16_224",
    "halonet_h1",
    "hardcorenas_b",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnet_035",
    "lcnetv2_small",
    "legacy_seresnet18",
    "legacy_xception",
    "levit_128s",
    "lowformer_b0",
    "mobilenetv5_base",
    "mobilevit_xxs",
    "mvitv2_tiny",
    "naflexvit_base_patch16_parfac_gap",
    "nasnetalarge",
    "nest_tiny",
    "nextvit_small",
    "pit_ti_224",
    "pnasnet5large",
    "poolformerv2_s12",
    "pvt_v2_b0",
    "qwen3_vit_88m",
    "rdnet_tiny",
    "regnetx_002",
    "repghostnet_050",
    "repvit_m1",
    "res2next50",
    "resnest14d",
    "resnetv2_18",
    "rexnet_100",
    "sam2_hiera_tiny",
    "samvit_base_patch16_224",
    "selecsls42",
    "sequencer2d_s",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "swiftformer_xs",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_384",
    "swinv2_tiny_window16_256",
    "test_byobnet",
    "test_coatnet",
    "test_convnext",
    "test_efficientnet",
    "test_mambaout",
    "test_resnet",
    "test_vit",
    "test_vit_relpos",
    "tiny_vit_5m_224",
    "tnt_s_legacy_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "vgg11_bn",
    "visformer_tiny",
    "vit_tiny_patch16_dinov3_qkvb",
    "vit_tiny_r_s16_p8_224",
    "vitamin_small_224",
    "volo_d1_224",
    "xception41p",
    "xcit_nano_12_p8_224",
    "resnetv2_50x1_bit",
    "resnetv2_50d_evos",
    "resnetv2_50d_frn",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mnasnet_small",
    "tinynet_e",
    "semnasnet_050",
    "tf_mobilenetv3_small_075",
    "mobilevitv2_050",
    "convnext_zepto_rms",
    "ghostnetv3_050",
    "tf_mixnet_s",
    "mixnet_s",
    "regnety_002",
    "mobilenet_edgetpu_100",
    "spnasnet_100",
    "efficientnet_lite0",
    "convnextv2_atto",
    "mobileone_s1",
    "fbnetc_100",
    "rexnetr_100",
    "resnet10t",
    "eva02_tiny_patch14_224",
    "vit_tiny_patch16_224",
    "regnetz_005",
    "mambaout_femto",
    "gernet_s",
    "fbnetv3_b",
    "densenetblur121d",
)
#: Those of the everyday tests.
SAMPLE: tuple[str, ...] = (
    "convnext_zepto_rms",
    "efficientvit_m0",
    "ghostnet_050",
    "levit_128s",
    "gmlp_ti16_224",
    "mobilenetv3_small_050",
    "mobilevit_xxs",
    "regnetx_002",
    "resnet10t",
    "resnetv2_18",
    "pvt_v2_b0",
    "vit_tiny_patch16_224",
)


@dataclass(frozen=True)
class Case:
    """What came of one network under one method. `problem` is empty where it passed; `size`: side of the images;
    `refused`: why a suite file may not ask for this, empty where it may.
    """

    network: str
    norm: str
    size: int
    problem: str
    seconds: float
    replaced: int
    refused: str = ""

    @property
    def mark(self) -> str:
        return "ok" if not self.problem else "refused" if self.refused else "fails"


def ready(name: str) -> tuple[nn.Module, int]:
    """The network at the smallest image side that it can run. Raises `ModelError` where it runs at none."""
    problems = []
    for size in SIDES:
        torch.manual_seed(0)
        try:
            model = construct(Request(name=name, stem="native", image_size=size))
            trace(model, {}, torch.zeros(EXAMPLES, 3, size, size))
        except (ModelError, FlowError) as error:
            problems.append(str(error))
            continue
        return model, size
    raise ModelError(f"{name} runs at no image side of {', '.join(str(s) for s in SIDES)}: {problems[-1]}")


def sweep(name: str, norms: Sequence[str] = NORMS) -> Iterator[Case]:
    """Try each method in one network."""
    original, size = ready(name)
    for norm in norms:
        started = time.perf_counter()
        model, replaced = copy.deepcopy(original), 0
        torch.manual_seed(0)
        images = torch.randn(EXAMPLES, 3, size, size)
        try:
            done = swap(model, resolve(norm)[1], images)
            replaced = len(done.replaced)
            problem = "" if done.replaced else "no normalization layer was replaced"
            problem = problem or _step(model, images)
        except (ValueError, RuntimeError) as error:
            problem = f"{type(error).__name__}: {error}"
        refused = norm_problem(name, resolve(norm)[1][-1].name) or ""
        yield Case(
            name,
            norm,
            size,
            problem.splitlines()[0] if problem else "",
            time.perf_counter() - started,
            replaced,
            refused,
        )


def _step(model: nn.Module, images: torch.Tensor) -> str:
    """Forward and backward in training, then outputs and the gradient to the input in eval mode; the first that is not
    finite.
    """
    labels = torch.arange(EXAMPLES)
    loss = nn.functional.cross_entropy(model.train()(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    if not loss.isfinite():
        return f"the loss is {float(loss.detach())}"
    if broken := next(
        (n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()), None
    ):
        return f"the gradient of {broken} is not finite"
    given = images.clone().requires_grad_()
    logits = model.eval()(given)
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), given)
    if not logits.isfinite().all():
        return "outputs in eval mode are not finite"
    return "" if gradient.isfinite().all() else "the gradient to the input in eval mode is not finite"


def table(cases: Sequence[Case]) -> str:
    """The cases as a page in Markdown."""
    norms = list(dict.fromkeys(c.norm for c in cases))
    headings = ["in (strict)" if n == STRICT else n for n in norms]
    by = {(c.network, c.norm): c for c in cases}
    networks = list(dict.fromkeys(c.network for c in cases))
    passed = {n: sum(not by[m, n].problem for m in networks) for n in norms}
    lines = [
        "# Norms in timm's networks",
        "",
        f"One network of every file of `timm.models` and further kinds, {len(networks)} in all; each norm is "
        "swapped in, then one forward and backward",
        "pass in training, outputs in eval mode and the gradient to the input must be finite. Written by `tox -e "
        "sweep`; networks without a",
        "normalization layer are refused by name and not listed.",
        "",
        "`in` lets maps of one position pass, scaled and shifted only: there is nothing to normalize. `in "
        "(strict)`, that is",
        f"`{STRICT}`, refuses them; what it lacks are networks with a norm after pooling, on single tokens, or, "
        "on images",
        "as small as here, in a last stage of 1x1 maps.",
        "",
        "| " + " | ".join(["norm", *headings]) + " |",
        "| --- |" + " --- |" * len(norms),
        "| passes | " + " | ".join(f"{passed[n]} of {len(networks)}" for n in norms) + " |",
        "",
        "| network | file | image side | norms replaced | " + " | ".join(headings) + " |",
        "| --- | --- | --- | --- |" + " --- |" * len(norms),
    ]
    for network in networks:
        first = by[network, norms[0]]
        marks = [by[network, n].mark for n in norms]
        lines.append(
            f"| {network} | {file_of(network)} | {first.size} | {first.replaced} | " + " | ".join(marks) + " |"
        )
    if failures := [c for c in cases if c.problem]:
        lines += ["", "## What fails, and why", ""]
        for case in failures:
            refused = f"; a suite file that asks for it is refused: {case.refused}" if case.refused else ""
            lines.append(f"- `{case.network}` with `{case.norm}`: {case.problem}{refused}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the sweep; 1 where an unexpected case fails."""
    parser = argparse.ArgumentParser(description="Swap norms in one network of every kind that timm has.")
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    parser.add_argument(
        "--cases", type=Path, help="file of cases that are done, a JSON object a line; what comes is added"
    )
    parser.add_argument("--only", nargs="*", default=[], help="names of networks")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    cases = (
        [Case(**json.loads(line)) for line in chosen.cases.read_text().splitlines()]
        if chosen.cases and chosen.cases.is_file()
        else []
    )
    done = {c.network for c in cases}
    for name in chosen.only or NETWORKS:
        if norm_problem(name) or name in done:
            continue
        found = []
        for case in sweep(name, (*NORMS, STRICT)):
            found.append(case)
            sys.stdout.write(
                f"{case.network:36} {case.norm:22} {case.size:4} {case.replaced:4} {case.seconds:6.1f} s  "
                f"{case.problem or 'ok'}\n"
            )
            sys.stdout.flush()
        cases += found
        if chosen.cases:
            with chosen.cases.open("a") as file:
                file.writelines(json.dumps(asdict(c)) + "\n" for c in found)
    if chosen.table:
        chosen.table.parent.mkdir(exist_ok=True)
        chosen.table.write_text(table(cases), encoding="utf-8")
    return int(any(c.mark == "fails" for c in cases if c.norm != STRICT))


def missing_files() -> set[str]:
    """Files of `timm.models` with a normalization layer somewhere that no network of the sweep is from."""
    return {f for n, f in architectures().items() if not norm_problem(n)} - {file_of(n) for n in NETWORKS}


if __name__ == "__main__":
    sys.exit(main())
