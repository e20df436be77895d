"""A whole training step as one CUDA graph: captured once, replayed for every batch of the same shape.

A replay runs the kernels of the captured step on the addresses that they were captured with, and no Python. So
everything that a step reads or writes (images, labels, learning rate, parameters, gradients, buffers, the optimizer's
state) has to stay where it was. What other code puts elsewhere between two replays (measures restore copies of the
optimizer's state; some layers replace a buffer's tensor) is brought back before the next one.

Source: torch's notes on CUDA graphs: warm-up on a side stream, gradients None before the capture so that the backward
pass allocates them inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from normbench.spec.trial import TrainSpec

#: Steps before the capture: libraries choose their kernels and the optimizer makes its state in the first ones.
WARM_UP = 3
#: Relative difference of losses up to which replayed steps agree with those outside the graph, in bfloat16.
AGREEMENT = 1e-2
#: Optimizers whose update reads everything from the device, with what makes them do so. Others stay outside the graph.
CAPTURED: dict[type, dict[str, Any]] = {
    torch.optim.SGD: {"fused": True},
    torch.optim.Adam: {"capturable": True},
    torch.optim.AdamW: {"capturable": True},
}


class GraphError(RuntimeError):
    """The captured step does not do what the step does."""


class Snapshot:
    """Everything that a training step changes, to be put back into the same tensors."""

    def __init__(self, model: nn.Module, stepper: torch.optim.Optimizer) -> None:
        self.stepper = stepper
        self.parameters = [(p, p.detach().clone()) for p in model.parameters()]
        self.buffers = [
            (module, name, b, b.clone())
            for module in model.modules()
            for name, b in module._buffers.items()
            if b is not None
        ]
        self.state = {
            p: {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in values.items()}
            for p, values in stepper.state.items()
        }
        self.random = torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    @torch.no_grad()
    def put_back(self) -> None:
        """State of the optimizer that was not there yet becomes zero, which for the optimizers in `CAPTURED` is where
        it starts.
        """
        for parameter, value in self.parameters:
            parameter.copy_(value)
        for module, name, buffer, before in self.buffers:
            buffer.copy_(before)
            module._buffers[name] = buffer
        for moved, values in self.stepper.state.items():
            known = self.state.get(moved, {})
            for key, now in values.items():
                if not isinstance(now, torch.Tensor):
                    values[key] = known.get(key)
                elif known.get(key) is None:
                    now.zero_()
                else:
                    now.copy_(known[key])
        torch.set_rng_state(self.random[0])
        if self.random[1] is not None:
            torch.cuda.set_rng_state(self.random[1])

    def forget(self) -> None:
        """Take out what the optimizer made since."""
        for parameter in [p for p in self.stepper.state if p not in self.state]:
            del self.stepper.state[parameter]


class Graph:
    """Captures a step of `forward` (images, labels -> logits, loss), its gradients, clipping and, for the optimizers in
    `CAPTURED`, the update.

    images, labels: a batch of the shape to capture, on the GPU. The model is in training mode while it is captured.
    Model, optimizer and random streams are afterwards what they were. Raises whatever the capture raises, and
    `GraphError` where replayed steps differ from steps outside the graph.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        stepper: torch.optim.Optimizer,
        spec: TrainSpec,
        images: torch.Tensor,
        labels: torch.Tensor,
    ) -> None:
        self._model, self._forward, self._stepper, self._clip = model, forward, stepper, spec.clip_grad
        self._images, self._labels = images.clone(), labels.clone()
        self._parameters = [p for group in stepper.param_groups for p in group["params"]]
        self._buffers = [
            (module, name, b) for module in model.modules() for name, b in module._buffers.items() if b is not None
        ]
        self._updates = type(stepper) in CAPTURED
        self._rate = torch.full((), spec.lr, device=images.device)
        self._stale = False
        groups = [dict(group) for group in stepper.param_groups]
        modes = {module: module.training for module in model.modules()}
        kept = Snapshot(model, stepper)
        model.train()
        try:
            self._settle()
            self._capture(kept)
            kept.put_back()
            self._check(kept)
        except BaseException:
            for group, before in zip(stepper.param_groups, groups, strict=True):
                group.update(before)
            kept.forget()
            raise
        finally:
            kept.put_back()
            stepper.zero_grad(set_to_none=True)
            for module, mode in modes.items():
                module.training = mode

    def replay(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A step on a batch of the captured shape. Returns logits, good until the next replay, and the loss."""
        if self._stale or (self._updates and self._stepper.param_groups[0]["lr"] is not self._rate):
            self._attach()
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        if not self._updates:
            self._stepper.step()
        return self._logits, self._loss.clone()

    def left(self) -> None:
        """A step was made outside the graph: what it has put elsewhere must be brought back."""
        self._stale = True

    def _capture(self, kept: Snapshot) -> None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._stepper.zero_grad(set_to_none=True)
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        kept.put_back()
        state = self._stepper.state.items() if self._updates else ()
        self._state = {p: {k: v for k, v in values.items() if isinstance(v, torch.Tensor)} for p, values in state}
        self._graph = torch.cuda.CUDAGraph()
        self._stepper.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph, stream=side):
            self._logits, self._loss = self._step()
        self._gradients = [p.grad for p in self._parameters]

    def _step(self) -> tuple[torch.Tensor, torch.Tensor]:
        logits, loss = self._forward(self._images, self._labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if self._updates:
            self._stepper.step()
        self._return_buffers()
        return logits.detach(), loss.detach()

    def _check(self, kept: Snapshot) -> None:
        """Two steps each way: their losses and gradients, of which the second tell whether the first has moved what it
        should.
        """
        found = []
        for replayed in (False, True):
            numbers = []
            for _ in range(2):
                if replayed:
                    self._graph.replay()
                    loss, gradients = self._loss.clone(), self._gradients
                else:
                    self._stepper.zero_grad(set_to_none=True)
                    loss, gradients = self._step()[1], [p.grad for p in self._parameters]
                numbers += [loss, nn.utils.get_total_norm([g for g in gradients if g is not None])]
            found.append(torch.stack(numbers))
            kept.put_back()
        outside, inside = found
        if not torch.allclose(inside, outside, rtol=AGREEMENT, equal_nan=True):
            raise GraphError(
                f"loss and gradient norm of two replayed steps are {inside.tolist()}, outside the graph "
                f"{outside.tolist()}"
            )

    def _settle(self) -> None:
        """Make the optimizer read its learning rate, and whatever else it needs, from the device."""
        if not self._updates:
            return
        for group in self._stepper.param_groups:
            group |= {**CAPTURED[type(self._stepper)], "lr": self._rate}
        for values in self._stepper.state.values():  # of a training that was interrupted
            if isinstance(values.get("step"), torch.Tensor):
                values["step"] = values["step"].to(self._rate)

    def _attach(self) -> None:
        """Bring what was put elsewhere back to where the graph reads it."""
        self._return_buffers()
        if self._updates:
            rate = self._stepper.param_groups[0]["lr"]
            if rate is not self._rate:
                self._rate.copy_(torch.as_tensor(rate))
            self._settle()
            for parameter, values in self._state.items():
                for key, tensor in values.items():
                    now = self._stepper.state[parameter][key]
                    if now is not tensor:
                        tensor.copy_(now)
                        self._stepper.state[parameter][key] = tensor
        self._stale = False

    @torch.no_grad()
    def _return_buffers(self) -> None:
        for module, name, buffer in self._buffers:
            now = module._buffers[name]
            if now is not None and now is not buffer:
                buffer.copy_(now)
                module._buffers[name] = buffer
