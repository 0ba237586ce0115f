"""The directory's port, sentence by sentence, against the model in memory and against Postgres: one suite, two adapters."""

from __future__ import annotations

import hashlib
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import HealthCheck, given, settings

from core.directory import (
    WINDOW,
    Device,
    Directory,
    Note,
    Ping,
    Redeemed,
    Refresh,
    Refreshed,
    Revocation,
    ServiceClient,
)
from core.model import AUDIT_STREAM, AUDITOR, Entry, Event, Member, Outcome
from core.ports import Log, LogChecker, Refused
from store.directory_input import NOTE_BYTES_MAX, PINGS_MAX, SEQ_MAX
from store.memory import MemoryLog
from store.memory_directory import MemoryDirectory
from store.postgres import open_postgres_log
from tests.servers import TEST_PARTITIONS, Database, database, postgres_server  # noqa: F401

KINDS = ["memory", "postgres"]
TRUCK, VAN = "device:truck-7", "device:van-1"
ADMIN = "user:root"
NOTE = Note(ADMIN, b'{"why":"test"}')
NOW = 1_700_000_000_000
LATER = NOW + 600_000
UNKNOWN = Refreshed(Refresh.UNKNOWN, "", "")
OK = Refreshed(Refresh.OK, "demo", TRUCK)
REUSED = Refreshed(Refresh.REUSED, "demo", TRUCK)
A, D, T = Ping.ACCEPTED, Ping.DUPLICATE, Ping.TOO_OLD
_ms = count(NOW)
_unique = count(1)


def secret(name: str) -> bytes:
    """The hash of a secret that is called so."""
    return hashlib.sha256(name.encode()).digest()


def thumb(name: str) -> str:
    """The thumbprint of a key that is called so."""
    return urlsafe_b64encode(secret(f"key {name}")).rstrip(b"=").decode()


def public(name: str) -> bytes:
    return secret(f"public {name}")


@dataclass
class World:
    """A log and its directory, as two nodes see them (in memory there is one)."""

    log: Log
    one: Directory
    two: Directory

    async def events(self, tenant: str = "demo") -> list[Event]:
        [facts] = await self.log.open_streams([(tenant, AUDIT_STREAM, ADMIN)])
        return [] if facts is None else await self.log.read(tenant, facts.sid, 0, 1_000)

    async def audit(self, tenant: str = "demo") -> list[str]:
        """The types of what was written."""
        return [event.type for event in await self.events(tenant)]


@asynccontextmanager
async def open_world(kind: str, url: str) -> AsyncIterator[World]:
    if kind == "memory":
        log = MemoryLog(now_ms=lambda: next(_ms), new_key=lambda: str(uuid.uuid4()), partitions=TEST_PARTITIONS)
        directory = MemoryDirectory(log)
        yield World(log, directory, directory)
    else:
        async with open_postgres_log(url) as one, open_postgres_log(url) as two:
            yield World(one, one.directory, two.directory)


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    url = request.getfixturevalue("database").url if request.param == "postgres" else ""
    async with open_world(request.param, url) as opened:
        yield opened


@pytest.fixture
def directory(world: World) -> Directory:
    return world.one


async def revoke(
    directory: Directory, value: str, scope: str = "token", *, tenant: str = "demo", at_ms: int = NOW, **kwargs: object
) -> Revocation:
    fields: dict[str, object] = {"until_ms": LATER, "reason": "lost", "note": NOTE} | kwargs
    return await directory.revoke(tenant, scope, value, at_ms=at_ms, **fields)  # type: ignore[arg-type]


async def mint(directory: Directory, claim: str = "claim", device: str = TRUCK, *, tenant: str = "demo") -> None:
    await directory.mint_claim(tenant, device, secret(claim), at_ms=NOW, expires_ms=LATER, note=NOTE)


