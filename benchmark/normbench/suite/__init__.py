"""Suite files: what a benchmark run is made of.

`load` reads and checks a file, `from_values` does so for a mapping. `expand` makes the trials of a suite, and
`searches` those that wait for tuning. `about` is what a suite says of itself, `json_schema` describes the format for
editors. `docs/suites.md` explains every key.
"""

from __future__ import annotations

from normbench.suite._headline import about
from normbench.suite._load import expand, from_values, load, place_of, searches, suite_names
from normbench.suite._models import Suite
from normbench.suite._problems import Problem, SuiteError, nearest
from normbench.suite._schema import json_schema
from normbench.suite._sections import Tune, TuneOptions

__all__ = [
    "Problem",
    "Suite",
    "SuiteError",
    "Tune",
    "TuneOptions",
    "about",
    "expand",
    "from_values",
    "json_schema",
    "load",
    "nearest",
    "place_of",
    "searches",
    "suite_names",
]
