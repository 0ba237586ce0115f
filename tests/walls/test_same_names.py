"""Two tenants whose people, streams, keys and sessions have the same names: each lives as if it were alone.

On one node, and with the tenants on two nodes of one cluster.
"""

from __future__ import annotations

import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import orjson
import pytest

from core.directory import Note
from core.limits import Limits
from core.tokens import ResumeClaims, ResumeKeys
from tests.nodes import SECRETS, TestNode, serving_cluster, serving_node, token, until
from tests.wire_client import Frame, hello, wire_client

HALL = "chat:hall"
INBOX = "user:amy"
DEMO, TWIN = "demo", "twin"
LIMITS = replace(Limits(), presence_grace_s=0.01, signal_flush_s=0.01)


@dataclass
class Pair:
    """Where each tenant's people connect."""

    demo: TestNode
    twin: TestNode

    @property
    def nodes(self) -> list[TestNode]:
        return [self.demo] if self.demo is self.twin else [self.demo, self.twin]


@asynccontextmanager
async def paired(kind: str) -> AsyncIterator[Pair]:
    if kind == "one node":
        async with serving_node(limits=LIMITS) as node:
            await _streams(node)
            yield Pair(node, node)
    else:
        async with serving_cluster(2, limits=LIMITS) as nodes:
            await _streams(nodes[0])
            yield Pair(*nodes)


async def _streams(node: TestNode) -> None:
    for tenant in (DEMO, TWIN):
        await node.stream(HALL, tenant=tenant)


