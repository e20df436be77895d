"""A pass over inductor's graphs that keeps their gradients right where a layer changes its buffers. Imported only where
something is compiled.

What the backward pass needs of the forward pass may be computed again instead of being kept. torch 2.15 does so with
what was read from a buffer that the forward pass has changed since, and then finds the changed buffer
(pytorch/pytorch#197039): the r of batch renormalization comes from statistics that are one batch too new. So what is
read from a changed buffer is marked to be kept; these are a few numbers a channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.utils.checkpoint import CheckpointPolicy


class KeepReads(CustomGraphPass):
    def __call__(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            if (
                node.op == "call_function"
                and str(node.target) == "aten.copy_.default"
                and node.args[0].op == "placeholder"
            ):
                for read in _reads(node.args[0], node):
                    read.meta["recompute"] = CheckpointPolicy.MUST_SAVE

    def uuid(self) -> Any:
        return get_hash_for_files((__file__,))


def _reads(source: fx.Node, change: fx.Node) -> Iterator[fx.Node]:
    """What is computed from `source` or a view of it."""
    for user in source.users:
        if user is change:
            continue
        if getattr(user.target, "is_view", False):
            yield from _reads(user, change)
        else:
            yield user
