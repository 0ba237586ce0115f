"""A clock that runs as usual and can be moved, so that no case sits out a time limit."""

from __future__ import annotations

import pytest
from trio.testing import MockClock


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    """The test's clock: real sockets need it to run, `jump` spares the waiting."""
    mock_clock.rate = 1.0
    return mock_clock
