"""The scripted server as a fixture. Tests that use it also take ``autojump_clock``, so that no wait is real."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fake_readback import FakeServer, fake_server
from hypothesis import HealthCheck, settings
from trio.testing import MockClock

# Random examples are judged by what they find, never by how long the machine took for them.
settings.register_profile("readback-client", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("readback-client")


@pytest.fixture
async def server(autojump_clock: MockClock) -> AsyncIterator[FakeServer]:
    autojump_clock.autojump_threshold = 0.01  # let bytes in the loopback arrive before time jumps
    async with fake_server() as server:
        yield server
