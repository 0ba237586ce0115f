"""Streams over real sockets: where a cursor starts, what a send may say, how history is paged."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from core.limits import Limits
from core.tokens import Identity
from tests.nodes import serving_node, token
from tests.wire_client import Frame, hello


def ref(seq: int, **fields: Any) -> Frame:
    return {"ref": seq, **fields}


async def test_each_position_means_what_it_says() -> None:
    """after, last and {} start where the contract says, in a hello and in a sub; what is past them follows, gap-free."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            for n in range(5):
                await amy.send("chat:ops", f"{n}")
            head = 5
            for position, after in (({"after": 3}, 3), ({"last": 2}, head - 2), ({"last": 99}, 0), ({"after": 0}, 0)):
                async with hello(node.url, "user:bob", {"chat:ops": position}) as bob:
                    assert bob.seen[0]["streams"] == {"chat:ops": {"head": head, "after": after}}
                    assert [e["seq"] for e in await bob.events("chat:ops", head)] == list(range(after + 1, head + 1))
                    again = await bob.ask("sub", stream="chat:ops", **position)
                    assert (again["head"], again["after"]) == (head, after)
                    assert [e["seq"] for e in await bob.events("chat:ops", head)] == list(range(after + 1, head + 1))
            async with hello(node.url, "user:bob", {"chat:ops": {}}) as bob:
                assert bob.seen[0]["streams"] == {"chat:ops": {"head": head, "after": head}}
                assert (await amy.send("chat:ops", "six"))["seq"] == 6
                assert (await bob.next("event"))["seq"] == 6
                ok = await bob.ask("sub", stream="chat:ops")
                assert (ok["head"], ok["after"]) == (6, 6)


async def test_every_stream_of_a_hello_has_its_own_answer() -> None:
    """Forbidden, unknown and malformed streams are errors of their own; the rest is followed."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        await node.stream("chat:closed", open=False)
        await node.stream("chat:theirs", tenant="other")
        wanted = {
            "chat:ops": {"after": 0},
            "chat:closed": {},
            "chat:none": {},
            "chat:theirs": {},
            "user:bob": {},
            "user:amy": {},
            "room:x": {},
            "chat:ops2": {"after": 1, "last": 1},
            "chat:ops3": {"after": -1},
            "chat:ops4": 7,
        }
        async with hello(node.url, "user:amy", wanted) as amy:
            assert amy.seen[0]["streams"] == {
                "chat:ops": {"head": 0, "after": 0},
                "chat:closed": {"error": "forbidden"},
                "chat:none": {"error": "not_found"},
                "chat:theirs": {"error": "not_found"},
                "user:bob": {"error": "not_found"},
                "user:amy": {"head": 0, "after": 0},
                "room:x": {"error": "bad_request"},
                "chat:ops2": {"error": "bad_request"},
                "chat:ops3": {"error": "bad_request"},
                "chat:ops4": {"error": "bad_request"},
            }
            assert (await amy.ask("sub", stream="chat:closed"))["code"] == "forbidden"
            assert (await amy.ask("sub", stream="chat:none"))["code"] == "not_found"
            assert (await amy.ask("sub", stream="chat:ops", after=-1))["code"] == "bad_request"
            assert (await amy.ask("unsub", stream="chat:closed"))["code"] == "not_found"


async def test_a_cursor_beyond_head_is_reset() -> None:
    """Ahead of the log: told so, and everything from first follows. The welcome and the ok say the same start."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            await amy.send("chat:ops", "one")
            async with hello(node.url, "user:bob", {"chat:ops": {"after": 99}}) as bob:
                assert bob.seen[0]["streams"]["chat:ops"] == {"head": 1, "after": 0}
                reset = await bob.next("reset")
                assert (reset["reason"], reset["first"], reset["head"]) == ("ahead", 1, 1)
                assert (await bob.next("event"))["seq"] == 1
                ok = await bob.ask("sub", stream="chat:ops", after=7)
                assert (ok["head"], ok["after"]) == (1, 0)
                assert (await bob.next("reset"))["first"] == 1
                assert (await bob.next("event"))["seq"] == 1


async def test_a_cursor_before_what_is_kept_is_reset() -> None:
    """Trimmed: told where it begins now, by hello, by sub and for who lags."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "service:ops", roles=["admin"]) as ops:
            for n in range(5):
                await ops.send("chat:ops", f"{n}")
            identity = node.node.proving.verify(token("service:ops", roles=["admin"]))
            assert isinstance(identity, Identity)
            assert await node.desk.trim(identity, "chat:ops", 4) == 4
            async with hello(node.url, "user:bob", {"chat:ops": {"after": 1}}) as bob:
                assert bob.seen[0]["streams"]["chat:ops"] == {"head": 5, "after": 3}
                reset = await bob.next("reset")
                assert (reset["reason"], reset["first"], reset["head"]) == ("trimmed", 4, 5)
                assert [e["seq"] for e in await bob.events("chat:ops", 5)] == [4, 5]
                history = await bob.ask("history", stream="chat:ops")
                assert ([e["seq"] for e in history["events"]], history["first"]) == ([4, 5], 4)
                missing = await bob.send("chat:ops", "", type="react", body=ref(2, emoji="+1", on=True))
                assert missing["code"] == "not_found"


async def test_expect_and_conflict() -> None:
    """Appended only if head is what the sender saw; else the head is told."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            assert (await amy.send("chat:ops", "one", expect=0))["seq"] == 1
            conflict = await amy.send("chat:ops", "two", expect=0)
            assert (conflict["code"], conflict["head"]) == ("conflict", 1)
            assert (await amy.send("chat:ops", "two", expect=1))["seq"] == 2
            bad = await amy.send("chat:ops", "x", expect="2")
            assert bad["code"] == "bad_request"


