"""Checkpoints of a trial in training, from which it goes on with bit-identical results on a CPU.

A checkpoint is one safetensors file. It holds tensors as they are: parameters, buffers, their moving average where
there is one, the optimizer's state, random states. The file's metadata hold the rest as JSON: epoch, curves, numbers of
the optimizer, seconds. Nothing in it is code, so a file from elsewhere can be read safely.

It is taken between epochs, after their measures, when nothing is in progress: the order of images and the draws of the
augmentation depend on the seed and the epoch alone. State that a layer keeps outside its parameters and buffers is not
in it; `tests/lab/test_checkpoint.py` checks that no registered norm, measure or optimizer has any.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import nn

from normbench.lab.average import Average
from normbench.lab.observer import Observer
from normbench.lab.train import Record
from normbench.spec.outcome import Reading
from normbench.spec.trial import digest
from normbench.store.files import write_atomically

#: Raised by hand when checkpoints hold something else. Those of older formats are ignored.
FORMAT = 2
_KEY = "normbench"
_SCALARS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Training:
    """Everything that changes while a trial trains."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    observer: Observer
    record: Record
    average: Average | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The network, and its moving average where there is one, by the names that checkpoints give them."""
        return {"model": self.model} | ({"average": self.average.network} if self.average else {})

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of its networks, by network and name."""
        return {f"{n}.{name}": t for n, network in self.networks.items() for name, t in named_tensors(network).items()}


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why."""


@dataclass
class Checkpointer:
    """Saves one trial's training now and then, and resumes what an earlier process left.

    owner: the trial's identity, device, precision and threads; a checkpoint of another owner is ignored. seconds: least
    time between two checkpoints.
    """

    path: Path
    owner: Mapping[str, Any]
    seconds: float
    spent: float = 0.0
    """Wall seconds of earlier processes that the checkpoint holds."""
    worked: float = 0.0
    """Those of these seconds that count towards the time limit: on a CPU, no more than the processor time of each
    thread.
    """
    resumed_at: list[int] = field(default_factory=list)
    """Epochs after which training went on in a new process."""
    problem: str = ""
    """Why there was a checkpoint and it was ignored, or why none could be written."""

    def __post_init__(self) -> None:
        self._began = self._saved = time.monotonic()
        if self.path.is_file():
            try:
                about = _read(self.path, self.owner)[0]
                self.spent, self.worked = float(about["spent"]), float(about["worked"])
            except CheckpointError as error:
                self.problem = f"the checkpoint {self.path.name} is ignored: {error}"

    def resume(self, training: Training) -> None:
        """Bring `training` to the state of the checkpoint. Without a checkpoint that fits, nothing changes."""
        if self.problem or not self.path.is_file():
            return
        try:
            about, tensors = _read(self.path, self.owner)
            restore(training, about, tensors)
        except CheckpointError as error:
            self.problem, self.spent, self.worked = f"the checkpoint {self.path.name} is ignored: {error}", 0.0, 0.0
            return
        self.resumed_at = [*about["resumed_at"], training.record.epoch]

    def save_when_due(self, training: Training, *, last: bool) -> None:
        """Save if `seconds` have passed since the last time. After the last epoch they count from the start of
        training, since attacks may take longer than training did.
        """
        now = time.monotonic()
        if now - (self._began if last else self._saved) < self.seconds:
            return
        try:
            about, tensors = capture(training)
            worked = spent = now - self._began
            if self.owner.get("device", "cpu") == "cpu":
                worked = min(spent, time.process_time() / self.owner.get("threads", 1))
            about |= {"spent": self.spent + spent, "worked": self.worked + worked}
            about |= {"resumed_at": self.resumed_at, "owner": dict(self.owner)}
            write_atomically(self.path, to_bytes(about, tensors))
        except (OSError, ValueError) as error:  # a full disk must not cost the trial
            self.problem = f"no checkpoint could be kept: {error}"
        self._saved = time.monotonic()


def capture(training: Training) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The state of `training` as JSON values and tensors. Raises `CheckpointError` where an optimizer keeps what is
    neither.
    """
    tensors = training.tensors
    state = training.optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif isinstance(value, _SCALARS):
                numbers.setdefault(str(index), {})[name] = value
            else:
                raise CheckpointError(
                    f"the optimizer keeps a {type(value).__name__} as {name!r}, which is neither a tensor nor a number"
                )
    groups: list[dict[str, Any]] = []
    for index, group in enumerate(state["param_groups"]):
        tensors |= {
            f"group.{index}.{name}": value for name, value in group.items() if isinstance(value, torch.Tensor)
        }  # lamb counts its steps there
        groups.append({name: value for name, value in group.items() if isinstance(value, _SCALARS)})
    tensors["random.cpu"] = torch.get_rng_state()
    if (device := _device(training.model)).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    record = training.record
    about = {
        "format": FORMAT,
        "optimizer": {"state": numbers, "groups": groups},
        "record": {k: v for k, v in asdict(record).items() if k != "curves"}
        | {"curves": [[r.step, r.epoch, r.measure, r.layer, r.value] for r in record.curves]},
        "measure_seconds": dict(training.observer.seconds),
    }
    return about, tensors


