"""A whole training step as one CUDA graph: captured once, replayed for every batch of the same shape.

A replay runs the captured kernels at the captured addresses, and no Python. So everything that a step reads or writes
must stay where it was: images, labels, learning rate, parameters, gradients, buffers, the optimizer's state. Other code
may move some of it between two replays: measures restore copies of the optimizer's state, and some layers replace a
buffer's tensor. It is brought back before the next replay.

Source: torch's notes on CUDA graphs: warm-up on a side stream, gradients None before the capture so that the backward
pass allocates them inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from normbench.lab.engine.clipping import clipping
from normbench.spec.trial import TrainSpec
from normbench.tensors.snapshot import Snapshot, buffer_places, in_mode

#: Steps before the capture. In the first ones libraries choose their kernels, and the optimizer makes its state.
WARM_UP = 3
#: Relative difference of losses up to which replayed steps agree with those outside the graph, in bfloat16.
AGREEMENT = 1e-2


T = TypeVar("T")


class Capture(Protocol):
    """Records what a step asks of a device, to have it done again without the step."""

    updates: Mapping[type, dict[str, Any]]
    """Optimizers whose update reads everything from the device, with the option that makes them do so. The update of
    others stays outside the graph.
    """

    def warm_up(self, step: Callable[[], object], times: int) -> None:
        """Call `step` as it is called when it is recorded."""

    def record(self, step: Callable[[], T]) -> T:
        """Call `step` once and record it. Returns what it returns; a replay writes into the same tensors."""

    def replay(self) -> None:
        """Do again what was recorded."""


class CudaCapture:
    """A CUDA graph of the present device."""

    updates: Mapping[type, dict[str, Any]] = {
        torch.optim.SGD: {"fused": True},
        torch.optim.Adam: {"capturable": True},
        torch.optim.AdamW: {"capturable": True},
    }

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def warm_up(self, step: Callable[[], object], times: int) -> None:
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            for _ in range(times):
                step()
        torch.cuda.current_stream().wait_stream(self._side)

    def record(self, step: Callable[[], T]) -> T:
        # Older torch leaves its stream current where `torch.cuda.graph` fails; so the stream is this block's own.
        try:
            with torch.cuda.stream(self._side), torch.cuda.graph(self._graph, stream=self._side):
                return step()
        except Exception as error:
            _still_draws(error)
            raise

    def replay(self) -> None:
        self._graph.replay()


def _still_draws(error: Exception) -> None:
    """Raise `BrokenProcessError` where a failed capture has left the GPU's random stream unusable, as older torch
    does.
    """
    try:
        torch.rand(1, device="cuda")
    except RuntimeError as left:
        raise BrokenProcessError(
            f"a failed capture ({type(error).__name__}) has left the random stream of the GPU unusable, as torch "
            f"{torch.__version__} does: install torch 2.15 or newer, or run with engine: compile"
        ) from left


#: How steps are captured, by type of device.
CAPTURES: dict[str, Callable[[], Capture]] = {"cuda": CudaCapture}


class BrokenProcessError(BaseException):
    """Nothing on this GPU can go on in this process. No `Exception`: no other engine can take over."""


class GraphError(RuntimeError):
    """The captured step computes something else than the step."""


class Graph:
    """Captures a step of `forward` (images, labels -> logits, loss), its gradients, clipping and, for the optimizers
    that `capture` can, the update.

    images, labels: a batch of the shape to capture, on the GPU. The model is in training mode while it is captured.
    Model, optimizer and random streams are afterwards what they were. Raises whatever the capture raises, and
    `GraphError` where replayed steps differ from steps outside the graph.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        optimizer: torch.optim.Optimizer,
        spec: TrainSpec,
        images: torch.Tensor,
        labels: torch.Tensor,
        capture: Capture,
    ) -> None:
        self._graph = capture
        self._model, self._forward, self._optimizer, self._clip = model, forward, optimizer, clipping(model, spec)
        self._images, self._labels = images.clone(), labels.clone()
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._buffers = buffer_places(model)
        self._updates = type(optimizer) in capture.updates
        self._rates = [
            torch.full((), spec.lr * group.get("lr_scale", 1.0), device=images.device)
            for group in optimizer.param_groups
        ]
        self._stale = False
        with in_mode(model.modules(), training=True):
            before = Snapshot(model, optimizer)
            try:
                self._settle()
                self._capture(before)
                before.rewind()
                self._check(before)
            except BaseException:
                before.restore()
                raise
            finally:
                optimizer.zero_grad(set_to_none=True)

    def replay(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A step on a batch of the captured shape. Returns logits, good until the next replay, and the loss."""
        if self._stale or (self._updates and self._optimizer.param_groups[0]["lr"] is not self._rates[0]):
            self._attach()
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        if not self._updates:
            self._optimizer.step()
        return self._logits, self._loss.clone()

    def left(self) -> None:
        """Note that a step was made outside the graph: what it has moved must be brought back."""
        self._stale = True

    def _capture(self, before: Snapshot) -> None:
        self._graph.warm_up(self._fresh_step, WARM_UP)
        before.rewind()
        state = self._optimizer.state.items() if self._updates else ()
        self._state = {p: {k: v for k, v in values.items() if isinstance(v, torch.Tensor)} for p, values in state}
        self._optimizer.zero_grad(set_to_none=True)
        self._logits, self._loss = self._graph.record(self._step)
        self._gradients = [p.grad for p in self._parameters]

    def _fresh_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        self._optimizer.zero_grad(set_to_none=True)
        return self._step()

    def _step(self) -> tuple[torch.Tensor, torch.Tensor]:
        logits, loss = self._forward(self._images, self._labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self._clip()
        if self._updates:
            self._optimizer.step()
        self._return_buffers()
        return logits.detach(), loss.detach()

    def _check(self, before: Snapshot) -> None:
        """Make two steps each way, and return their losses and gradients. Those of the second step show whether the
        first has moved what it should.
        """
        found = []
        for replayed in (False, True):
            numbers = []
            for _ in range(2):
                if replayed:
                    self._graph.replay()
                    loss, gradients = self._loss.clone(), self._gradients
                else:
                    loss, gradients = self._fresh_step()[1], [p.grad for p in self._parameters]
                numbers += [loss, nn.utils.get_total_norm([g for g in gradients if g is not None])]
            found.append(torch.stack(numbers))
            before.rewind()
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
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group |= {**self._graph.updates[type(self._optimizer)], "lr": rate}
        for values in self._optimizer.state.values():  # of a training that was interrupted
            if isinstance(values.get("step"), torch.Tensor):
                values["step"] = values["step"].to(self._rates[0])

    def _attach(self) -> None:
        """Bring what was moved back to where the graph reads it."""
        self._return_buffers()
        if self._updates:
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                if group["lr"] is not rate:
                    rate.copy_(torch.as_tensor(group["lr"]))
            self._settle()
            for parameter, values in self._state.items():
                for key, tensor in values.items():
                    now = self._optimizer.state[parameter][key]
                    if now is not tensor:
                        tensor.copy_(now)
                        self._optimizer.state[parameter][key] = tensor
        self._stale = False

    @torch.no_grad()
    def _return_buffers(self) -> None:
        for module, name, buffer in self._buffers:
            now = getattr(module, name)
            if now is not buffer:
                buffer.copy_(now)
                setattr(module, name, buffer)