async def test_a_key_lands_once_whoever_repeats_it() -> None:
    """The same key from another connection, in capitals too, answers the first seq; subscribers see one event."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        key = str(uuid.uuid4())
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            first = await amy.send("chat:ops", "one", key=key)
            assert (first["seq"], first["dup"]) == (1, False)
            async with hello(node.url, "user:amy") as again:
                dup = await again.send("chat:ops", "one", key=key.upper())
                assert (dup["seq"], dup["dup"], dup["at"]) == (1, True, first["at"])
            await amy.send("chat:ops", "two")
            assert [e["seq"] for e in await amy.events("chat:ops", 2)] == [1, 2]


async def test_edit_delete_and_react_know_whose_they_are() -> None:
    """One edits one's own; deleting another's is for owners and admins; everybody reacts; a ref must be kept."""
    async with serving_node() as node:
        await node.stream("chat:ops", members={"user:olga": "owner", "user:rex": "reader"})
        async with (
            hello(node.url, "user:amy") as amy,
            hello(node.url, "user:bob") as bob,
            hello(node.url, "user:olga") as olga,
            hello(node.url, "service:x", roles=["admin"]) as admin,
            hello(node.url, "user:rex") as rex,
        ):
            for n in range(4):
                await amy.send("chat:ops", f"{n}")

            async def code(who: Any, type: str, body: object) -> object:
                answer = await who.send("chat:ops", "", type=type, body=body)
                return answer.get("code", answer["op"])

            assert await code(amy, "edit", ref(1, text="new")) == "ok"
            assert await code(bob, "edit", ref(1, text="no")) == "forbidden"
            assert await code(olga, "edit", ref(1, text="no")) == "forbidden"
            assert await code(bob, "delete", ref(2)) == "forbidden"
            assert await code(amy, "delete", ref(2)) == "ok"
            assert await code(olga, "delete", ref(3)) == "ok"
            assert await code(admin, "delete", ref(4)) == "ok"
            assert await code(bob, "react", ref(1, emoji="+1", on=True)) == "ok"
            assert await code(bob, "react", ref(99, emoji="+1", on=True)) == "not_found"
            assert await code(bob, "react", ref(1, emoji="", on=True)) == "bad_request"
            assert await code(bob, "react", ref(1, emoji="+1")) == "bad_request"
            assert await code(bob, "edit", {"text": "no ref"}) == "bad_request"
            assert await code(bob, "edit", "no object") == "bad_request"
            assert await code(bob, "member.joined", {"principal": "user:eve"}) == "forbidden"
            assert await code(rex, "message", {"text": "no"}) == "forbidden"
            assert await code(rex, "react", ref(1, emoji="+1", on=True)) == "forbidden"


async def test_history_goes_back_page_by_page() -> None:
    """Newest first without ``before``; each page ends before the last one's first; ascending within."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            for n in range(7):
                await amy.send("chat:ops", f"{n}")
            seen: list[int] = []
            before: dict[str, int] = {}
            while not seen or seen[0] > 1:
                page = await amy.ask("history", stream="chat:ops", limit=3, **before)
                seqs = [event["seq"] for event in page["events"]]
                assert len(seqs) <= 3
                seen = seqs + seen
                before = {"before": seen[0]}
            assert seen == list(range(1, 8))
            assert (await amy.ask("history", stream="chat:ops", before=1))["events"] == []
            for bad in ({"limit": 0}, {"limit": 501}, {"before": 0}, {"before": "x"}, {"limit": True}):
                assert (await amy.ask("history", stream="chat:ops", **bad))["code"] == "bad_request"
            assert (await amy.ask("history", stream="chat:none"))["code"] == "not_found"
            assert (await amy.ask("history", stream="nope"))["code"] == "bad_request"


async def test_a_page_of_large_events_fits_in_a_frame() -> None:
    """What does not fit is left for the next page; the newest come first."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            for n in range(4):
                await amy.send("chat:ops", f"{n}" * 30_000)
            page = await amy.ask("history", stream="chat:ops")
            assert [event["seq"] for event in page["events"]] == [3, 4]
            large = await amy.send("chat:ops", "x" * 50_000)
            assert large["code"] == "too_large"


@pytest.mark.parametrize("streams_max", [2])
async def test_limits_are_told_and_kept(streams_max: int) -> None:
    """The welcome tells the limits; past them a sub and a hello are refused."""
    limits = replace(Limits(), streams_per_connection_max=streams_max)
    async with serving_node(limits=limits) as node:
        for name in ("chat:a", "chat:b", "chat:c"):
            await node.stream(name)
        async with hello(node.url, "user:amy", {"chat:a": {}, "chat:b": {}}) as amy:
            welcome = amy.seen[0]
            assert welcome["limits"] == {"frame": limits.frame_bytes_max, "streams": streams_max}
            assert (welcome["heartbeat"], welcome["resume_ttl"]) == (25, 300)
            assert (await amy.ask("sub", stream="chat:c"))["code"] == "rate_limited"
            await amy.ask("unsub", stream="chat:a")
            assert (await amy.ask("sub", stream="chat:c"))["op"] == "ok"
