"""Suite files: what a benchmark run is made of.

`load` reads and checks a file, `expand` makes its trials, `json_schema` describes the format for editors.
`docs/suites.md` explains every key.
"""

from __future__ import annotations

from benchmark.suite._load import expand, load
from benchmark.suite._models import Suite
from benchmark.suite._problems import Problem, SuiteError
from benchmark.suite._schema import json_schema

__all__ = ["Problem", "Suite", "SuiteError", "expand", "json_schema", "load"]
