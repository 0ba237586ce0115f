"""core.bus: the port that both buses have, and bounds that fit what goes over it."""

from __future__ import annotations

import inspect

import pytest

from core.bus import BUS_CHANNEL_MAX, BUS_PAYLOAD_MAX, Bus
from core.gossip_wire import PARTITIONS_MAX
from core.limits import Limits
from store.bus import RedisBus
from store.memory_bus import MemoryBus


@pytest.mark.parametrize("adapter", [MemoryBus, RedisBus])
def test_a_bus_can_be_called_as_the_port_says(adapter: type) -> None:
    """Every method is there, with the same parameters."""
    for name in ("publish", "listen", "unlisten", "raise_number", "run"):
        port, theirs = inspect.signature(getattr(Bus, name)), inspect.signature(getattr(adapter, name))
        assert list(theirs.parameters) == list(port.parameters), name
        assert inspect.iscoroutinefunction(getattr(adapter, name)) is inspect.iscoroutinefunction(getattr(Bus, name))


def test_what_is_told_fits() -> None:
    """The longest channel name, and a commit of the largest bodies with room for all that is told of each."""
    assert len(f"signals:{PARTITIONS_MAX}") <= BUS_CHANNEL_MAX
    assert 1_048_576 + Limits().body_bytes_max + 1_024 * Limits().batch_entries_max < BUS_PAYLOAD_MAX
