"""The steps of several networks of one shape as one: a small trial leaves most of a GPU idle.

Logits and gradients of all networks are computed at once, by `torch.func.vmap` over their stacked weights: N
convolutions are one grouped convolution. The parameters and buffers of each network lie in the stack, so that all else
of a trial goes on as if it were alone: clipping, the update, measures, averages. The numbers are the same up to
rounding, as for two numbers of threads.

Networks that draw random numbers in a forward pass, or that vmap cannot follow, are refused, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional

from normbench.lab.engine.steps import AGREEMENT, MARGIN, SHAKE, Engine, Kind, age, line
from normbench.tensors.snapshot import buffer_places, undisturbed

#: How far the change of a buffer may be from that alone, as a share of its norm; `coarse` as of `steps.SHAKE`.
BUFFERS = {"fine": 1e-2, "coarse": 5e-2}
GRADIENTS = "gradient"


class _Telling(nn.Module):
    """Returns the network's buffers too, since layers may put others in their places."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        return self.network(images), tuple(self.network.buffers())


class Stack(nn.Module):
    """N networks as one: images (N, B, C, H, W) to logits (N, B, classes).

    From here on the values of their parameters and buffers are parts of this module's tensors, until `apart`.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._hidden = (tuple(networks), _Telling(networks[0]))  # a tuple: torch is to find no values but the stacked
        self._names = (
            [n for n, _ in self._hidden[1].named_parameters()],
            [n for n, _ in self._hidden[1].named_buffers()],
        )
        self.stacked = nn.ParameterList(
            nn.Parameter(_stacked([p.detach() for p in same]), requires_grad=same[0].requires_grad)
            for same in zip(*(network.parameters() for network in networks), strict=True)
        )
        for number, places in enumerate(zip(*map(buffer_places, networks), strict=True)):
            self.register_buffer(str(number), _stacked([buffer for _, _, buffer in places]))
        self._buffers_at: list[tuple[nn.Module, str, torch.Tensor]] = []
        self._place(lambda part: part)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        def one(
            parameters: Sequence[torch.Tensor], buffers: Sequence[torch.Tensor], x: torch.Tensor
        ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            held = dict(zip(self._names[0], parameters, strict=True)) | dict(zip(self._names[1], buffers, strict=True))
            found: tuple[torch.Tensor, tuple[torch.Tensor, ...]] = functional_call(self._hidden[1], held, (x,))
            return found

        buffers = tuple(self.buffers())
        logits, after = vmap(one)(tuple(self.stacked), buffers, images)
        with torch.no_grad():
            for buffer, now in zip(buffers, after, strict=True):
                # One that was written to is here already, and what the backward pass needs of it must not change.
                if torch.compiler.is_compiling() or now.data_ptr() != buffer.data_ptr():
                    buffer.copy_(now)
        return logits

    def gradients_of(self, member: int) -> list[torch.Tensor | None]:
        """Of each of its parameters."""
        return [None if p.grad is None else p.grad[member] for p in self.stacked]

    def gather(self) -> None:
        """Bring back the buffers that were replaced in the networks."""
        for module, name, part in self._buffers_at:
            now = getattr(module, name)
            if now is not part:
                part.copy_(now)
                setattr(module, name, part)

    def apart(self) -> None:
        """Give each network tensors of its own."""
        self.gather()
        self._place(torch.clone)

    def _place(self, made: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._buffers_at.clear()
        for member, network in enumerate(self._hidden[0]):
            for parameter, values in zip(network.parameters(), self.stacked, strict=True):
                parameter.data = made(values.detach()[member])
            for (module, name, _), buffers in zip(buffer_places(network), self.buffers(), strict=True):
                part = made(buffers[member])
                setattr(module, name, part)
                self._buffers_at.append((module, name, part))


def _stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Along a new first axis; each lies in memory as before, such as channels_last."""
    order = sorted(range(tensors[0].ndim), key=tensors[0].stride, reverse=True)
    there = torch.stack([tensor.permute(order) for tensor in tensors])
    return there.permute(0, *(1 + order.index(axis) for axis in range(len(order))))


