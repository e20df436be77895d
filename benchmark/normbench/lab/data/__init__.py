"""Datasets: found, fingerprinted, decoded once to uint8 arrays that all workers of a machine map into memory.

Nothing here imports torch, so that planning can ask for a dataset's fingerprint.
"""

from normbench.lab.data._decode import Dataset, Split, decoded, load, made_once, moments
from normbench.lab.data._fingerprint import fingerprint, stored
from normbench.lab.data._folder import folders
from normbench.lab.data._hub import HUB
from normbench.lab.data._locate import SHIPPED, locate
from normbench.lab.data._source import DataError, Source

__all__ = [
    "HUB",
    "SHIPPED",
    "DataError",
    "Dataset",
    "Source",
    "Split",
    "decoded",
    "fingerprint",
    "folders",
    "load",
    "locate",
    "made_once",
    "moments",
    "stored",
]
