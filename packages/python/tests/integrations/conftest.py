from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_left() -> None:
    """The host of this process stays: integrations share it."""
