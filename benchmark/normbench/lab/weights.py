"""The weights of a trained network as a safetensors file, and the network that comes of it.

The file holds parameters and buffers as they are, those that a state dict leaves out as well. Its metadata hold, as
JSON under `normbench`, what the network is built from besides its trial. Nothing in it is code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import nn

from normbench.errors import BenchError
from normbench.lab.checkpoint import named_tensors
from normbench.lab.data import Dataset
from normbench.lab.network import construct
from normbench.lab.network.build import PixelModel, request, swapped
from normbench.spec.text import said
from normbench.spec.trial import Trial, Value
from normbench.store import weights
from normbench.store.weights import WeightsError
from normbench.tensors.seeding import streams_kept

_KEY = "normbench"


class Facts(Value):
    """What a network is built from besides its trial. A file's metadata hold it as JSON."""

    format: Literal[1] = 1
    trial_id: str
    channels: Annotated[int, Field(ge=1, le=4)]
    """Of the images."""
    image_size: Annotated[int, Field(ge=1, le=8192)]
    """Their side in pixels."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """Their names, in the order of the logits."""


def keep(model: nn.Module, trial: Trial, dataset: Dataset, place: Mapping[str, str] | None) -> dict[str, Any]:
    """Write the weights of a trained network, and return what the provenance of its row says of them: the file, or why
    it could not be written, which does not cost the trial.

    place: the `root` of the results and the `suite`; None: nothing is kept.
    """
    if place is None:
        return {}
    facts = Facts(
        trial_id=trial.trial_id, channels=dataset.channels, image_size=dataset.image_size, classes=dataset.classes
    )
    try:
        there = weights.put(place["root"], place["suite"], trial.trial_id, to_bytes(model, facts))
    except (OSError, BenchError) as error:
        return {weights.PROBLEM: f"its weights could not be kept: {said(error)}"}
    return {weights.KEY: there.model_dump()}


def to_bytes(model: nn.Module, facts: Facts) -> bytes:
    """The safetensors file of a network."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in named_tensors(model).items()}
    content: bytes = to_safetensors(own, {_KEY: facts.model_dump_json()})
    return content


def network(trial: Trial, content: bytes, where: str) -> PixelModel:
    """The network of a trial with the weights of a file, in eval mode on the CPU: images `(N, C, H, W)` float in [0, 1]
    to logits `(N, classes)`.

    where: what the file is called in messages. Raises `WeightsError` where the file holds something else, or where the
    network that is built here has other tensors.
    """
    try:
        facts = _facts(content)
        found = from_safetensors(content)
    except (SafetensorError, ValidationError, ValueError, KeyError, struct.error) as error:
        raise WeightsError(f"{where} holds no weights of this version of normbench: {said(error)[:200]}") from None
    if facts.trial_id != trial.trial_id:
        raise WeightsError(f"{where} holds the weights of trial {facts.trial_id}")
    with streams_kept():
        body, _ = swapped(trial, channels=facts.channels, image_size=facts.image_size, classes=len(facts.classes))
    model = PixelModel(body, [0.0] * facts.channels, [1.0] * facts.channels)
    held = named_tensors(model)
    if differing := sorted(
        name
        for name in {*held, *found}
        if name not in held or name not in found or (held[name].shape, held[name].dtype) != _kind(found[name])
    ):
        raise WeightsError(
            f"{where} does not fit the network of trial {trial.trial_id} as it is built here: "
            f"{', '.join(differing[:3])}{f' and {len(differing) - 3} more' if len(differing) > 3 else ''} differ; use "
            "the versions of torch and timm, and the code of the norms, that it was trained with"
        )
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(found[name])
    return model.eval()


def size_of(trial: Trial, *, channels: int = 3, image_size: int = 32, classes: int = 10) -> int:
    """About how many bytes the weights of a trial take: those of its architecture, which no method changes much."""
    side = trial.data.image_size or image_size
    with streams_kept(), torch.device("meta"):
        body = construct(request(trial, channels=channels, image_size=side, classes=classes))
    return sum(tensor.numel() * tensor.element_size() for tensor in named_tensors(body).values())


def _facts(content: bytes) -> Facts:
    """The metadata at the beginning of a safetensors file: the length of a JSON text as 8 bytes, then the text."""

    (length,) = struct.unpack_from("<Q", content)
    return Facts.model_validate_json(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])


def _kind(tensor: torch.Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype
