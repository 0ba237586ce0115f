"""The hub under everything at once: whatever is interleaved, every port sees every stream whole, in order, once.

`tests.hub_world` holds the world and its checks: order and gaplessness by an independent decoder, nothing past a
removal, no event queued for a slow port, markers never before the events they speak of, progress when faults end.
A failing program is printed with its story; put its hex into `test_programs_that_failed_once`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import hub
from tests.hub_world import World, explain

PROGRAMS = 3_000
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


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("ff537b03729059775478e806124737ca73331c6c60ae", id="a hole that the log has trimmed"),
        pytest.param("4049f19a97cc4f28cce16523227e6343", id="a big room overtakes the answer to a sub"),
        pytest.param("72dd56e22dbeed01b6c82752dc42d327e56cdb97b77f", id="all trimmed: nobody wakes who waits at head"),
        pytest.param(
            "c6559d2c6b74d1345df6e20c864c9e76fa142ef9ebc7ecda90d5e0e3de7250e1cc", id="removed, back, told late"
        ),
        pytest.param(
            "dd912ec421d51f9d16051e49f67873eb08ca4919a1c6db6909583858f8a130f5fd6e5da9e7232345d814",
            id="removed, and the place of the removal trimmed",
        ),
        pytest.param(
            "344106d1eb81d9cb1a0a5e16cd6fdedf8ae92272f3bab72eddfe215f", id="evicted while facts are on their way"
        ),
        pytest.param(
            "39e0de2982e5f2880b240302ab4a28b2f852e4f427a36e7912961b65f35452f5"
            "fb69848fa8179744da9efb34d94816d8bc04438c8953a63f9eba8d088c2f1e47ed",
            id="old news lowers what is known",
        ),
        pytest.param(
            "d6cc7ededb9b7fa27a24ebdea6d1eaf5ad2fd3c94e42968d89020cf5ec4789c976156a429ce10a90a231", id="removed twice"
        ),
    ],
)
def test_programs_that_failed_once(program: str) -> None:
    """Each of these found a bug; what each is about is in its name."""
    execute(bytes.fromhex(program))
