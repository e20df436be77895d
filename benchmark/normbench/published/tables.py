"""What is printed, as data: the tables, where they stand, and how their protocols differ from the suites that stand
beside them. Accuracies in %, as the sources write them; printed errors were turned into accuracies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A printed number. most: the largest, where sources print several, of which `value` is then the smallest. spread:
    what is printed behind ±. All None: nothing is printed.

    metric: a regular expression of the metrics, as boards name them (`Metric.key`), whose mean the number is; empty
    where nothing here measures it.
    """

    what: str
    metric: str
    value: float | None = None
    most: float | None = None
    spread: float | None = None

    @property
    def text(self) -> str:
        """`92.58 ± 0.08`, `91.25 to 92.6`, or that nothing is printed."""
        if self.value is None:
            return "nothing printed"
        to = "" if self.most is None else f" to {_text(self.most)}"
        return f"{_text(self.value)}{to}" + ("" if self.spread is None else f" ± {self.spread:g}")


def _text(value: float) -> str:
    """With one decimal at least, as sources print it."""
    return f"{value:.1f}" if value == int(value) else f"{value:g}"


@dataclass(frozen=True)
class Row:
    """The numbers of one network with one method, named as suites name them."""

    model: str
    norm: str
    numbers: tuple[Printed, ...]


@dataclass(frozen=True)
class Table:
    """A printed table. suite: that of this benchmark that trains its rows. setting: what the source names of its
    protocol. differs: what is otherwise in the suite, or was left open. spread: what ± stands for in print.
    """

    name: str
    title: str
    source: str
    address: str
    suite: str
    setting: str
    rows: tuple[Row, ...]
    differs: tuple[str, ...]
    spread: str = ""


def _galloway(norm: str, numbers: Sequence[tuple[float, float]]) -> Row:
    kinds = {
        "clean": "clean",
        "noise of 1/4 (standardised)": r"galloway\[noise\]@.*",
        "linf of 0.03 (standardised)": r"galloway\[linf\]@.*",
        "L2 of 1.663 (standardised)": r"galloway\[l2\]@.*",
    }
    return Row(
        "resnet110",
        norm,
        tuple(
            Printed(what, metric, value, spread=spread)
            for (what, metric), (value, spread) in zip(kinds.items(), numbers, strict=True)
        ),
    )


def _clean(model: str, norm: str, value: float | None = None, most: float | None = None) -> Row:
    return Row(model, norm, (Printed("clean", "clean", value, most),))


_CORRUPTED = r"cifar10-c\[[^]]*\]"

TABLES = (
    Table(
        name="galloway",
        title="Batch norm against Fixup, clean and attacked",
        source="A. Galloway, A. Golubeva, T. Tanay, M. Moussa, G. W. Taylor: Batch Normalization is a Cause of "
        "Adversarial Vulnerability, 2019, arXiv:1905.02161; README and code of AngusG/bn-advex-zhang-fixup",
        address="https://github.com/AngusG/bn-advex-zhang-fixup",
        suite="published-galloway",
        setting="CIFAR-10, ResNet-110, 200 epochs, batch 128, a rate of 0.1 divided by 10 at epochs 100 and 150, "
        "weight decay 1e-4, no mixup, 5 seeds; attacks in standardised space",
        spread="of 5 seeds; whether a deviation or an error of the mean is not said",
        rows=(
            _galloway("bn", ((92.58, 0.08), (59.0, 0.3), (8.5, 0.3), (60.1, 0.3))),
            _galloway("fixup", ((93.0, 0.2), (76.3, 0.7), (38.1, 0.7), (77.3, 0.2))),
        ),
        differs=(
            "the network of the last epoch is evaluated, not that of the epoch that is best on the test images",
            "biases have the rate of all other parameters with bn; the source takes a tenth for them",
            "the last, smaller batch of an epoch is left out",
            "channels are standardised by the mean and deviation of the training images",
        ),
    ),
    Table(
        name="resnet",
        title="ResNets for CIFAR-10: is the training handicapped?",
        source="K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016, "
        "arXiv:1512.03385, table 6, for the smaller numbers; README of chenyaofo/pytorch-cifar-models for the larger",
        address="https://arxiv.org/abs/1512.03385",
        suite="published-resnet",
        setting="CIFAR-10, 64,000 steps of 128 images, a rate of 0.1 divided by 10 at 32,000 and 48,000, weight decay "
        "1e-4; the larger numbers: longer, with another recipe",
        rows=(_clean("resnet20", "bn", 91.25, 92.6), _clean("resnet56", "bn", 93.03, 94.4)),
        differs=(
            "50,000 training images, where the source holds out 5,000; 63,960 steps",
            "weight decay on weights alone; the source does not say whether scales and shifts are decayed",
            "the mean and deviation of each channel are taken out, not the mean of each pixel",
            "5 seeds; the source prints one run",
        ),
    ),
    Table(
        name="tent",
        title="Batch norm under corruptions, by statistics of training and of the test batch",
        source="D. Wang, E. Shelhamer, S. Liu, B. Olshausen, T. Darrell: Tent: Fully Test-Time Adaptation by Entropy "
        "Minimization, ICLR 2021; README of DequanWang/tent",
        address="https://github.com/DequanWang/tent",
        suite="published-tent",
        setting="CIFAR-10-C at severity 5, mean over 15 kinds; RobustBench's WRN-28-10; test batches of 200; printed "
        "as errors 43.5, 20.4 and 18.6",
        rows=(
            Row(
                "wrn-28-10",
                "bn",
                (
                    Printed("statistics of the training set", rf"{_CORRUPTED}@5", 56.5),
                    Printed("statistics of the test batch", rf"{_CORRUPTED} under batch\[size=200\]@5", 79.6),
                    Printed("Tent, which trains on the test images", "", 81.4),
                ),
            ),
        ),
        differs=(
            "networks are trained here, by the recipe of Zagoruyko and Komodakis 2016; the source has one network of "
            "RobustBench's",
            "3 seeds; the source has one network",
        ),
    ),
    Table(
        name="missing",
        title="The table that nobody has printed: ResNet-18 with seven methods",
        source="none for GN, LN, IN and WN; for BN the README of kuangliu/pytorch-cifar",
        address="https://github.com/kuangliu/pytorch-cifar",
        suite="missing-table",
        setting="CIFAR-10, ResNet-18; the number is of an older recipe and one run",
        rows=(
            _clean("resnet18", "bn", 93.0),
            *(_clean("resnet18", norm) for norm in ("gn", "ln", "in", "wn", "ws+gn", "none")),
        ),
        differs=(
            "everything is chosen here: 200 epochs, cosine, Nesterov momentum, weight decay 5e-4, and a rate for each "
            "method from the same five, by held-out training images",
            "3 seeds; the source prints one run",
        ),
    ),
    Table(
        name="small",
        title="A narrow ResNet-20 on 16x16 images: this benchmark against a loop of plain PyTorch",
        source="tests/lab/test_plain_loop.py of this repository, which shares no network, loop or augmentation with "
        "the benchmark; torch 2.15 on a CPU",
        address="",
        suite="published-small",
        setting="2,000 images of CIFAR-10 after JPEG compression, at half their side; half the width, 6 epochs of "
        "batches of 64, 5 seeds; a size that two CPU cores can do, whose accuracy says nothing of the network's best",
        spread="half of a 95 % interval over 5 seeds",
        rows=(Row("resnet20", "bn", (Printed("clean", "clean", 33.1, spread=3.9),)),),
        differs=("other random numbers: starting weights, order, shifts", "networks are the same, written twice"),
    ),
)
