"""The scripted server as a fixture. Tests that use it also take ``autojump_clock``, so that no wait is real."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fake_readback import FakeServer, fake_server
from trio.testing import MockClock


@pytest.fixture
async def server(autojump_clock: MockClock) -> AsyncIterator[FakeServer]:
    autojump_clock.autojump_threshold = 0.01  # let bytes in the loopback arrive before time jumps
    async with fake_server() as server:
        yield server
