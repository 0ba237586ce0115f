"""The directory's port: devices, their claims, keys and refresh tokens."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from core.directory import Device, Directory, Ping, Redeemed, Refresh, Refreshed
from core.model import Entry, Outcome
from tests.directories import (
    ADMIN,
    LATER,
    NOTE,
    NOW,
    OK,
    REUSED,
    TRUCK,
    UNKNOWN,
    VAN,
    A,
    D,
    World,
    enrol,
    enrolled,
    mint,
    public,
    redeem,
    refresh,
    refused,
    revoke,
    rotate,
    thumb,
)

# Devices: claims


async def test_a_device_from_claim_to_key(directory: Directory) -> None:
    """It exists from its first claim on, and has a key once that was redeemed."""
    assert await directory.device("demo", TRUCK) is None
    await mint(directory)
    assert await directory.device("demo", TRUCK) == Device(TRUCK, "", b"", 0, False)
    assert await redeem(directory, at_ms=NOW + 7) == Redeemed("demo", TRUCK)
    expected = Device(TRUCK, thumb("k1"), public("k1"), NOW + 7, False)
    assert await directory.device("demo", TRUCK) == expected
    assert await directory.devices("demo") == [expected]


async def test_devices_are_the_tenant_s(directory: Directory) -> None:
    """By name; two tenants' devices of one name are two."""
    await enrol(directory, VAN)
    await enrol(directory, TRUCK)
    await enrol(directory, TRUCK, tenant="other", key="k2")
    assert [device.device for device in await directory.devices("demo")] == [TRUCK, VAN]
    [theirs] = await directory.devices("other")
    assert (theirs.device, theirs.key) == (TRUCK, thumb("k2"))
    assert await directory.devices("nobody") == []
    await directory.revoke_device("other", TRUCK, at_ms=NOW, note=NOTE)
    ours = await directory.device("demo", TRUCK)
    assert ours is not None
    assert not ours.revoked


async def test_a_claim_is_redeemed_once(world: World) -> None:
    """Afterwards it is as unknown as one that never was."""
    await enrolled(world.one)
    assert await redeem(world.one, key="k2", refresh="r2") is None
    assert await redeem(world.one, "no such claim", refresh="r2") is None
    assert await world.audit() == ["device.claim", "device.enrolled"]
    assert await refresh(world.one, "r2", "r3", key="k2") == UNKNOWN


async def test_of_two_that_redeem_at_once_one_wins(world: World) -> None:
    """Whatever the nodes; the device has the winner's key."""
    await mint(world.one)
    answers: dict[int, Redeemed | None] = {}

    async def contend(n: int) -> None:
        answers[n] = await redeem((world.one, world.two)[n % 2], key=f"k{n}", refresh=f"r{n}")

    async with trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(contend, n)
    [winner] = [n for n, answer in answers.items() if answer is not None]
    device = await world.one.device("demo", TRUCK)
    assert device is not None
    assert device.key == thumb(f"k{winner}")
    for n in range(8):
        expected = OK if n == winner else UNKNOWN
        assert await refresh(world.one, f"r{n}", f"next {n}", key=f"k{n}") == expected


async def test_a_claim_expires(directory: Directory) -> None:
    """At its time; the millisecond before it is good."""
    await mint(directory)
    assert await redeem(directory, at_ms=LATER) is None
    assert await redeem(directory, at_ms=LATER + 1) is None
    assert await redeem(directory, at_ms=LATER - 1) is not None


async def test_a_new_claim_ends_the_old(directory: Directory) -> None:
    """A device has one claim; what it has already stays until the new one is redeemed."""
    await mint(directory, "first")
    await mint(directory, "second")
    assert await redeem(directory, "first") is None
    assert await redeem(directory, "second") == Redeemed("demo", TRUCK)
    await mint(directory, "third")
    assert await refresh(directory, "r1", "r2") == OK
    assert await redeem(directory, "third", "k3", "r3") == Redeemed("demo", TRUCK)
    assert await refresh(directory, "r2", "r4") == UNKNOWN
    assert await refresh(directory, "r3", "r4", key="k3") == OK