async def redeem(
    directory: Directory, claim: str = "claim", key: str = "k1", refresh: str = "r1", *, at_ms: int = NOW
) -> Redeemed | None:
    return await directory.redeem_claim(
        secret(claim),
        key=thumb(key),
        public_key=public(key),
        refresh_hash=secret(refresh),
        at_ms=at_ms,
        refresh_until_ms=LATER,
        note=Note(TRUCK, b"{}"),
    )


async def enrol(directory: Directory, device: str = TRUCK, *, tenant: str = "demo", key: str = "k1") -> None:
    """A device with a key and a refresh token, of names nobody else uses."""
    claim, token = f"claim {next(_unique)}", f"token {next(_unique)}"
    await mint(directory, claim, device, tenant=tenant)
    assert await redeem(directory, claim, key, token) == (tenant, device)


async def enrolled(directory: Directory) -> None:
    """The truck with key k1 and refresh token r1."""
    await mint(directory)
    assert await redeem(directory) == Redeemed("demo", TRUCK)


async def refresh(
    directory: Directory, token: str, next_token: str, *, key: str = "k1", at_ms: int = NOW + 1, until_ms: int = LATER
) -> Refreshed:
    return await directory.refresh(
        secret(token), secret(next_token), key=thumb(key), at_ms=at_ms, until_ms=until_ms, note=Note(TRUCK, b"{}")
    )


async def rotate(
    directory: Directory, token: str, next_token: str, *, key: str = "k1", next_key: str = "k2"
) -> Refreshed:
    return await directory.rotate_key(
        secret(token),
        secret(next_token),
        key=thumb(key),
        next_key=thumb(next_key),
        public_key=public(next_key),
        at_ms=NOW + 1,
        until_ms=LATER,
        note=Note(TRUCK, b"{}"),
    )


def client(name: str = "billing", tenant: str = "demo") -> ServiceClient:
    return ServiceClient(name, tenant, f"service:{name}", ("service", "auditor"), secret(name), NOW)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(Refused) as caught:
        await call
    return caught.value.code


# The audit stream


async def test_a_change_is_an_event_of_its_tenant(world: World) -> None:
    """By whom the note says, with the note's body, in a stream that is made when first needed."""
    assert await world.audit() == []
    await revoke(world.one, "t-1")
    [event] = await world.events()
    assert (event.type, event.by, event.body, event.seq) == ("revoked", ADMIN, b'{"why":"test"}', 1)
    await mint(world.one)
    await revoke(world.one, "t-1", tenant="other")
    assert await world.audit() == ["revoked", "device.claim"]
    assert await world.audit("other") == ["revoked"]


async def test_every_method_that_changes_writes_its_event(world: World) -> None:
    """One each, of the type that the port names."""
    await revoke(world.one, "", "tenant")
    await world.one.lift("demo", "tenant", "", at_ms=NOW, note=NOTE)
    await world.one.add_client(client(), NOTE)
    await world.one.remove_client("demo", "billing", at_ms=NOW, note=NOTE)
    await enrolled(world.one)
    await refresh(world.one, "r1", "r2")
    await rotate(world.one, "r2", "r3")
    await refresh(world.one, "r1", "r4")
    await world.one.revoke_device("demo", TRUCK, at_ms=NOW, note=NOTE)
    assert await world.audit() == [
        "revoked",
        "revocation.lifted",
        "client.added",
        "client.removed",
        "device.claim",
        "device.enrolled",
        "device.refreshed",
        "device.rotated",
        "device.reused",
        "device.revoked",
    ]


async def test_what_changes_nothing_writes_nothing(world: World) -> None:
    """Refusals, unknown secrets, pings, forgetting, reading."""
    await enrolled(world.one)
    await world.one.add_client(client(), NOTE)
    before = await world.events()
    await refused(world.one.lift("demo", "token", "t-1", at_ms=NOW, note=NOTE))
    await refused(world.one.add_client(client(), NOTE))
    await refused(world.one.remove_client("demo", "nobody", at_ms=NOW, note=NOTE))
    await refused(world.one.revoke_device("demo", VAN, at_ms=NOW, note=NOTE))
    await redeem(world.one, "no such claim", refresh="r9")
    await redeem(world.one, refresh="r9")
    await refresh(world.one, "no such token", "r9")
    await refresh(world.one, "r1", "r9", key="k2")
    await world.one.take_pings([("demo", TRUCK, 1)])
    await world.one.forget_revocations(NOW)
    await world.one.revocations(0, 10)
    assert await world.events() == before


