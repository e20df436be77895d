"""`Trial`: the frozen specification of one training run, and `Outcome`: what became of it.

Plain values only (no tensors, no callables), so that a trial can be hashed, stored, shipped to a worker and shown on a
page. Every field is resolved: what a suite file leaves to a default stands here explicitly.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Version of the numeric protocol (order of random draws, evaluation, loss). Raised by hand whenever `normbench.lab`
#: changes a number; `tests/lab/test_protocol.py` holds recorded numbers and fails when one moves without it.
PROTOCOL = 1

#: Images in a dataset or a batch, more than any has. What a suite may ask for stays within what a stored row may hold.
IMAGES, BATCH = 1_000_000_000, 1_000_000

Scalar = bool | int | float | str


class Value(BaseModel):
    """Base of all values passed between stages: immutable, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64"
    )


class Component(Value):
    """A plug-in and its resolved parameters, e.g. `gn` with `{"groups": 8}`."""

    name: str
    params: dict[str, Any] = {}


class DataSpec(Value):
    """Which images, how many, and how they are augmented. Images are RGB or grey in pixel space [0, 1]."""

    dataset: str
    """`digits`, `cifar10`, `cifar100`, the name of a folder under the data directory, `hub:owner/name`, or a path."""
    image_column: str | None = None
    label_column: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    train_examples: Annotated[int, Field(ge=1, le=IMAGES)] | None = None
    """First so many training images; None for all."""
    test_examples: Annotated[int, Field(ge=1, le=IMAGES)] | None = None
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training images held out (the last ones); they are evaluated, never trained on."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Side in pixels after bilinear resizing; None keeps the stored size."""
    augment: tuple[Literal["crop", "flip"], ...] = ()
    mean: tuple[float, ...] | None = None
    """Per-channel pixel mean for standardisation; None: measured on the training images."""
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None


#: Parts of `data` that decide what a network is tested on; the others say how it was trained.
EVALUATION_DATA = ("dataset", "image_column", "label_column", "test_split", "test_examples", "image_size")
#: Parts of `data` that decide which images, and how many, a network sees in an epoch.
BUDGET_DATA = ("train_split", "train_examples", "validation")


class ModelSpec(Value):
    """An architecture, its stem and its width."""

    name: str
    stem: Literal["cifar", "native"] = "cifar"
    width: Annotated[float, Field(gt=0, le=64)] = 1.0
    """Multiplier of the channel numbers."""
    kwargs: dict[str, Any] = {}
    """Passed on to `timm.create_model`."""


OPTIMIZERS = ("sgd", "adam", "adamw", "nadamw", "rmsprop", "lamb", "lars", "lion", "adafactor", "muon")
#: Those that have a form with Nesterov momentum.
NESTEROV = ("sgd", "lars", "muon")


def added(default: Any, **limits: Any) -> Any:
    """A field that trials did not have at first. It is written only where it is not the default, so that the ids of
    earlier trials, and their stored results, stay what they are.
    """
    return Field(default, exclude_if=lambda value: value == default, **limits)


class TrainSpec(Value):
    """How a network is trained. Steps are optimizer steps; the schedule spans all of them."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 30
    optimizer: Literal["sgd", "adam", "adamw", "nadamw", "rmsprop", "lamb", "lars", "lion", "adafactor", "muon"] = "sgd"
    lr: Annotated[float, Field(gt=0, le=1000)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD-like optimizers (beta_1 of the others is timm's default)."""
    nesterov: bool = added(False)
    """Nesterov momentum, of sgd, lars and muon."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    decay: Literal["weights", "all"] = "weights"
    """`weights`: tensors with a fan-in above one (no biases, no affine parameters, no gain of weight norm)."""
    schedule: Literal["cosine", "linear", "constant", "step"] = "cosine"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = added((0.5, 0.75), min_length=1, max_length=100)
    """Of the schedule `step`: shares of all steps after which the rate is multiplied by `factor`, in ascending order.
    """
    factor: Annotated[float, Field(gt=0, lt=1)] = added(0.1)
    """Of the schedule `step`: what each milestone multiplies the rate by."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of all steps over which the learning rate rises linearly from zero."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_grad: Annotated[float, Field(gt=0)] | None = None
    """Largest global L2 norm of the gradient; None: not clipped."""
    agc: Annotated[float, Field(gt=0, le=1)] | None = added(None)
    """Adaptive gradient clipping: the largest norm of a unit's gradient as a share of the norm of its weights, in all
    layers but the last; None: not clipped.
    """
    mixup: Annotated[float, Field(ge=0, le=100)] = added(0.0)
    """Both parameters of the beta distribution that shares of mixed images are drawn from; 0: no mixup."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = added(0.0)
    """As `mixup`, of the area that another image is pasted over; with both, each batch takes one of them by chance."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = added(None)
    """Largest decay a step of the moving average of weights and buffers that is evaluated in place of the last ones;
    None: no average.
    """
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """`auto`: bf16 autocast on a GPU, float32 on a CPU; the row records which."""
    drop_last: bool = True
    """Whether the last, smaller batch of an epoch is left out."""
    adversarial: Component | None = None
    """An attack at one size, such as `{pgd: {eps: 8/255, steps: 7}}`: every training batch is replaced by what it makes
    of it.
    """