async def test_a_claim_s_secret_is_one_device_s(world: World) -> None:
    """Another device cannot be minted the same, nor the same once it was redeemed."""
    await mint(world.one)
    assert await refused(mint(world.one, device=VAN)) == "conflict"
    assert await refused(mint(world.one, tenant="other")) == "conflict"
    assert await world.one.device("demo", VAN) is None
    await redeem(world.one)
    assert await refused(mint(world.one)) == "conflict"
    assert await world.audit() == ["device.claim", "device.enrolled"]


async def test_enrolling_anew_makes_a_revoked_device_good(directory: Directory) -> None:
    """Minting a claim does not; redeeming it does. Its old tokens stay dead."""
    await enrolled(directory)
    await directory.revoke_device("demo", TRUCK, at_ms=NOW, note=NOTE)
    await mint(directory, "again")
    revoked = await directory.device("demo", TRUCK)
    assert revoked is not None
    assert revoked.revoked
    assert await redeem(directory, "again", "k2", "r2", at_ms=NOW + 5) == Redeemed("demo", TRUCK)
    assert await directory.device("demo", TRUCK) == Device(TRUCK, thumb("k2"), public("k2"), NOW + 5, False)
    assert await refresh(directory, "r1", "r3") == UNKNOWN
    assert await refresh(directory, "r2", "r3", key="k2") == OK


# Devices: refresh tokens


async def test_a_refresh_token_is_rotated(directory: Directory) -> None:
    """The next is good, again and again; nothing is revoked."""
    await enrolled(directory)
    for n in range(1, 6):
        assert await refresh(directory, f"r{n}", f"r{n + 1}") == OK
    assert await directory.revoked("demo") == []


async def test_reuse_kills_the_family(world: World) -> None:
    """A token that was rotated is presented again: the newest is dead, and the device's tokens until now are revoked."""
    await enrolled(world.one)
    await refresh(world.one, "r1", "r2")
    await refresh(world.one, "r2", "r3")
    assert await refresh(world.one, "r1", "r4", at_ms=NOW + 50) == REUSED
    for token in ("r1", "r2", "r3", "r4"):
        assert await refresh(world.one, token, "r5") == UNKNOWN
    [made] = await world.one.revoked("demo")
    assert (made.scope, made.value, made.at_ms) == ("principal", TRUCK, NOW + 50)
    assert (await world.audit())[-1] == "device.reused"
    assert (await world.audit()).count("device.reused") == 1


async def test_another_key_learns_and_kills_nothing(world: World) -> None:
    """Neither of the newest token nor of a rotated one."""
    await enrolled(world.one)
    await refresh(world.one, "r1", "r2")
    for token in ("r1", "r2"):
        assert await refresh(world.one, token, "r9", key="thief") == UNKNOWN
        assert await rotate(world.one, token, "r9", key="thief") == UNKNOWN
    assert await refresh(world.one, "r2", "r3") == OK
    assert await world.one.revoked("demo") == []


async def test_of_two_that_refresh_at_once_one_wins(world: World) -> None:
    """The other is a reuse, so that neither goes on: a copied token and its original are not told apart."""
    await enrolled(world.one)
    answers: list[Refreshed] = []

    async def contend(node: Directory, next_token: str) -> None:
        answers.append(await refresh(node, "r1", next_token))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(contend, world.one, "x")
        nursery.start_soon(contend, world.two, "y")
    assert sorted(answer.outcome.value for answer in answers) == ["ok", "reused"]
    assert await refresh(world.one, "x", "z") == await refresh(world.one, "y", "z") == UNKNOWN


