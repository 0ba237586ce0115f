"""The directory's port: which numbers of a device are taken."""

from __future__ import annotations

from itertools import count

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import HealthCheck, given, settings

from core.directory import WINDOW, Directory, Ping
from store.directory_input import PINGS_MAX, SEQ_MAX
from tests.directories import KINDS, NOTE, NOW, TRUCK, VAN, A, D, T, World, enrol, mint, open_world, redeem, refused

_unique = count(1)


async def test_a_ping_is_taken_once(directory: Directory) -> None:
    """Within a call and across calls; each device has its own numbers."""
    await enrol(directory, TRUCK)
    await enrol(directory, VAN)
    await enrol(directory, TRUCK, tenant="other")
    assert await directory.take_pings([]) == []
    first = [("demo", TRUCK, 1), ("demo", VAN, 1), ("demo", TRUCK, 1), ("other", TRUCK, 1), ("demo", TRUCK, 2)]
    assert await directory.take_pings(first) == [A, A, D, A, A]
    assert await directory.take_pings(first) == [D] * 5
    assert await directory.take_pings([("demo", TRUCK, 9), ("demo", TRUCK, 3), ("demo", TRUCK, 3)]) == [A, A, D]


async def test_who_is_unknown_sends_nothing_new(directory: Directory) -> None:
    """Unknown, not enrolled, revoked, malformed, and numbers that cannot be: too old, and the neighbours are taken."""
    await enrol(directory, TRUCK)
    await mint(directory, "claim of the van", VAN)
    await enrol(directory, "device:lost")
    await directory.revoke_device("demo", "device:lost", at_ms=NOW, note=NOTE)
    bad = [
        ("demo", "device:nobody", 1),
        ("other", TRUCK, 1),
        ("demo", VAN, 1),
        ("demo", "device:lost", 1),
        ("de\0mo", TRUCK, 1),
        ("demo", "device:\0", 1),
        ("demo", "'; drop table readback.devices; --", 1),
        ("demo", "\ud800", 1),
        ("", "", 1),
        ("demo", TRUCK, 0),
        ("demo", TRUCK, -1),
        ("demo", TRUCK, -(2**70)),
        ("demo", TRUCK, SEQ_MAX + 1),
        ("demo", TRUCK, 2**70),
    ]
    mixed: list[tuple[str, str, int]] = []
    for n, each in enumerate(bad, 1):
        mixed += [each, ("demo", TRUCK, n)]
    assert await directory.take_pings(mixed) == [T, A] * len(bad)


async def test_the_window_s_edges(directory: Directory) -> None:
    """The number WINDOW below the highest is told apart; the one below it is too old."""
    await enrol(directory)

    async def take(*seqs: int) -> list[Ping]:
        return await directory.take_pings([("demo", TRUCK, seq) for seq in seqs])

    assert await take(WINDOW + 2, 2, 1, 2, 3) == [A, A, T, D, A]
    assert await take(WINDOW + 3, 2, 3, 4) == [A, T, D, A]
    top = WINDOW + 3
    assert await take(top + WINDOW, top, top - 1, top + 1) == [A, D, T, A], (
        "a jump as wide as the window keeps its edge"
    )
    top += WINDOW
    assert await take(top + WINDOW + 1, top, top + 1, top + 1) == [A, T, A, D], "one wider keeps nothing"
    assert await take(SEQ_MAX, SEQ_MAX - WINDOW, SEQ_MAX - WINDOW - 1, SEQ_MAX) == [A, A, T, D]


async def test_jumps_over_whole_words(directory: Directory) -> None:
    """What was taken before a jump stays taken, and what was jumped over stays free."""
    await enrol(directory)
    seq, taken, free = 1, [1], []
    assert await directory.take_pings([("demo", TRUCK, 1)]) == [A]
    for jump in (63, 64, 65, 127, 128, 129, 512, 1_000):
        free.append(seq + 1)
        seq += jump
        taken.append(seq)
        assert await directory.take_pings([("demo", TRUCK, seq)]) == [A]
    assert await directory.take_pings([("demo", TRUCK, seq) for seq in taken]) == [D] * len(taken)
    assert await directory.take_pings([("demo", TRUCK, seq) for seq in free]) == [A] * len(free)
    assert await directory.take_pings([("demo", TRUCK, seq) for seq in (*free, *taken)]) == [D] * len(free + taken)