async def test_nobody_has_a_role_in_an_audit_stream(world: World) -> None:
    """It is closed and has no members, so that neither membership nor openness lets anybody in."""
    await revoke(world.one, "t-1")
    for principal in (ADMIN, AUDITOR, "user:amy", "service:ops"):
        [facts] = await world.log.open_streams([("demo", AUDIT_STREAM, principal)])
        assert facts is not None
        assert (facts.role, facts.open) == (None, False)
        assert await world.log.my_streams("demo", principal) == []
    assert await world.log.members("demo", AUDIT_STREAM) == []


async def test_nobody_becomes_a_member_of_an_audit_stream(world: World) -> None:
    """It cannot be found where members are concerned, whether it exists or not."""
    for _ in range(2):
        for call in (
            world.log.put_member("demo", AUDIT_STREAM, "user:amy", "owner", ADMIN),
            world.log.put_member("demo", "audit:other", "user:amy", "owner", ADMIN),
            world.log.remove_member("demo", AUDIT_STREAM, "user:amy", ADMIN),
        ):
            assert await refused(call) == "not_found"
        await revoke(world.one, "t-1")
    await world.log.create_stream("demo", "audit:other", open=True, members=[Member("user:amy", "owner")], by=ADMIN)
    assert await refused(world.log.put_member("demo", "audit:other", "user:bob", "owner", ADMIN)) == "not_found"
    assert await refused(world.log.remove_member("demo", "audit:other", "user:amy", ADMIN)) == "not_found"


async def test_only_the_gateway_appends_to_an_audit_stream(world: World) -> None:
    """Privileged, and by the gateway's own principal: neither suffices alone, nor does membership or openness."""
    await revoke(world.one, "t-1")
    [facts] = await world.log.open_streams([("demo", AUDIT_STREAM, ADMIN)])
    other = await world.log.create_stream(
        "demo", "audit:other", open=True, members=[Member("user:amy", "owner")], by=ADMIN
    )
    chat = await world.log.create_stream("demo", "chat:audit", open=True, members=[], by=ADMIN)
    assert facts is not None

    def entry(sid: int, by: str, privileged: bool, tenant: str = "demo") -> Entry:
        return Entry(tenant, sid, str(uuid.uuid4()), "admitted", by, b"{}", privileged=privileged)

    verdicts = await world.log.append(
        [
            entry(facts.sid, AUDITOR, True),
            entry(facts.sid, AUDITOR, False),
            entry(facts.sid, ADMIN, True),
            entry(facts.sid, "user:amy", False),
            entry(other.sid, "user:amy", False),
            entry(other.sid, "service:ops", True),
            entry(other.sid, AUDITOR, True),
            entry(facts.sid, AUDITOR, True, "other"),
            entry(chat.sid, "user:amy", False),
            entry(chat.sid, AUDITOR, True),
        ]
    )
    ok, no = Outcome.OK, Outcome.FORBIDDEN
    assert [verdict.outcome for verdict in verdicts] == [ok, no, no, no, no, no, ok, Outcome.NOT_FOUND, ok, ok]
    assert await world.audit() == ["revoked", "admitted"]


async def test_the_log_stays_sound(world: World, request: pytest.FixtureRequest) -> None:
    """Audit events are events like any: places dense, keys once, the hash chain whole."""
    await test_every_method_that_changes_writes_its_event(world)
    if isinstance(world.log, MemoryLog):
        checker: LogChecker = world.log
        assert [finding async for _, _, finding in checker.check() if finding] == []
    else:
        made: Database = request.getfixturevalue("database")
        async with open_postgres_log(made.admin_url) as log:
            steps = [step async for step in log.check()]
        assert [finding for _, _, finding in steps if finding] == []
        assert steps[-1][:2] == (10, 10)


