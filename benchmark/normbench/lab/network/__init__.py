"""Architectures: timm's, with stems for small images and widths."""

from __future__ import annotations

from normbench.lab.network.construct import construct
from normbench.lab.network.request import ModelError, Request

__all__ = ["ModelError", "Request", "construct"]
