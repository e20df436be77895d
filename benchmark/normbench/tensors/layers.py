"""Kinds of layers."""

from torch import nn

#: Layers with a weight that mixes channels: convolutions, transposed ones too, and linear layers.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (*CONVOLUTIONS, nn.Linear)