class Together(Engine):
    """Steps of several trials as one. Each has its own `Engine`, of which this computes the first half."""

    def __init__(self, members: Sequence[Engine], wanted: Kind) -> None:
        self.members = members
        self.stack = Stack([member.model for member in members])
        whole = members[0].spec.model_copy(update={"agc": None, "clip_grad": None})  # each clips its own gradients
        super().__init__(
            self.stack,
            torch.optim.SGD(self.stack.parameters()),  # forgets gradients; each trial makes its own update
            whole,
            precision=members[0].precision,
            wanted="eager" if wanted == "eager" else "compile",
        )

    def prepare_all(self, images: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> str:
        """Compare what the step leaves with what each leaves alone, and compile where that is wanted. Returns why the
        trials must run alone, in a line; empty where they can run together. A batch of each trial: see
        `Engine.prepare`.
        """
        try:
            if problem := self._differs_from_alone(images, labels):
                return problem
        except Exception as error:  # vmap may raise anything on what it cannot follow
            return f"together: {type(error).__name__}: {line(error)}"
        self.prepare(torch.stack(list(images)), torch.stack(list(labels)))
        return ""

    def gradients_all(
        self, images: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """As `Engine.gradients`, for a batch of each trial."""
        self.stack.gather()
        logits, losses = self.gradients(torch.stack(list(images)), torch.stack(list(labels)))
        for number, member in enumerate(self.members):
            for parameter, gradient in zip(member.model.parameters(), self.stack.gradients_of(number), strict=True):
                parameter.grad = gradient
        return list(zip(logits, losses, strict=True))

    def _eager(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, B, classes) and losses (N,)."""
        logits = self.model(images)
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(0, 1),
            reduction="none",
            label_smoothing=self.spec.label_smoothing,
        )
        return logits, losses.view(len(images), -1).mean(1)

    def _differs_from_alone(self, images: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> str:
        """The same limit of gradients as for compiled code, see `Engine._differs`. Changes of buffers are averages,
        which rounding moves less.
        """
        grain = "fine" if images[0].device.type == "cpu" and self.precision == "float32" else "coarse"
        exact, shaken = (
            [self._alone(m, i, t, shake) for m, i, t in zip(self.members, images, labels, strict=True)]
            for shake in (0.0, SHAKE[grain])
        )
        with ExitStack() as kept:
            for member in self.members:
                kept.enter_context(undisturbed(member.model))
                member.model.train()
                age(member.model)
            before = [_buffers(member.model) for member in self.members]
            self.gradients_all(images, labels)
            found = [_left(m.model, b) for m, b in zip(self.members, before, strict=True)]
        for own, moved, ours in zip(exact, shaken, found, strict=True):
            for name, a in own.items():
                size, apart = float(a.norm()), float((ours[name] - a).norm())
                limit = BUFFERS[grain] * size
                if name == GRADIENTS:
                    limit = max(AGREEMENT * size, MARGIN * float((moved[name] - a).norm()))
                if math.isfinite(size + limit) and not apart <= limit:
                    return f"together: its {name} is off by {apart / size if size else math.inf:.1g} of its norm"
        return ""

    def _alone(
        self, member: Engine, images: torch.Tensor, labels: torch.Tensor, shake: float
    ) -> dict[str, torch.Tensor]:
        with undisturbed(member.model):
            member.model.train()
            age(member.model, shake)
            before = _buffers(member.model)
            member.gradients(images, labels)
            return _left(member.model, before)


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def _left(model: nn.Module, before: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a step leaves: all gradients in one vector, and the change of each buffer, as float32."""
    gradients = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    changes = {f"buffer {name}": (now - before[name]).float() for name, now in model.named_buffers()}
    return {GRADIENTS: torch.cat(gradients), **changes}
