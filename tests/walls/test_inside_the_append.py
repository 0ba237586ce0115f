"""The policy obeyed where it counts, inside the commit: whatever a node believed when it handed an entry over.

Each role x standing x type of entry against both logs; then a node whose knowledge of roles is out of date.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from core.model import AUDIT_STREAM, AUDITOR, Entry, Member, Outcome, StreamFacts
from core.policy import OWNS, StreamAction, may, role_in, standing
from core.ports import Log
from store.postgres import open_postgres_log
from tests.nodes import memory_log, serving_node
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.wire_client import hello

WHO, OTHER = "user:who", "user:other"
PARTS = ("owner", "member", "reader", None, "open", "inbox", "audit")
TYPES = (
    "message",
    "react",
    "edit own",
    "edit others",
    "delete own",
    "delete others",
    "member.joined",
    "member.left",
    "member.role",
)


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield memory_log()
    else:
        database: Database = request.getfixturevalue("database")
        async with open_postgres_log(database.url) as opened:
            yield opened


def entry(facts: StreamFacts, type: str = "message", by: str = WHO, **fields: object) -> Entry:
    body = b'{"principal":"user:who","role":"owner"}'
    return Entry(facts.tenant, facts.sid, str(uuid.uuid4()), type, by, body, **fields)  # type: ignore[arg-type]


async def made(log: Log, part: str | None) -> tuple[StreamFacts, str, str | None]:
    """A stream in which somebody has this part: its facts, who, and the role in words of the policy."""
    who = WHO
    if part == "inbox":
        (facts,) = await log.open_streams([("demo", WHO, WHO)])
        assert facts is not None
        return facts, who, "reader"
    if part == "audit":
        return await log.create_stream("demo", AUDIT_STREAM, open=False, members=[], by=AUDITOR), who, None
    members = [] if part in (None, "open") else [Member(who, str(part))]
    facts = await log.create_stream("demo", f"chat:{part}", open=part == "open", members=members, by=OTHER)
    return facts, who, "member" if part == "open" else part


def wanted(stream: str, own: str | None, roles: list[str], type: str) -> Outcome:
    """By the table: what is said, whose it is, and that member.* is nobody's."""
    role = role_in(stream, own, standing(roles))
    if type.startswith("member.") or not may(StreamAction.SEND, role):
        return Outcome.FORBIDDEN
    if type == "edit others":
        return Outcome.FORBIDDEN
    if type == "delete others":
        return Outcome.OK if may(StreamAction.DELETE, role) else Outcome.FORBIDDEN
    return Outcome.OK


@pytest.mark.parametrize("roles", [[], ["admin"], ["service"], ["auditor"]], ids=lambda roles: "".join(roles) or "none")
@pytest.mark.parametrize("part", PARTS, ids=str)
async def test_the_append_obeys_the_table(log: Log, part: str | None, roles: list[str]) -> None:
    """Every type of entry by everybody: the outcome is the table's, and nothing refused leaves a trace."""
    facts, who, own = await made(log, part)
    own_seq = others_seq = 1
    if part != "audit":
        planted = [entry(facts, by=by, privileged=True) for by in (who, OTHER)]
        own_seq, others_seq = (answer.seq for answer in await log.append(planted))
    else:
        (answer,) = await log.append([entry(facts, by=AUDITOR, privileged=True)])
        assert answer.outcome is Outcome.OK
    privileged = standing(roles) & OWNS != 0
    for type in TYPES:
        kind, _, whose = type.partition(" ")
        ref = others_seq if whose == "others" or kind == "react" else own_seq if whose == "own" else None
        before = (await log.open_streams([("demo", facts.stream, OTHER)]))[0]
        (verdict,) = await log.append([entry(facts, kind, who, ref=ref, privileged=privileged)])
        assert verdict.outcome is wanted(facts.stream, own, roles, type), (type, verdict)
        if verdict.outcome is not Outcome.OK:
            assert (await log.open_streams([("demo", facts.stream, OTHER)]))[0] == before


@pytest.mark.parametrize("by", [WHO, "user:amy", "service:readback2"])
async def test_an_audit_stream_takes_the_gateway_s_own_word_alone(log: Log, by: str) -> None:
    """Neither the right principal without the standing nor the standing without the right principal."""
    facts, _, _ = await made(log, "audit")
    for who, privileged in ((by, False), (by, True), (AUDITOR, False)):
        (verdict,) = await log.append([entry(facts, by=who, privileged=privileged)])
        assert verdict.outcome is Outcome.FORBIDDEN, (who, privileged)
    (verdict,) = await log.append([entry(facts, by=AUDITOR, privileged=True)])
    assert verdict.outcome is Outcome.OK


