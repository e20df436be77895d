"""Datasets: found, fingerprinted, decoded once to uint8 arrays that all workers of a machine map into memory.

Nothing here imports torch, so that planning can ask for a dataset's fingerprint.
"""

from normbench.lab.data._cache import arrays, decoded, made_once, write
from normbench.lab.data._decode import Dataset, NotDecodedError, Split, load, moments
from normbench.lab.data._fingerprint import Survey, fingerprint, stored, survey
from normbench.lab.data._hub import HUB
from normbench.lab.data._labels import classes_of
from normbench.lab.data._layouts import folders
from normbench.lab.data._locate import SHIPPED, locate
from normbench.lab.data._source import DataError, Source

__all__ = [
    "HUB",
    "SHIPPED",
    "DataError",
    "Dataset",
    "NotDecodedError",
    "Source",
    "Split",
    "Survey",
    "arrays",
    "classes_of",
    "decoded",
    "fingerprint",
    "folders",
    "load",
    "locate",
    "made_once",
    "moments",
    "stored",
    "survey",
    "write",
]