#: What the settings are that `added` leaves out where a specification is written, as JSON has it.
UNWRITTEN: dict[str, Any] = {
    key: list(f.default) if isinstance(f.default, tuple) else f.default
    for key, f in TrainSpec.model_fields.items()
    if f.exclude_if is not None
}


class Trial(Value):
    """One network, trained, measured and attacked once."""

    data: DataSpec
    model: ModelSpec
    norm: tuple[Component, ...]
    """At most one weight method, then exactly one activation method, then at most one modifier."""
    norm_label: str
    """As people write it: `ws+gn[groups=8]`."""
    batch_size: Annotated[int, Field(ge=1, le=BATCH)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    train: TrainSpec
    stage: Literal["final", "tuning"] = "final"
    """`tuning`: one candidate of a search over settings; it is judged on held-out training images alone and never sees
    a test image.
    """
    attacks: tuple[Component, ...] = ()
    measures: tuple[Component, ...] = ()
    statistics: tuple[Component, ...] = Field(default=(), exclude_if=lambda asked: not asked)
    """By which statistics besides the running ones it is evaluated. A specification without any is written as before
    there were some, so that it keeps its id.
    """

    @cached_property
    def trial_id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the resolved specification."""
        return digest(self.model_dump(mode="json"))[:16]

    @cached_property
    def entry(self) -> str:
        """12 hexadecimal digits that trials share which differ in nothing but their seed."""
        return digest({k: v for k, v in self.model_dump(mode="json").items() if k != "seed"})[:12]

    @cached_property
    def board(self) -> str:
        """12 hexadecimal digits that trials share of the same test, network and batch size. They stand on one board if
        they had the same budget and place too: see `normbench.board`.
        """
        spec = self.model_dump(mode="json")
        return digest(
            [{k: spec["data"][k] for k in EVALUATION_DATA}, spec["model"], spec["batch_size"], spec["attacks"]]
        )[:12]

    @property
    def title(self) -> str:
        """One line for progress displays and messages."""
        width = "" if self.model.width == 1 else f" x{self.model.width:g}"
        stage = " · tuning" if self.stage == "tuning" else ""
        return (
            f"{self.norm_label} · {self.model.name}{width} · batch {self.batch_size} · lr {self.train.lr:g} · wd "
            f"{self.train.weight_decay:g} · seed {self.seed}"
            f"{stage}"
        )


def digest(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON (sorted keys, no spaces, no NaN)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Limits(Value):
    """Where and how long a trial may run; not part of its identity."""

    cpu: Annotated[int, Field(ge=1, le=4096)] = 1
    gpu: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = "auto"
    """Number or fraction of GPUs; `auto`: one where there is one."""
    time: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds before the trial is stopped and recorded as `timed_out`."""
    engine: Literal["auto", "graph", "compile", "eager"] = "auto"
    """What computes training steps; what a method cannot do falls to the next. `auto`: `graph` on a GPU, `eager` on a
    CPU; the row records which it was.
    """
    process: Literal["auto", "trial", "shape"] = "auto"
    """`trial`: each trial has a process of its own. `shape`: a process goes on with the next trial of the same data,
    network, norms, batch size and precision, and is replaced after any end that is not ok. `auto`: `shape` on a GPU,
    `trial` on a CPU.
    """
    together: Annotated[int, Field(ge=1, le=64)] = 1
    """So many trials at most that differ in their seeds, or in how weights are moved, share a process and compute their
    training steps as one. Each has the rows that it would have alone, up to rounding; `engine` says `together`.
    """