async def test_a_refresh_token_expires(world: World) -> None:
    """At its time. A rotated one is forgotten then, so that its reuse is no longer told from a guess."""
    await enrolled(world.one)
    assert await refresh(world.one, "r1", "r2", at_ms=LATER) == UNKNOWN
    assert await refresh(world.one, "r1", "r2", at_ms=LATER - 1, until_ms=LATER + 100) == OK
    assert await refresh(world.one, "r2", "r3", at_ms=LATER, until_ms=LATER + 100) == OK
    assert await refresh(world.one, "r1", "r4", at_ms=LATER) == UNKNOWN
    assert await refresh(world.one, "r3", "r4", at_ms=LATER) == OK
    assert await refresh(world.one, "r4", "r5", at_ms=LATER + 100) == UNKNOWN
    assert "device.reused" not in await world.audit()


async def test_a_key_is_rotated(directory: Directory) -> None:
    """From now on the device has the next key, and only that refreshes; its window and its enrolment stay."""
    await enrolled(directory)
    assert await directory.take_pings([("demo", TRUCK, 5)]) == [A]
    assert await rotate(directory, "r1", "r2") == OK
    assert await directory.device("demo", TRUCK) == Device(TRUCK, thumb("k2"), public("k2"), NOW, False)
    assert await directory.take_pings([("demo", TRUCK, 5), ("demo", TRUCK, 6)]) == [D, A]
    assert await refresh(directory, "r2", "r3", key="k1") == UNKNOWN
    assert await refresh(directory, "r2", "r3", key="k2") == OK
    assert await rotate(directory, "r1", "r4") == REUSED
    assert await refresh(directory, "r3", "r5", key="k2") == UNKNOWN


async def test_a_secret_is_used_once_in_the_cell(directory: Directory) -> None:
    """A next token that exists already is a conflict, and nothing happened."""
    await enrolled(directory)
    await mint(directory, "other claim", VAN)
    assert await refused(redeem(directory, "other claim", "k2", "r1")) == "conflict"
    assert await redeem(directory, "other claim", "k2", "r2") == Redeemed("demo", VAN)
    assert await refused(refresh(directory, "r1", "r2")) == "conflict"
    assert await refused(rotate(directory, "r1", "r2", next_key="k3")) == "conflict"
    assert await refresh(directory, "r1", "r3") == OK


@pytest.mark.parametrize("rotated", [False, True])
async def test_a_call_whose_answer_was_lost_may_be_repeated(world: World, rotated: bool) -> None:
    """The same again (so with the same next secret, which only its maker knows) is answered as before, with no event."""
    await mint(world.one)
    await mint(world.one)
    assert await redeem(world.one) == await redeem(world.one) == Redeemed("demo", TRUCK)
    call: Callable[..., Awaitable[Refreshed]] = rotate if rotated else refresh
    assert await call(world.one, "r1", "r2") == await call(world.two, "r1", "r2") == OK
    assert await redeem(world.one) is None, "its token was rotated since"
    assert await world.audit() == [
        "device.claim",
        "device.enrolled",
        "device.rotated" if rotated else "device.refreshed",
    ]
    assert await refresh(world.one, "r2", "r3", key="k2" if rotated else "k1") == OK
    assert await call(world.one, "r1", "r2") == REUSED


async def test_a_revoked_device_has_nothing_left(world: World) -> None:
    """Claim and refresh tokens are dead, its tokens until now revoked, with one event; it stays in the list."""
    await enrolled(world.one)
    await mint(world.one, "next claim")
    await world.one.revoke_device("demo", TRUCK, at_ms=NOW + 4, note=NOTE)
    assert await refresh(world.one, "r1", "r2") == UNKNOWN
    assert await redeem(world.one, "next claim", "k2", "r2") is None
    [made] = await world.one.revoked("demo")
    assert (made.scope, made.value, made.at_ms, made.until_ms) == ("principal", TRUCK, NOW + 4, None)
    assert await world.one.devices("demo") == [Device(TRUCK, thumb("k1"), public("k1"), NOW, True)]
    assert (await world.audit())[-2:] == ["device.claim", "device.revoked"]
    assert await refused(world.one.revoke_device("demo", VAN, at_ms=NOW, note=NOTE)) == "not_found"
    assert await refused(world.one.revoke_device("other", TRUCK, at_ms=NOW, note=NOTE)) == "not_found"