# Revocations


async def test_a_revocation_says_what_was_revoked(directory: Directory) -> None:
    """Every field is what was handed in; numbers count from 1 over all tenants."""
    made = [
        await revoke(directory, "t-1"),
        await revoke(directory, "s-1", "session", tenant="other"),
        await revoke(directory, "user:amy", "principal", until_ms=None, reason=""),
        await revoke(directory, "", "tenant", reason="unpaid – žluť"),
    ]
    assert made == [
        Revocation(1, "demo", "token", "t-1", NOW, LATER, "lost", ADMIN),
        Revocation(2, "other", "session", "s-1", NOW, LATER, "lost", ADMIN),
        Revocation(3, "demo", "principal", "user:amy", NOW, None, "", ADMIN),
        Revocation(4, "demo", "tenant", "", NOW, LATER, "unpaid – žluť", ADMIN),
    ]
    assert await directory.revocations(0, 100) == made
    assert await directory.revocations(2, 100) == made[2:]
    assert await directory.revocations(0, 2) == made[:2]
    assert await directory.revocations(4, 100) == []
    assert await directory.revocations(-(2**70), 100) == made
    assert await directory.revocations(2**70, 100) == []
    assert await directory.revocations(0, 0) == await directory.revocations(0, -5) == []
    assert len(await directory.revocations(0, 2**70)) == 4


async def test_revoking_again_renews(directory: Directory) -> None:
    """A new number, the later of both times, never less than was in force; reason and by are the newest's."""
    await revoke(directory, "t-1")
    await revoke(directory, "t-2")
    other = Note("user:amy", b"{}")
    again = await revoke(directory, "t-1", at_ms=NOW - 5, until_ms=LATER - 5, reason="twice", note=other)
    assert again == Revocation(3, "demo", "token", "t-1", NOW, LATER, "twice", "user:amy")
    later = await revoke(directory, "t-1", at_ms=NOW + 5, until_ms=LATER + 5)
    assert (later.at_ms, later.until_ms) == (NOW + 5, LATER + 5)
    forever = await revoke(directory, "t-1", until_ms=None)
    assert (forever.at_ms, forever.until_ms) == (NOW + 5, None)
    assert (await revoke(directory, "t-1")).until_ms is None
    assert [(each.number, each.value) for each in await directory.revocations(0, 10)] == [(2, "t-2"), (6, "t-1")]


async def test_lifting_is_told_with_a_new_number(directory: Directory) -> None:
    """Readers learn of it; it is in force no longer; revoked anew it starts afresh."""
    await revoke(directory, "user:amy", "principal", until_ms=None)
    lifted = await directory.lift("demo", "principal", "user:amy", at_ms=NOW + 9, note=Note("user:bob", b"{}"))
    assert lifted == Revocation(2, "demo", "principal", "user:amy", NOW + 9, None, "lost", "user:bob", lifted=True)
    assert await directory.revocations(0, 10) == [lifted]
    assert await directory.revoked("demo") == []
    assert await refused(directory.lift("demo", "principal", "user:amy", at_ms=NOW, note=NOTE)) == "not_found"
    anew = await revoke(directory, "user:amy", "principal", at_ms=NOW + 1)
    assert (anew.number, anew.at_ms, anew.until_ms, anew.lifted) == (3, NOW + 1, LATER, False)
    assert await directory.revoked("demo") == [anew]


async def test_lifting_is_the_tenant_s(directory: Directory) -> None:
    """Another tenant's revocation is not found, nor is another scope's."""
    await revoke(directory, "x")
    assert await refused(directory.lift("other", "token", "x", at_ms=NOW, note=NOTE)) == "not_found"
    assert await refused(directory.lift("demo", "session", "x", at_ms=NOW, note=NOTE)) == "not_found"
    assert len(await directory.revoked("demo")) == 1


