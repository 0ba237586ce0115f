"""What the tests of the hub's parts share."""

from __future__ import annotations

import pytest

from core import hub


@pytest.fixture
def big_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms of two and more are sent to directly, and above ``SMALL.slice_deliveries`` by tours."""
    monkeypatch.setattr(hub, "GATHER_PORTS_MAX", 1)