async def test_an_entry_for_another_tenant_s_stream_finds_none(log: Log) -> None:
    """Its number is known, the standing is the highest, and there is no such stream; also in one batch with those it has."""
    facts = await log.create_stream("demo", "chat:x", open=True, members=[], by=WHO)
    twin = await log.create_stream("twin", "chat:x", open=True, members=[], by=WHO)
    strays = [
        Entry(tenant, sid, str(uuid.uuid4()), "message", WHO, b"{}", privileged=True)
        for tenant, sid in (("demo", twin.sid), ("twin", facts.sid), ("", facts.sid), ("demo%", facts.sid))
    ]
    good = [entry(facts), entry(twin)]
    verdicts = await log.append([strays[0], good[0], strays[1], strays[2], good[1], strays[3]])
    assert [verdict.outcome.name for verdict in verdicts] == [
        "NOT_FOUND", "OK", "NOT_FOUND", "NOT_FOUND", "OK", "NOT_FOUND",
    ]  # fmt: skip
    assert len(await log.read("demo", facts.sid, 0, 10)) == len(await log.read("twin", twin.sid, 0, 10)) == 1


async def test_equal_keys_land_in_both_tenants(log: Log) -> None:
    """A key belongs to its stream, and the streams only have the same name."""
    key = str(uuid.uuid4())
    streams = [await log.create_stream(tenant, "chat:x", open=True, members=[], by=WHO) for tenant in ("demo", "twin")]
    entries = [
        Entry(facts.tenant, facts.sid, key, "message", WHO, facts.tenant.encode().join((b'"', b'"')))
        for facts in streams
    ]
    for _ in range(2):
        verdicts = await log.append(entries)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.DUP, Outcome.DUP]
    for facts in streams:
        assert [event.body for event in await log.read(facts.tenant, facts.sid, 0, 9)] == [f'"{facts.tenant}"'.encode()]


async def test_a_ref_does_not_reach_into_another_stream(log: Log) -> None:
    """An owner deletes what is in its stream; a number of another's event is no event here."""
    mine = await log.create_stream("demo", "chat:x", open=False, members=[Member(WHO, "owner")], by=WHO)
    theirs = await log.create_stream("twin", "chat:x", open=False, members=[], by=WHO)
    await log.append([entry(theirs, by=OTHER, privileged=True) for _ in range(3)])
    (verdict,) = await log.append([entry(mine, "delete", ref=3)])
    assert verdict.outcome is Outcome.NOT_FOUND


CHANGES = (("member", None), ("member", "reader"), ("owner", None), ("owner", "member"), ("owner", "reader"))


@pytest.mark.parametrize(("was", "now"), CHANGES, ids=str)
async def test_a_node_that_has_not_heard_is_overruled(log: Log, was: str, now: str | None) -> None:
    """The role was taken away behind the node's back; it believes the old one and hands the entry over. The commit knows."""
    async with serving_node(log) as node:
        await node.stream("chat:x", open=False, members={WHO: was, OTHER: "member"})
        async with hello(node.url, OTHER) as other, hello(node.url, WHO, {"chat:x": {}}) as client:
            theirs = (await other.send("chat:x", "theirs"))["seq"]
            mine = (await client.send("chat:x", "mine"))["seq"]
            stream = node.node.hub.by_name["demo", "chat:x"]
            if now is None:
                await log.remove_member("demo", "chat:x", WHO, OTHER)
            else:
                await log.put_member("demo", "chat:x", WHO, now, OTHER)
            for type, ref in (
                ("message", None),
                ("react", theirs),
                ("edit", mine),
                ("delete", mine),
                ("delete", theirs),
            ):
                # What other tasks of the node may have learned meanwhile is forgotten again: the stale node is the point.
                stream.roles[WHO] = was
                body = {"text": "x", "emoji": "+", "on": True, **({} if ref is None else {"ref": ref})}
                answer = await client.ask("send", stream="chat:x", key=str(uuid.uuid4()), type=type, body=body)
                action = StreamAction.DELETE if (type, ref) == ("delete", theirs) else StreamAction.SEND
                if may(action, now):
                    assert answer["op"] == "ok", (type, answer)
                else:
                    assert (answer["op"], answer["code"]) == ("error", "forbidden"), (type, answer)