async def test_those_in_force_newest_first(directory: Directory) -> None:
    """Of one tenant, at most 1,000."""
    made = [await revoke(directory, f"t-{n}") for n in range(4)]
    await revoke(directory, "t-0", tenant="other")
    assert await directory.revoked("demo") == made[::-1]
    assert [each.tenant for each in await directory.revoked("other")] == ["other"]
    assert await directory.revoked("nobody") == []


async def test_forgetting(directory: Directory) -> None:
    """What ended before, and what was lifted before; the rest stays, and no number comes again."""
    await revoke(directory, "ended", until_ms=NOW + 9)
    await revoke(directory, "ends then", until_ms=NOW + 10)
    await revoke(directory, "never ends", until_ms=None)
    for value, at_ms in (("lifted", NOW + 9), ("lifted then", NOW + 10)):
        await revoke(directory, value, until_ms=None)
        await directory.lift("demo", "token", value, at_ms=at_ms, note=NOTE)
    assert await directory.forget_revocations(NOW + 10) == 2
    assert await directory.forget_revocations(NOW + 10) == 0
    assert [each.value for each in await directory.revocations(0, 10)] == ["ends then", "never ends", "lifted then"]
    assert await directory.forget_revocations(2**70) == 2
    assert await directory.forget_revocations(-(2**70)) == 0
    await directory.lift("demo", "token", "never ends", at_ms=NOW, note=NOTE)
    assert await directory.forget_revocations(NOW + 1) == 1
    assert await directory.revocations(0, 10) == []
    assert (await revoke(directory, "t-1")).number == 9


async def test_of_many_at_once_a_reader_misses_none(world: World) -> None:
    """Numbers are dense and become visible in their order, so that who asks for what is newer than the last finds all."""
    seen: list[Revocation] = []

    async def read() -> None:
        while len(seen) < 20:
            await trio.lowlevel.checkpoint()  # the model answers within the turn
            seen.extend(await world.two.revocations(seen[-1].number if seen else 0, 7))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for n in range(20):
            nursery.start_soon(partial(revoke, (world.one, world.two)[n % 2], f"t-{n}", tenant=f"tenant-{n % 3}"))
    assert [each.number for each in seen] == list(range(1, 21))
    assert {each.value for each in seen} == {f"t-{n}" for n in range(20)}


async def test_the_same_revoked_from_all_sides(world: World) -> None:
    """Renewals, lifts and appends at once end in one state, and every change had its number."""
    await revoke(world.one, "user:amy", "principal")
    chat = await world.log.create_stream("demo", "chat:x", open=True, members=[], by=ADMIN)

    async def change(n: int) -> None:
        node = (world.one, world.two)[n % 2]
        await revoke(node, "user:amy", "principal", at_ms=NOW + n)
        await node.take_pings([("demo", TRUCK, 1)])
        [verdict] = await world.log.append([Entry("demo", chat.sid, str(uuid.uuid4()), "message", ADMIN, b"{}")])
        assert verdict.outcome == Outcome.OK

    async with trio.open_nursery() as nursery:
        for n in range(12):
            nursery.start_soon(change, n)
    [last] = await world.one.revocations(0, 10)
    assert (last.number, last.at_ms) == (13, NOW + 11)
    assert await world.audit() == ["revoked"] * 13


# Service clients


async def test_clients_are_kept(directory: Directory) -> None:
    """As they were added; found by id in the cell, listed by tenant and id."""
    ours, theirs, first = client(), client("theirs", "other"), client("Alpha")
    for each in (ours, theirs, first):
        await directory.add_client(each, NOTE)
    assert await directory.client("billing") == ours
    assert await directory.client("theirs") == theirs
    assert await directory.client("nobody") is None
    assert await directory.clients("demo") == [first, ours]
    assert await directory.clients("other") == [theirs]
    assert await directory.clients("nobody") == []