@pytest.mark.parametrize("given", ["redeemed", "redeemed again", "refreshed", "refreshed again", "rotated"])
@pytest.mark.parametrize("ended", ["revoked", "reused"])
async def test_what_ends_a_device_s_tokens_is_not_dated_before_them(world: World, given: str, ended: str) -> None:
    """Who asked first need not be first: a revocation's time is that of the latest token given before it, or its own.

    Whoever refreshed while the device was being revoked kept a token that was dated later, and with it ten minutes.
    """
    given_ms, asked_ms = NOW + 70, NOW + 50
    await mint(world.one)
    await redeem(world.one, at_ms=given_ms if given == "redeemed" else NOW)
    if given == "redeemed again":
        await redeem(world.two, at_ms=given_ms)
    call: Callable[..., Awaitable[Refreshed]] = rotate if given == "rotated" else refresh
    if given in ("refreshed", "refreshed again", "rotated") or ended == "reused":
        assert await call(world.one, "r1", "r2", at_ms=given_ms if given in ("refreshed", "rotated") else NOW) == OK
    if given == "refreshed again":
        assert await refresh(world.two, "r1", "r2", at_ms=given_ms) == OK
    if ended == "revoked":
        await world.two.revoke_device("demo", TRUCK, at_ms=asked_ms, note=NOTE)
    else:
        assert await refresh(world.two, "r1", "r3", at_ms=asked_ms) == REUSED
    [made] = await world.one.revoked("demo")
    assert made.at_ms == given_ms


async def test_a_device_revoked_while_it_refreshes(world: World) -> None:
    """Whichever comes first, no refresh token is left."""
    await enrolled(world.one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refresh, world.one, "r1", "r2")
        nursery.start_soon(partial(world.two.revoke_device, "demo", TRUCK, at_ms=NOW, note=NOTE))
    assert await refresh(world.one, "r1", "r3") == await refresh(world.one, "r2", "r3") == UNKNOWN


async def test_everything_at_once(world: World) -> None:
    """Pings, refreshes, claims, revocations and sends from two nodes: nobody waits in a circle, nothing is lost."""
    names = [f"device:d{n}" for n in range(5)]
    for n, name in enumerate(names):
        await mint(world.one, f"c{n}", name)
        await redeem(world.one, f"c{n}", refresh=f"r{n} 0")
    chat = await world.log.create_stream("demo", "chat:x", open=True, members=[], by=ADMIN)
    before = len(await world.audit())

    async def ping(node: Directory, order: int) -> None:
        for seq in range(1, 9):
            await node.take_pings([("demo", name, seq) for name in names[::order]])

    async def go_on(node: Directory, n: int) -> None:
        for turn in range(6):
            assert (await refresh(node, f"r{n} {turn}", f"r{n} {turn + 1}")).outcome is Refresh.OK
            await mint(node, f"c{n} {turn}", names[n])
            await node.take_pings([("demo", names[n], turn)])

    async def administer(node: Directory, n: int) -> None:
        for turn in range(6):
            await revoke(node, f"t-{n} {turn}", until_ms=NOW - 1)
            await node.forget_revocations(NOW)

    async def send() -> None:
        for _ in range(20):
            entry = Entry("demo", chat.sid, str(uuid.uuid4()), "message", ADMIN, b"{}")
            assert (await world.log.append([entry]))[0].outcome is Outcome.OK

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        for n, node in enumerate((world.one, world.two)):
            nursery.start_soon(ping, node, 1 if n else -1)
            nursery.start_soon(administer, node, n)
        for n in range(len(names)):
            nursery.start_soon(go_on, (world.one, world.two)[n % 2], n)
    assert len(await world.audit()) == before + 5 * 12 + 12
    assert set(await world.one.take_pings([("demo", name, seq) for name in names for seq in range(1, 9)])) == {
        Ping.DUPLICATE
    }
    assert (await revoke(world.one, "the last")).number == 13
