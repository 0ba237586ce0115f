"""The hub under everything at once: whatever is interleaved, every port sees every stream whole, in order, once.

`tests.hub_world` holds the world and its checks: order and gaplessness by an independent decoder, nothing past a
removal, no event queued for a slow port, markers never before the events they speak of, progress when faults end.
A failing program is printed with its story. What was found so is told again, step by step, in the tests of the hub's parts.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import hub
from tests.hub_world import World, explain

PROGRAMS = int(os.environ.get("READBACK_TEST_PROGRAMS", "3000"))
SIZES = (60, 150, 300, 600)


@pytest.fixture(autouse=True, scope="module")
def _room_sizes() -> Iterator[None]:
    """The world makes rooms of two "big"; other tests get the real bound back."""
    real = hub.GATHER_PORTS_MAX
    yield
    hub.GATHER_PORTS_MAX = real


def execute(program: bytes) -> None:
    world = World(program)
    try:
        world.run().settle()
    except Exception as error:
        raise AssertionError(explain(world, error)) from error


def test_random_interleavings() -> None:
    """Thousands of programs from fixed seeds: every promise of the hub holds in each."""
    for seed in range(PROGRAMS):
        rng = random.Random(seed)
        execute(rng.randbytes(rng.choice(SIZES)))


@settings(max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=30, max_size=300))
def test_interleavings_that_shrink(program: bytes) -> None:
    """The same with hypothesis, which looks in other places and hands back the smallest failing program."""
    execute(program)
