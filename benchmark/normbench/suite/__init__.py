"""Suite files: what a benchmark run is made of.

`load` reads and checks a file, `expand` makes its trials and `searches` those that wait for tuning, `about` is what it
says of itself, `json_schema` describes the format for editors. `docs/suites.md` explains every key.
"""

from __future__ import annotations

from normbench.suite._headline import about
from normbench.suite._load import expand, load, searches
from normbench.suite._models import Suite
from normbench.suite._problems import Problem, SuiteError
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
    "json_schema",
    "load",
    "searches",
]
