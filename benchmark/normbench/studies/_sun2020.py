"""What the source paper prints: Tables 1 and 2 of Sun et al., New Interpretations of Normalization Methods in Deep
Learning, AAAI 2020.

Test accuracy of ResNet-101 as shares, without and with weight decay. Acc-Diff1 and Acc-Diff2 are printed too; they are
the differences of the rows, except where `SLIPS` says so. Of Table 1, 13 of 24 accuracies are multiples of 1/32 cut or
rounded to four digits (one such has a chance of about 1 % by accident):
most of its clean and noise columns fit an evaluation on one batch of 32 images.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A column of a table. `diff1`, `diff2`: as printed."""

    clean: float
    noise: float
    diff1: float
    bim: float
    diff2: float


#: Dataset -> (method, with weight decay) -> column.
TABLES: dict[str, dict[tuple[str, bool], Printed]] = {
    "cifar10": {
        ("bn", False): Printed(0.9687, 0.8125, 0.1562, 0.5380, 0.4307),
        ("bn", True): Printed(0.9375, 0.7812, 0.1563, 0.6000, 0.3375),
        ("gn", False): Printed(0.9687, 0.9062, 0.0625, 0.5793, 0.3894),
        ("gn", True): Printed(0.9375, 0.8437, 0.0938, 0.5815, 0.3560),
        ("ln", False): Printed(0.8711, 0.8437, 0.0274, 0.5253, 0.3458),
        ("ln", True): Printed(0.9687, 0.8002, 0.1685, 0.5333, 0.4354),
        ("wn", False): Printed(0.8679, 0.7060, 0.1619, 0.5031, 0.3648),
        ("wn", True): Printed(0.9062, 0.7187, 0.1875, 0.4687, 0.4375),
    },
    "cifar100": {
        ("bn", False): Printed(0.6875, 0.4596, 0.2279, 0.1397, 0.5478),
        ("bn", True): Printed(0.6563, 0.4953, 0.1610, 0.1558, 0.5005),
        ("gn", False): Printed(0.6257, 0.4098, 0.2159, 0.2366, 0.3891),
        ("gn", True): Printed(0.6063, 0.4327, 0.1736, 0.2813, 0.3250),
        ("ln", False): Printed(0.6358, 0.3983, 0.2375, 0.2354, 0.4004),
        ("ln", True): Printed(0.6279, 0.4278, 0.2001, 0.2531, 0.3748),
        ("wn", False): Printed(0.6147, 0.3476, 0.2671, 0.1647, 0.4500),
        ("wn", True): Printed(0.6072, 0.3874, 0.2198, 0.1965, 0.4077),
    },
}

CITATION = (
    "J. Sun, X. Cao, H. Liang, W. Huang, Z. Chen, Z. Li: New Interpretations of Normalization Methods in Deep "
    "Learning, AAAI 2020, arXiv:2006.09104"
)

#: What section 3.2 says of accuracy and weight decay, and how it is read.
CLEAN = {
    "cifar10": (
        "The paper says that with weight decay the accuracy increases a bit. Clean accuracy is not meant: in Table 1 "
        "it falls for BN and GN and rises for LN and WN. Read as accuracy under noise the print says the opposite for "
        "BN, GN and LN; read as accuracy under BIM it says so for WN alone."
    ),
    "cifar100": (
        "The paper says that with weight decay the accuracy increases a bit. Clean accuracy is not meant: in Table 2 "
        "it falls for all four methods, and accuracy under noise and under BIM rises for all four."
    ),
}

#: Slips in print, and how they are read here.
SLIPS = {
    "cifar100": (
        "Printed noise accuracy of GN with weight decay: 4327, read as .4327, which its Acc-Diff1 confirms.",
        "Printed Acc-Diff2 of WN with weight decay: .4077; the printed accuracies give .4107.",
    ),
}

#: Images of the test set of which Table 1's clean and noise columns are multiples, and of the whole test set.
BATCH, WHOLE = 32, 10_000

#: Table of a dataset, and how many of its 24 accuracies are multiples of 1/32.
TITLES = {"cifar10": ("Table 1", 13), "cifar100": ("Table 2", 3)}

#: What the paper names of its protocol; it names no batch size, momentum, schedule, weight decay coefficient, repeats,
#: groups, size of attack or test images.
PROTOCOL = {"model": "resnet101", "optimizer": "sgd", "lr": 0.001, "epochs": 200, "augment": ("flip",)}