async def test_an_id_is_the_cell_s(world: World) -> None:
    """A second client of the id is a conflict, whoever's, and changes nothing."""
    await world.one.add_client(client(), NOTE)
    for again in (client(), client(tenant="other"), replace(client(), secret_hash=secret("new"))):
        assert await refused(world.two.add_client(again, NOTE)) == "conflict"
    assert await world.one.client("billing") == client()
    assert await world.audit("other") == []


async def test_a_removed_client_s_tokens_are_revoked(world: World) -> None:
    """In the same commit, with one event; the id is free again."""
    await world.one.add_client(client(), NOTE)
    assert await refused(world.one.remove_client("other", "billing", at_ms=NOW, note=NOTE)) == "not_found"
    assert await world.one.remove_client("demo", "billing", at_ms=NOW + 3, note=NOTE) == client()
    [made] = await world.one.revoked("demo")
    assert (made.scope, made.value, made.at_ms, made.until_ms, made.by) == (
        "principal",
        "service:billing",
        NOW + 3,
        None,
        ADMIN,
    )
    assert await world.one.client("billing") is None
    assert await world.audit() == ["client.added", "client.removed"]
    assert await refused(world.one.remove_client("demo", "billing", at_ms=NOW, note=NOTE)) == "not_found"
    await world.one.add_client(client(tenant="other"), NOTE)


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


async def test_a_device_revoked_while_it_refreshes(world: World) -> None:
    """Whichever comes first, no refresh token is left."""
    await enrolled(world.one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refresh, world.one, "r1", "r2")
        nursery.start_soon(partial(world.two.revoke_device, "demo", TRUCK, at_ms=NOW, note=NOTE))
    assert await refresh(world.one, "r1", "r3") == await refresh(world.one, "r2", "r3") == UNKNOWN


# Pings


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


# Input

BAD_TENANTS = ("", "Demo", "a b", "x" * 64, "de\0mo", "-a", "demo' or '1'='1", "demo\n")
BAD_DEVICES = ("", "truck-7", "user:amy", "device:", "device:a b", "device:" + "x" * 129, "device:\0", "device:'; --")


@pytest.mark.parametrize("tenant", BAD_TENANTS)
async def test_tenants_that_cannot_be(world: World, tenant: str) -> None:
    """Changes are a bad request; reading finds nothing."""
    directory = world.one
    for call in (
        revoke(directory, "t-1", tenant=tenant),
        directory.lift(tenant, "token", "t-1", at_ms=NOW, note=NOTE),
        directory.add_client(client(tenant=tenant), NOTE),
        directory.remove_client(tenant, "billing", at_ms=NOW, note=NOTE),
        mint(directory, tenant=tenant),
        directory.revoke_device(tenant, TRUCK, at_ms=NOW, note=NOTE),
    ):
        assert await refused(call) == "bad_request"
    assert await directory.revoked(tenant) == []
    assert await directory.clients(tenant) == []
    assert await directory.devices(tenant) == []
    assert await directory.device(tenant, TRUCK) is None


@pytest.mark.parametrize("device", BAD_DEVICES)
async def test_devices_that_cannot_be(directory: Directory, device: str) -> None:
    """Changes are a bad request; reading finds nothing."""
    assert await refused(mint(directory, device=device)) == "bad_request"
    assert await refused(directory.revoke_device("demo", device, at_ms=NOW, note=NOTE)) == "bad_request"
    assert await directory.device("demo", device) is None


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("device", "x"),
        ("", "x"),
        ("token\0", "x"),
        ("token", ""),
        ("token", "a\0b"),
        ("token", "a\nb"),
        ("token", "\ud800"),
        ("token", "x" * 257),
        ("session", ""),
        ("principal", "amy"),
        ("principal", "user:a b"),
        ("tenant", "demo"),
    ],
)
async def test_what_cannot_be_revoked(directory: Directory, scope: str, value: str) -> None:
    """A bad request, of revoking and of lifting."""
    assert await refused(revoke(directory, value, scope)) == "bad_request"
    assert await refused(directory.lift("demo", scope, value, at_ms=NOW, note=NOTE)) == "bad_request"


