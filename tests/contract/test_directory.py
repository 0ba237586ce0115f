"""The directory's port, sentence by sentence, against the model in memory and against Postgres: audit events, revocations and
service clients. Devices, pings and bad input have files of their own beside this one.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial

import pytest
import trio

from core.directory import Directory, Note, Revocation
from core.model import AUDIT_STREAM, AUDITOR, Entry, Member, Outcome
from core.ports import LogChecker
from store.memory import MemoryLog
from store.postgres import open_postgres_log
from tests.directories import (
    ADMIN,
    LATER,
    NOTE,
    NOW,
    TRUCK,
    VAN,
    World,
    client,
    enrolled,
    mint,
    redeem,
    refresh,
    refused,
    revoke,
    rotate,
    secret,
)
from tests.servers import Database

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


async def test_lists_have_bounds(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest revocations, and the first clients and devices; forgetting goes on until nothing is left."""
    for module in ("store.memory_directory", "store.postgres_directory"):
        for name in ("REVOKED_MAX", "CLIENTS_MAX", "DEVICES_MAX"):
            monkeypatch.setattr(f"{module}.{name}", 3)
    monkeypatch.setattr("store.postgres_directory._FORGOTTEN_PER_COMMIT", 2)
    for n in range(5):
        await revoke(directory, f"t-{n}")
        await directory.add_client(client(f"c-{n}"), NOTE)
        await directory.mint_claim("demo", f"device:d{n}", secret(f"{n}"), at_ms=NOW, expires_ms=LATER, note=NOTE)
    assert [each.value for each in await directory.revoked("demo")] == ["t-4", "t-3", "t-2"]
    assert [each.client_id for each in await directory.clients("demo")] == ["c-0", "c-1", "c-2"]
    assert [each.device for each in await directory.devices("demo")] == ["device:d0", "device:d1", "device:d2"]
    assert await directory.forget_revocations(LATER + 1) == 5
    assert await directory.revocations(0, 10) == []


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
