"""Architectures: timm's, with stems for small images and widths."""

from __future__ import annotations

from benchmark.lab.models.construct import construct
from benchmark.lab.models.request import ModelError, Request

__all__ = ["ModelError", "Request", "construct"]
