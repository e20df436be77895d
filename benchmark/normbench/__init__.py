"""What a normalization layer does to a network: a benchmark."""

__version__ = "0.1.0"