async def test_a_late_flush_is_taken_once(directory: Directory) -> None:
    """An hour of numbers kept while offline, sent after newer ones: each is taken, and never again."""
    await enrol(directory)
    flush = [("demo", TRUCK, seq) for seq in range(1, 3_601)]
    assert await directory.take_pings([("demo", TRUCK, 3_601)]) == [A]
    assert set(await directory.take_pings(flush)) == {A}
    assert set(await directory.take_pings(flush)) == {D}


async def test_pings_of_two_nodes_at_once(world: World) -> None:
    """Each number of each device is accepted exactly once, in whatever order the nodes name the devices."""
    names = [f"device:d{n}" for n in range(6)]
    for name in names:
        await enrol(world.one, name)
    pings = [("demo", name, seq) for name in names for seq in range(1, 8)]
    accepted: list[tuple[str, str, int]] = []

    async def flush(node: Directory, mine: list[tuple[str, str, int]]) -> None:
        verdicts = await node.take_pings(mine)
        accepted.extend(ping for ping, verdict in zip(mine, verdicts, strict=True) if verdict is A)

    async with trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(flush, (world.one, world.two)[n % 2], pings if n % 3 else pings[::-1])
    assert sorted(accepted) == sorted(pings)


async def test_enrolled_anew_the_window_is_empty(directory: Directory) -> None:
    """Old numbers are gone with the old key; a claim that was not redeemed leaves the window as it is."""
    await enrol(directory)
    assert await directory.take_pings([("demo", TRUCK, 10_000)]) == [A]
    await mint(directory, "next")
    assert await directory.take_pings([("demo", TRUCK, 1), ("demo", TRUCK, 10_000)]) == [T, D]
    await redeem(directory, "next", "k2", "r2")
    assert await directory.take_pings([("demo", TRUCK, 1), ("demo", TRUCK, 1), ("demo", TRUCK, 2)]) == [A, D, A]


async def test_a_call_has_a_bound(directory: Directory) -> None:
    """More pings than it takes are refused as a whole."""
    await enrol(directory)
    pings = [("demo", TRUCK, 1)] * (PINGS_MAX + 1)
    assert await refused(directory.take_pings(pings)) == "bad_request"
    assert await directory.take_pings(pings[:2]) == [A, D]


class SetOfNumbers:
    """What the port says of a device's numbers, in its plainest form."""

    def __init__(self) -> None:
        self.highest = 0
        self.taken: set[int] = set()

    def take(self, seq: int) -> Ping:
        if seq < 1 or seq < self.highest - WINDOW:
            return T
        if seq in self.taken:
            return D
        self.taken.add(seq)
        self.highest = max(self.highest, seq)
        return A


steps = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([n * sign for n in (63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 1, 10_000) for sign in (1, -1)]),
    st.integers(-WINDOW - 2, WINDOW + 2),
)


@pytest.fixture(params=KINDS)
def kind_and_url(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param, request.getfixturevalue("database").url if request.param == "postgres" else ""


async def compare(kind: str, url: str, calls: list[list[int]]) -> None:
    async with open_world(kind, url) as world:
        name = f"device:d{next(_unique)}"
        await enrol(world.one, name)
        model, expected, answered = SetOfNumbers(), [], []
        for number, call in enumerate(calls):
            seqs = []
            for step in call:  # each a distance from the highest number so far
                seqs.append(model.highest + step)
                expected.append(model.take(seqs[-1]))
            answered += await (world.one, world.two)[number % 2].take_pings([("demo", name, seq) for seq in seqs])
        assert answered == expected


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(calls=st.lists(st.lists(steps, min_size=1, max_size=30), min_size=1, max_size=5))
def test_the_window_is_a_set_of_numbers(kind_and_url: tuple[str, str], calls: list[list[int]]) -> None:
    """Whatever comes, in whatever batches: the verdicts are those of a set and a highest number."""
    trio.run(compare, *kind_and_url, calls)