@pytest.mark.parametrize("value", ["'; drop table readback.revocations; --", "%", "\\", '"', "$1", "žluť", "x" * 256])
async def test_values_are_only_values(directory: Directory, value: str) -> None:
    """What looks like SQL is kept and found as it is."""
    made = await revoke(directory, value, reason=value)
    assert await directory.revoked("demo") == [made]
    assert (made.value, made.reason) == (value, value)
    assert (await directory.lift("demo", "token", value, at_ms=NOW, note=NOTE)).lifted


@pytest.mark.parametrize(
    "name", ["", "a b", "a\0b", "'; drop table readback.service_clients; --", "x" * 129, "-x", "a\n"]
)
async def test_client_ids_that_cannot_be(directory: Directory, name: str) -> None:
    """A bad request to add, not found to remove, nothing to read."""
    assert await refused(directory.add_client(replace(client(), client_id=name), NOTE)) == "bad_request"
    assert await refused(directory.remove_client("demo", name, at_ms=NOW, note=NOTE)) == "not_found"
    assert await directory.client(name) is None


@pytest.mark.parametrize(
    "change",
    [
        {"principal": "billing"},
        {"roles": ("Admin",)},
        {"roles": ("a,b",)},
        {"roles": ("x",) * 33},
        {"secret_hash": b"short"},
        {"made_ms": -1},
        {"made_ms": 2**63},
    ],
)
async def test_clients_that_cannot_be(directory: Directory, change: dict[str, object]) -> None:
    """Each field is looked at."""
    assert await refused(directory.add_client(replace(client(), **change), NOTE)) == "bad_request"  # type: ignore[arg-type]
    assert await directory.clients("demo") == []


@pytest.mark.parametrize(
    "note",
    [
        Note("root", b"{}"),
        Note("user:a\0b", b"{}"),
        Note(ADMIN, b""),
        Note(ADMIN, b"[]"),
        Note(ADMIN, b'{"a":"\0"}'),
        Note(ADMIN, b'{"a":"\xff"}'),
        Note(ADMIN, b"{} {}"),
        Note(ADMIN, b'{"a":"' + b"x" * NOTE_BYTES_MAX + b'"}'),
    ],
)
async def test_notes_that_cannot_be(world: World, note: Note) -> None:
    """Refused by every method that takes one, and nothing happens."""
    directory = world.one
    await enrolled(directory)
    await directory.add_client(client(), NOTE)
    await revoke(directory, "t-1")
    before = await world.events(), await directory.revocations(0, 10), await directory.devices("demo")
    key, token, other = thumb("k1"), secret("r1"), secret("r2")
    for call in (
        revoke(directory, "t-2", note=note),
        directory.lift("demo", "token", "t-1", at_ms=NOW, note=note),
        directory.add_client(client("more"), note),
        directory.remove_client("demo", "billing", at_ms=NOW, note=note),
        directory.mint_claim("demo", VAN, secret("c"), at_ms=NOW, expires_ms=LATER, note=note),
        directory.redeem_claim(
            secret("claim"),
            key=key,
            public_key=public("k"),
            refresh_hash=other,
            at_ms=NOW,
            refresh_until_ms=LATER,
            note=note,
        ),
        directory.refresh(token, other, key=key, at_ms=NOW, until_ms=LATER, note=note),
        directory.rotate_key(
            token, other, key=key, next_key=key, public_key=public("k"), at_ms=NOW, until_ms=LATER, note=note
        ),
        directory.revoke_device("demo", TRUCK, at_ms=NOW, note=note),
    ):
        assert await refused(call) == "bad_request"
    assert (await world.events(), await directory.revocations(0, 10), await directory.devices("demo")) == before


