"""Everything here draws."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _drawing(drawing: None) -> None:
    """Processes that are started from here draw."""
