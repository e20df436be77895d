"""Builds the network that is asked for: finds the file of its family, whose builder makes it."""

from __future__ import annotations

import importlib

from torch import nn

from normbench.lab.network.family import Family
from normbench.lab.network.request import ModelError, Request
from normbench.spec.architectures import builder, problem_with


def construct(request: Request) -> nn.Module:
    """The network, freshly initialized from torch's global random state. Raises `ModelError`."""
    if problem := problem_with(request.name, request.stem, request.width):
        raise ModelError(problem)
    family: Family = importlib.import_module(builder(request.name, request.stem, request.width)).FAMILY
    try:
        return family.build(request)
    except (TypeError, AssertionError, ArithmeticError, ValueError, RuntimeError, LookupError) as error:
        raise ModelError(f"{request}: timm cannot build this: {type(error).__name__}: {error}") from error
