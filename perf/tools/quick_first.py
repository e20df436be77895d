"""For `mutation.py`, a plug-in of pytest: the quickest tests run first, and hypothesis looks for no smaller example, as
one failure is all that is asked for.
"""

from __future__ import annotations

import hypothesis
import pytest
from mutmut.state import state


def pytest_configure() -> None:
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", hypothesis.settings.default, phases=phases)
    hypothesis.settings.load_profile("mutation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    took = state().duration_by_test
    items.sort(key=lambda item: took.get(item.nodeid, 0.0))
