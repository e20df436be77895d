"""Architectures: timm's, with stems for small images and widths; one file a kind of network."""

from __future__ import annotations

from benchmark.lab.models.construct import ModelError, Request, construct

__all__ = ["ModelError", "Request", "construct"]