@pytest.mark.parametrize("time_ms", [-1, 2**53, 2**70])
async def test_times_that_cannot_be(directory: Directory, time_ms: int) -> None:
    """A bad request wherever a time is."""
    await enrolled(directory)
    key, token, other = thumb("k1"), secret("r1"), secret("r2")
    for call in (
        revoke(directory, "t-1", at_ms=time_ms),
        revoke(directory, "t-1", until_ms=time_ms),
        directory.lift("demo", "token", "t-1", at_ms=time_ms, note=NOTE),
        directory.remove_client("demo", "billing", at_ms=time_ms, note=NOTE),
        directory.mint_claim("demo", TRUCK, secret("c"), at_ms=time_ms, expires_ms=LATER, note=NOTE),
        directory.mint_claim("demo", TRUCK, secret("c"), at_ms=NOW, expires_ms=time_ms, note=NOTE),
        redeem(directory, at_ms=time_ms),
        refresh(directory, "r1", "r2", at_ms=time_ms),
        refresh(directory, "r1", "r2", until_ms=time_ms),
        directory.rotate_key(
            token, other, key=key, next_key=key, public_key=public("k"), at_ms=time_ms, until_ms=LATER, note=NOTE
        ),
        directory.revoke_device("demo", TRUCK, at_ms=time_ms, note=NOTE),
    ):
        assert await refused(call) == "bad_request"


async def test_secrets_and_keys_that_cannot_be(directory: Directory) -> None:
    """Hashes and public keys are 32 bytes, a thumbprint 43 characters; a successor is not its predecessor."""
    await enrolled(directory)
    good, other, key, raw = secret("r1"), secret("r2"), thumb("k1"), public("k1")

    def redeeming(claim: bytes, key: str, raw: bytes, token: bytes) -> Awaitable[object]:
        return directory.redeem_claim(
            claim, key=key, public_key=raw, refresh_hash=token, at_ms=NOW, refresh_until_ms=LATER, note=NOTE
        )

    def rotating(token: bytes, following: bytes, key: str, next_key: str, raw: bytes) -> Awaitable[object]:
        return directory.rotate_key(
            token, following, key=key, next_key=next_key, public_key=raw, at_ms=NOW, until_ms=LATER, note=NOTE
        )

    for call in (
        directory.mint_claim("demo", TRUCK, b"", at_ms=NOW, expires_ms=LATER, note=NOTE),
        redeeming(good[1:], key, raw, other),
        redeeming(good, key, raw, b""),
        redeeming(good, key, raw, good),
        redeeming(good, key, raw[1:], other),
        redeeming(good, key[1:], raw, other),
        redeeming(good, "'" * 43, raw, other),
        directory.refresh(b"x", other, key=key, at_ms=NOW, until_ms=LATER, note=NOTE),
        directory.refresh(good, good, key=key, at_ms=NOW, until_ms=LATER, note=NOTE),
        directory.refresh(good, other, key="", at_ms=NOW, until_ms=LATER, note=NOTE),
        directory.refresh(good, other, key=key[:-1] + "\0", at_ms=NOW, until_ms=LATER, note=NOTE),
        rotating(good, other, key, key + "=", raw),
        rotating(good, other, key, key, b""),
        rotating(good, b"", key, key, raw),
    ):
        assert await refused(call) == "bad_request"
    assert await refresh(directory, "r1", "r2") == OK


@pytest.mark.parametrize("reason", ["x" * 501, "a\nb", "a\0b"])
async def test_reasons_that_cannot_be(directory: Directory, reason: str) -> None:
    """Long ones, and those that would break a line of a log."""
    assert await refused(revoke(directory, "t-1", reason=reason)) == "bad_request"


async def test_closing_it_leaves_the_log_open(world: World) -> None:
    """The links are the log's."""
    await world.one.aclose()
    assert await world.log.heads() == [0] * TEST_PARTITIONS