@pytest.fixture(params=["one node", "two nodes"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with paired(request.param) as made:
        yield made


def of(frames: list[Frame], op: str) -> list[Frame]:
    return [frame for frame in frames if frame["op"] == op]


async def test_events_and_history_are_each_tenant_s_own(pair: Pair) -> None:
    """The same people say different things in streams of the same names; each hears its own, at the same seqs."""
    everything = {HALL: {"after": 0}, INBOX: {"after": 0}}
    async with (
        hello(pair.demo.url, "user:amy", everything) as amy,
        hello(pair.twin.url, "user:amy", everything, tenant=TWIN) as twin,
        hello(pair.twin.url, "user:bob", {HALL: {}}, tenant=TWIN) as bob,
    ):
        key = str(uuid.uuid4())
        for n in range(5):
            assert (await amy.send(HALL, f"demo {n}", key=key if n == 0 else str(uuid.uuid4())))["dup"] is False
            assert (await bob.send(HALL, f"twin {n}", key=key if n == 0 else str(uuid.uuid4())))["seq"] == n + 1
        assert [event["body"]["text"] for event in await amy.events(HALL, 5)] == [f"demo {n}" for n in range(5)]
        assert [event["body"]["text"] for event in await twin.events(HALL, 5)] == [f"twin {n}" for n in range(5)]
        told = (await amy.ask("history", stream=HALL))["events"]
        assert {event["body"]["text"].split()[0] for event in told} == {"demo"}
        again = await bob.send(HALL, "anything", key=key)
        assert (again["seq"], again["dup"]) == (1, True)
        assert (await amy.send(HALL, "anything", key=key))["dup"] is True
        assert all("twin" not in str(frame) for frame in amy.seen if frame["op"] != "welcome")


async def test_presence_typing_and_markers_stay_at_home(pair: Pair) -> None:
    """One amy is online, types and reads; of the other nothing is known, nor where both are."""
    async with hello(pair.demo.url, "user:amy", {HALL: {}}) as amy, hello(pair.demo.url, "user:cy", {HALL: {}}) as cy:
        async with hello(pair.twin.url, "user:bob", {HALL: {}}, tenant=TWIN) as bob:
            await amy.send(HALL, "one")
            await amy.ask("signal", stream=HALL, kind="typing", value=True)
            await amy.ask("mark", stream=HALL, delivered=1, read=1)
            await cy.next("signal", kind="typing")
            await cy.next("mark")
            there = await bob.ask("presence", stream=HALL)
            assert ([one["by"] for one in there["online"]], there["count"]) == (["user:bob"], 1)
            asked = await bob.ask("presence", stream=HALL, of=["user:amy", "user:cy"])
            assert [(one["value"], one["seen"]) for one in asked["online"]] == [("offline", None)] * 2
            async with hello(pair.twin.url, "user:amy", {HALL: {}}, tenant=TWIN):
                await bob.next("signal", kind="presence", by="user:amy")
                assert (await bob.ask("presence", stream=HALL))["count"] == 2
                mine = await amy.ask("presence", stream=HALL, of=["user:amy"])
                assert mine["online"][0]["devices"] == 1
            assert not of(bob.seen, "mark")
            assert all(frame["kind"] == "presence" for frame in of(bob.seen, "signal"))
        await amy.ask("ping")
        assert all(frame.get("by") != "user:bob" for frame in of(amy.seen, "signal"))


async def test_when_somebody_was_here_is_told_at_home(pair: Pair) -> None:
    """The last seen of a namesake is another's."""
    async with hello(pair.demo.url, "user:amy", {HALL: {}}):
        pass
    await until(lambda: not any(node.node.shard.connections for node in pair.nodes))
    for node in pair.nodes:
        await node.node.save_seen()
    async with (
        hello(pair.demo.url, "user:cy", {HALL: {}}) as cy,
        hello(pair.twin.url, "user:cy", {HALL: {}}, tenant=TWIN) as twin,
    ):
        (known,) = (await cy.ask("presence", stream=HALL, of=["user:amy"]))["online"]
        while known["value"] != "offline":  # within the grace
            (known,) = (await cy.ask("presence", stream=HALL, of=["user:amy"]))["online"]
        (unknown,) = (await twin.ask("presence", stream=HALL, of=["user:amy"]))["online"]
        assert known["seen"] is not None
        assert unknown["seen"] is None


async def test_a_removal_and_a_trim_concern_one_tenant(pair: Pair) -> None:
    """Members leave and events are forgotten in the stream of that name; in the other nothing happens."""
    log = pair.demo.log
    for tenant in (DEMO, TWIN):
        await log.put_member(tenant, HALL, "user:bob", "member", "service:test")
    everything = {HALL: {"after": 0}}
    async with (
        hello(pair.demo.url, "user:bob", everything, roles=["admin"]) as bob,
        hello(pair.twin.url, "user:bob", everything, tenant=TWIN) as twin,
    ):
        who = pair.demo.node.proving.verify(token("user:root", roles=["admin"]))
        await bob.send(HALL, "two")
        await twin.send(HALL, "two")
        await pair.demo.desk.trim(who, HALL, 2)  # type: ignore[arg-type]
        await pair.demo.desk.remove_member(who, HALL, "user:bob")  # type: ignore[arg-type]
        assert (await twin.send(HALL, "three"))["seq"] == 3
        events = await twin.events(HALL, 3)
        assert [event["type"] for event in events] == ["member.joined", "message", "message"]
        assert (await twin.ask("history", stream=HALL))["first"] == 1
        assert not of(twin.seen, "unsub")
        assert not of(twin.seen, "reset")


# Resume tokens


def forged(resume: str, **changed: object) -> str:
    """The same signature over other claims."""
    version, kid, packed, mac = resume.split(".")
    names = (
        "tenant",
        "principal",
        "session",
        "generation",
        "roles",
        "auth_expires",
        "expires",
        "issued",
        "token",
        "bound",
    )
    claims = dict(zip(names, orjson.loads(urlsafe_b64decode(packed + "==")), strict=True))
    assert changed.keys() <= claims.keys()
    packed = urlsafe_b64encode(orjson.dumps(list({**claims, **changed}.values()))).rstrip(b"=").decode()
    return ".".join((version, kid, packed, mac))


def issued(session: str) -> str:
    """Signed with a key that is not ours."""
    now_s = time.time()
    claims = ResumeClaims("demo", "user:amy", session, 1, frozenset(), now_s + 3_600, now_s + 300)
    return ResumeKeys({"r1": b"x" * 32}).issue(claims)


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": TWIN},
        {"principal": "user:bob"},
        {"session": "s1000"},
        {"generation": 2},
        {"roles": ["admin"]},
        {"auth_expires": 4e9},
        {"expires": 4e9},
        {"issued": 4e9},
        {"token": "t-other"},
        {"bound": ""},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_resume_token_with_another_word_in_it_is_none(pair: Pair, changed: dict[str, object]) -> None:
    """Its signature is over every claim: no tenant, principal, session, role or time can be put in another's place."""
    async with hello(pair.demo.url, "user:amy", {HALL: {}}) as amy:
        resume = amy.seen[0]["resume"]
        other = forged(resume, **({"bound": "x" * 43} if changed == {"bound": ""} else changed))
        for node in pair.nodes:
            async with wire_client(node.url) as thief:
                answer = await thief.ask("resume", resume=other, streams={HALL: 0})
                assert (answer["op"], answer["code"]) == ("error", "resume_rejected")
        assert (await amy.ask("ping"))["op"] == "pong"
    async with wire_client(pair.twin.url) as again:
        assert (await again.ask("resume", resume=resume, streams={}))["op"] == "welcome"


async def test_a_resume_token_speaks_for_its_own_tenant_whatever_comes_with_it(pair: Pair) -> None:
    """With the other tenant's cursors: they are cursors of its own streams of that name, and past head that is a reset. On a
    connection of the other tenant that is open already, and after a hello of its own, it is not taken at all."""
    async with hello(pair.twin.url, "user:amy", {HALL: {}}, tenant=TWIN) as twin:
        for n in range(3):
            await twin.send(HALL, f"twin {n}")
        async with hello(pair.demo.url, "user:amy", {HALL: {}}) as amy:
            await amy.send(HALL, "demo 0")
        resume = amy.seen[0]["resume"]
        refused = await twin.ask("resume", resume=resume, streams={HALL: 0})
        assert (refused["op"], refused["code"]) == ("error", "bad_request")
        async with wire_client(pair.twin.url) as again:
            welcome = await again.ask("resume", resume=resume, streams={HALL: 3, INBOX: 9})
            assert welcome["principal"] == "user:amy"
            reset = await again.next("reset", stream=HALL)
            assert (reset["first"], reset["head"]) == (1, 1)
            assert [event["body"]["text"] for event in await again.events(HALL, 1)] == ["demo 0"]
            assert all("twin" not in str(frame) for frame in again.seen)
            used = await twin.ask("ping")
            assert used["op"] == "pong"
        async with wire_client(pair.demo.url) as late:
            assert (await late.ask("resume", resume=resume, streams={}))["code"] == "resume_rejected"  # after rotation


async def test_a_session_of_a_guessed_id_is_not_another_s(pair: Pair) -> None:
    """Whoever knows or guesses the id of a session has nothing: neither a key of ours to sign with nor an op that takes one."""
    async with hello(pair.demo.url, "user:amy", {HALL: {}}) as amy:
        session = amy.seen[0]["session"]
        for node in pair.nodes:
            for resume in (session, f"r1.r1.{session}.x", issued(session=session), amy.seen[0]["resume"][:-1]):
                async with wire_client(node.url) as thief:
                    assert (await thief.ask("resume", resume=resume, streams={}))["code"] == "resume_rejected"
            async with hello(node.url, "user:amy", tenant=TWIN, streams={HALL: {}}) as twin:
                assert twin.seen[0]["session"] != session
        assert (await amy.ask("ping"))["op"] == "pong"


@pytest.mark.parametrize("scope", ["principal", "token", "session", "tenant"])
async def test_a_revocation_in_one_tenant_leaves_the_namesake_alone(pair: Pair, scope: str) -> None:
    """Of a principal, token, session or tenant; on both nodes, for who is connected, resumes, and calls over HTTP."""
    async with (
        hello(pair.demo.url, "user:amy", {HALL: {}}) as amy,
        hello(pair.twin.url, "user:amy", {HALL: {}}, tenant=TWIN) as twin,
    ):
        value = {"principal": "user:amy", "session": amy.seen[0]["session"], "token": "t-1", "tenant": ""}[scope]
        directory, revoking = pair.demo.directory, pair.demo.node.revoking
        assert directory is not None
        assert revoking is not None
        note, now_ms = Note("user:root", b"{}"), int(time.time() * 1000) + 1_000
        made = await directory.revoke(DEMO, scope, value, at_ms=now_ms, until_ms=None, reason="lost", note=note)
        revoking.made(made)
        await until(lambda: all(len(node.node.gatekeeper.revocations) for node in pair.nodes))
        if scope != "token":
            assert (await amy.closed())[0] == 4502
            async with wire_client(pair.twin.url) as again:
                await again.say("resume", resume=amy.seen[0]["resume"], streams={})
                assert (await again.closed())[0] == 4502
        assert (await twin.send(HALL, "still here"))["op"] == "ok"
    async with wire_client(pair.demo.url) as again:
        assert (await again.ask("resume", resume=twin.seen[0]["resume"], streams={HALL: 0}))["op"] == "welcome"
    async with hello(pair.demo.url, "user:amy", {HALL: {}}, tenant=TWIN) as anew:
        assert (await anew.send(HALL, "and again"))["op"] == "ok"


async def test_resume_tokens_and_access_tokens_are_never_taken_for_each_other(pair: Pair) -> None:
    """A resume token is no hello, and an access token resumes nothing; neither over a refresh."""
    access = token("user:amy")
    async with hello(pair.demo.url, "user:amy") as amy:
        resume = amy.seen[0]["resume"]
        assert (await amy.ask("refresh", token=resume))["code"] == "unauthorized"
        assert (await amy.ask("refresh", token=token("user:amy", tenant=TWIN)))["code"] == "unauthorized"
        async with wire_client(pair.twin.url) as other:
            assert (await other.ask("resume", resume=access, streams={}))["code"] == "resume_rejected"
            await other.say("hello", token=resume)
            assert (await other.closed())[0] == 4501
    assert SECRETS.resume_keys.keys().isdisjoint(SECRETS.token_secrets)


@pytest.mark.parametrize("scope", ["principal", "token", "session"])
async def test_an_admin_cannot_revoke_what_is_another_tenant_s(pair: Pair, scope: str) -> None:
    """It names the very session, token and principal of the other; what it revokes is its own of that name, so nothing."""
    access = token("user:amy")
    async with wire_client(pair.demo.url) as amy:
        welcome = await amy.ask("hello", token=access, streams={HALL: {}})
        connection = next(iter(pair.demo.node.shard.connections.values()))
        connection.token_id = "t-1"
        value = {"principal": "user:amy", "session": welcome["session"], "token": "t-1"}[scope]
        directory, revoking = pair.twin.directory, pair.twin.node.revoking
        assert directory is not None
        assert revoking is not None
        note, now_ms = Note("user:root", b"{}"), int(time.time() * 1000) + 1_000
        revoking.made(
            await directory.revoke(TWIN, scope, value, at_ms=now_ms, until_ms=None, reason="spite", note=note)
        )
        await until(lambda: all(len(node.node.gatekeeper.revocations) for node in pair.nodes))
        assert (await amy.send(HALL, "untouched"))["op"] == "ok"
        assert (await amy.ask("refresh", token=access))["op"] == "ok"
