"""The methods suite leaves no method out."""

from __future__ import annotations

from normbench.norms import registry
from normbench.suite import expand, load


def test_every_registered_method_is_in_the_methods_suite() -> None:
    named = {component.name for trial in expand(load("methods")) for component in trial.norm}
    assert named == set(registry.names())