def restore(training: Training, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Put a captured state into `training`. Raises `CheckpointError`, and changes nothing, where it does not fit."""
    held = training.tensors
    found = {name: tensor for name, tensor in tensors.items() if name.startswith(("model.", "average."))}
    if {n: (t.shape, t.dtype) for n, t in held.items()} != {n: (t.shape, t.dtype) for n, t in found.items()}:
        raise CheckpointError("its network has other parameters or buffers")
    parameters = [p for group in training.optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in about["optimizer"]["state"].items()
    }
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            parameter = parameters[int(index)]
            # in the parameter's memory layout, as the optimizer would have made it
            value = (
                torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
                if tensor.shape == parameter.shape
                else tensor.clone()
            )
            state.setdefault(int(index), {})[key] = value.detach()
    groups = training.optimizer.state_dict()["param_groups"]
    if len(groups) != len(about["optimizer"]["groups"]):
        raise CheckpointError("its optimizer has other groups of parameters")
    for number, (group, saved) in enumerate(zip(groups, about["optimizer"]["groups"], strict=True)):
        prefix = f"group.{number}."
        group |= saved | {
            name.removeprefix(prefix): tensor.clone() for name, tensor in tensors.items() if name.startswith(prefix)
        }
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(found[name])
    record = training.record
    record.curves = [
        Reading(step=s, epoch=e, measure=m, layer=layer, value=v) for s, e, m, layer, v in about["record"]["curves"]
    ]
    for key, value in about["record"].items():
        if key != "curves":
            setattr(record, key, value)
    training.observer.seconds.update(about["measure_seconds"])
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], _device(training.model))


def _device(model: nn.Module) -> torch.device:
    return next((t.device for t in named_tensors(model).values()), torch.device("cpu"))


def to_bytes(about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A safetensors file whose metadata hold `about` and a SHA-256 over it and all tensors."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content: bytes = to_safetensors(
        own, {_KEY: json.dumps({"about": about, "sha256": _seal(about, own)}, allow_nan=False)}
    )
    return content


def _read(path: Path, owner: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {})[_KEY])
            about = head["about"]
            if about["format"] != FORMAT:
                raise CheckpointError(f"it is of format {about['format']}, this version reads {FORMAT}")
            if other := sorted(k for k in {*about["owner"], *owner} if about["owner"].get(k) != owner.get(k)):
                raise CheckpointError(f"it belongs to a trial with another {', '.join(other)}")
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"it cannot be read ({type(error).__name__}: {error})") from error
    if head["sha256"] != _seal(about, tensors):
        raise CheckpointError("its checksum does not fit its content")
    return about, tensors


def _seal(about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256(digest(about).encode())
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, those that `state_dict` leaves out as well."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
