"""gateway.opening: what a position means, and welcomes that are true although the world moved while the log was asked."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import open_websocket_url

from core.limits import Limits
from core.stream import Stream
from gateway.opening import AT_HEAD, Position, parse_position, start
from store.memory import MemoryLog
from tests.nodes import TestNode, memory_log, serving_node, token, until
from tests.wire_client import Frame, WireClient, hello, wire_client


@pytest.mark.parametrize(
    ("spec", "position"),
    [
        ({}, AT_HEAD),
        ({"after": None}, AT_HEAD),
        ({"after": 0}, Position(after=0)),
        ({"last": 20, "more": 1}, Position(last=20)),
        ({"after": 1, "last": 1}, "after, last: one of them, not both"),
        ({"after": -1}, "after, last: an integer from 0"),
        ({"after": True}, "after, last: an integer from 0"),
        ({"last": "2"}, "after, last: an integer from 0"),
        ({"last": 2**60}, "after, last: an integer from 0"),
    ],
)
def test_positions(spec: dict[str, Any], position: Position | str) -> None:
    """after, last, or neither; anything else is said to be wrong."""
    assert parse_position(spec) == position


def test_where_a_position_starts() -> None:
    """``last`` reaches back no further than what is kept, nor before the first event."""
    stream = Stream("demo", "chat:a", 1, 0, 10, 4, False)
    assert start(stream, Position(after=99)) == 99
    assert start(stream, AT_HEAD) == 10
    assert start(stream, Position(last=2)) == 8
    assert start(stream, Position(last=50)) == 3
    assert start(Stream("demo", "chat:a", 1, 0, 0, 1, False), Position(last=5)) == 0


def meanwhile(log: MemoryLog, act: Any) -> None:
    """Let ``act`` happen while the next question about streams is on its way back."""
    ask = log.open_streams

    async def open_streams(asked: Any) -> Any:
        facts = await ask(asked)
        log.open_streams = ask  # type: ignore[method-assign]
        await act()
        return facts

    log.open_streams = open_streams  # type: ignore[method-assign]


async def warm(node: TestNode) -> None:
    """The node knows chat:warm and amy's role there; chat:cold it has to ask about."""
    await node.stream("chat:warm", open=False, members={"user:amy": "member"})
    await node.stream("chat:cold")
    async with hello(node.url, "user:amy", {"chat:warm": {}}):
        pass


BOTH: dict[str, Any] = {"chat:warm": {"after": 0}, "chat:cold": {}}


async def test_a_role_that_changed_while_the_log_was_asked_is_asked_again() -> None:
    """Promoted during the hello: the welcome used to say forbidden, because the old role was gone and the new unknown."""
    log = memory_log()
    async with serving_node(log) as node:
        await warm(node)

        async def promote() -> None:
            event = await log.put_member("demo", "chat:warm", "user:amy", "owner", "service:x")
            assert event is not None
            node.node.show(event)

        meanwhile(log, promote)
        async with hello(node.url, "user:amy", BOTH) as amy:
            assert amy.seen[0]["streams"]["chat:warm"] == {"head": 1, "after": 0}
            assert (await amy.next("event"))["type"] == "member.role"


async def test_removed_while_the_log_was_asked() -> None:
    """Removed during the hello: forbidden, and no event of that stream."""
    log = memory_log()
    async with serving_node(log) as node:
        await warm(node)

        async def remove() -> None:
            node.node.show(await log.remove_member("demo", "chat:warm", "user:amy", "service:x"))

        meanwhile(log, remove)
        async with hello(node.url, "user:amy", BOTH) as amy:
            assert amy.seen[0]["streams"] == {"chat:warm": {"error": "forbidden"}, "chat:cold": {"head": 0, "after": 0}}


async def test_a_stream_let_go_while_the_log_was_asked_is_asked_for() -> None:
    """Evicted during the hello: the welcome used to call it not found."""
    log = memory_log()
    async with serving_node(log, replace(Limits(), presence_grace_s=0.0, signal_flush_s=0.001)) as node:
        await warm(node)

        async def forget() -> None:
            node.node.hub.signals.tick(1e12)
            node.node.hub.evict(1e12)
            assert ("demo", "chat:warm") not in node.node.hub.by_name

        meanwhile(log, forget)
        async with hello(node.url, "user:amy", BOTH) as amy:
            assert amy.seen[0]["streams"] == {
                "chat:warm": {"head": 0, "after": 0},
                "chat:cold": {"head": 0, "after": 0},
            }


async def test_a_membership_that_never_rests_ends_as_unavailable() -> None:
    """Every answer is overtaken: after some tries the client is told to come back."""
    log = memory_log()
    async with serving_node(log) as node:
        await warm(node)
        role = iter(["owner", "member"] * 50)

        async def change() -> None:
            event = await log.put_member("demo", "chat:warm", "user:amy", next(role), "service:x")
            assert event is not None
            node.node.show(event)
            meanwhile(log, change)

        meanwhile(log, change)
        async with wire_client(node.url) as client:
            await client.say("hello", token=token("user:amy"), streams=BOTH)
            assert (await client.closed())[0] == 4006


async def test_a_cursor_that_this_node_has_not_heard_of_is_asked_about() -> None:
    """Committed elsewhere a moment ago: the log knows it, so it is no cursor beyond head and no reset."""
    log = memory_log()
    async with serving_node(log) as here, serving_node(log) as there:
        await here.stream("chat:ops")
        async with (
            hello(here.url, "user:amy", {"chat:ops": {}}),
            hello(there.url, "user:amy", {"chat:ops": {}}) as amy,
        ):
            for n in range(3):
                await amy.send("chat:ops", f"{n}")
            for who in ("user:amy", "user:bob"):  # amy is known here already
                async with hello(here.url, who, {"chat:ops": {"after": 2}}) as late:
                    assert late.seen[0]["streams"]["chat:ops"]["after"] == 2
                    assert (await late.next("event"))["seq"] == 3
                    ok = await late.ask("sub", stream="chat:ops", after=3)
                    assert ok["after"] == 3
                    assert not [frame for frame in late.seen if frame["op"] == "reset"]


async def test_an_authorization_header_stands_in_for_the_token() -> None:
    """Bearer in the upgrade is enough; another scheme is not."""
    async with serving_node() as node:
        for scheme, op in (("Bearer", "welcome"), ("bearer", "welcome"), ("Basic", "bye")):
            headers = [("Authorization", f"{scheme} {token()}")]
            async with open_websocket_url(node.url, extra_headers=headers) as websocket:
                client = WireClient(websocket)
                await client.say("hello")
                assert (await client.next())["op"] == op
                if op == "bye":
                    assert (await client.closed())[0] == 4501
                await websocket.aclose()
                await websocket._close_stream()


# Resuming


async def resume(client: WireClient, welcome: Frame, **fields: Any) -> Frame:
    return await client.ask("resume", **{"resume": welcome["resume"], "log": welcome["log"], "streams": {}, **fields})


async def test_each_cursor_is_judged_for_itself() -> None:
    """A number, or a position as in a hello. What is neither is a bad request, and the rest resumes."""
    async with serving_node() as node:
        names = [f"chat:s{n}" for n in range(4)]
        for name in names:
            await node.stream(name)
        async with hello(node.url, "user:amy", {name: {} for name in names}) as amy:
            welcome = amy.seen[0]
            for name in names:
                for text in ("one", "two"):
                    await amy.send(name, text)
        await node.restart()
        wanted = {
            "no stream": 1,  # what stands behind it is asked for all the same
            names[0]: 0,
            names[1]: {"after": 1},
            names[2]: {"last": 1},
            names[3]: {},
            "chat:none": 0,
            "chat:minus": -1,
            "chat:bool": True,
            "chat:float": 1.0,
            "chat:text": "1",
            "chat:null": None,
            "chat:both": {"after": 1, "last": 1},
        }
        async with wire_client(node.url) as again:
            answer = await resume(again, welcome, streams=wanted)
            assert answer["streams"] == {
                names[0]: {"head": 2, "after": 0},
                names[1]: {"head": 2, "after": 1},
                names[2]: {"head": 2, "after": 1},
                names[3]: {"head": 2, "after": 2},
                "chat:none": {"error": "not_found"},
                **{name: {"error": "bad_request"} for name in ("no stream", *[*wanted][6:])},
            }
            got = [((await again.next("event"))["stream"]) for _ in range(4)]
            assert sorted(got) == [names[0], names[0], names[1], names[2]]


async def test_a_welcome_says_everything_a_client_needs() -> None:
    """Who it is, where its log is, the next token and its time, the limits; of a resume, that it is one."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {"last": 3}}) as amy:
            first = amy.seen[0]
        async with wire_client(node.url) as again:
            second = await resume(again, first, streams={"chat:ops": 0})
        for welcome in (first, second):
            assert {
                name: value for name, value in welcome.items() if name not in ("resume", "time", "expires", "resumed")
            } == {
                "op": "welcome",
                "id": 1,
                "session": first["session"],
                "principal": "user:amy",
                "log": node.node.epoch.log,
                "resume_ttl": 300,
                "heartbeat": 25,
                "limits": {"frame": 65_536, "streams": 1_000},
                "streams": {"chat:ops": {"head": 0, "after": 0}},
            }
            said = datetime.fromisoformat(welcome["time"])
            assert abs(said.timestamp() - time.time()) < 600
        assert ("resumed" in first, second["resumed"], first["resume"] != second["resume"]) == (False, True, True)


async def test_cursors_that_cannot_be_honoured_are_said_in_the_welcome() -> None:
    """Past head, before what is kept, of another epoch: everything from what is kept follows, and `after` says so. A
    position that is no cursor is of no epoch."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            welcome = amy.seen[0]
            for n in range(5):
                await amy.send("chat:ops", f"{n}")
        await node.log.trim("demo", "chat:ops", 3)
        await node.restart()
        for log, spec, after, reason in (
            (welcome["log"], 1, 2, "trimmed"),
            (welcome["log"], 2, 2, None),
            (welcome["log"], 5, 5, None),
            (welcome["log"], 6, 2, "ahead"),
            (None, 4, 4, None),
            (7, 4, 4, None),
            ("another", 4, 2, "epoch"),
            ("another", {"last": 1}, 4, None),
            ("another", {}, 5, None),
        ):
            async with wire_client(node.url) as again:
                welcome = await resume(again, welcome, log=log, streams={"chat:ops": spec})
                assert welcome["streams"] == {"chat:ops": {"head": 5, "after": after}}, (log, spec)
                if reason is not None:
                    reset = await again.next("reset")
                    assert (reset["reason"], reset["first"], reset["head"]) == (reason, 3, 5)
                if after < 5:
                    assert [event["seq"] for event in await again.events("chat:ops", 5)] == list(range(after + 1, 6))
                assert not [frame for frame in again.seen if frame["op"] == "reset"][reason is not None :]


async def test_a_resume_that_is_refused_says_why() -> None:
    """No id, open already, no token of ours, used before, expired, a list where an object is due, too many streams."""
    limits = replace(Limits(), streams_per_connection_max=2)
    async with serving_node(limits=limits) as node:
        async with hello(node.url, "user:amy") as amy:
            first = amy.seen[0]
            refused = await resume(amy, first)
            assert (refused["code"], refused["message"]) == ("bad_request", "this connection is open already")
        async with wire_client(node.url) as client:
            await client.raw('{"op":"resume"}')
            refused = await client.next("error")
            assert (refused["code"], refused["message"]) == ("bad_request", "id: a resume needs one for its answer")
            for fields, code, message in (
                ({"resume": "x"}, "resume_rejected", "not a resume token"),
                ({"streams": []}, "bad_request", 'streams: an object such as {"chat:ops": …}'),
                ({"streams": {f"chat:{n}": 0 for n in range(3)}}, "bad_request", "streams: at most 2"),
            ):
                refused = await resume(client, first, **fields)
                assert (refused["code"], refused["message"]) == (code, message)
            second = await resume(client, first, streams={f"chat:{n}": 0 for n in range(2)})
            assert second["op"] == "welcome"
        async with wire_client(node.url) as client:
            refused = await resume(client, first)
            assert (refused["code"], refused["message"]) == ("resume_rejected", "used before")
            node.node.wall = lambda: time.time() + 301  # type: ignore[method-assign]
            refused = await resume(client, second)
            assert (refused["code"], refused["message"]) == ("resume_rejected", "expired")


async def test_used_while_the_log_was_asked_is_refused_in_words() -> None:
    """Two connections with one token wait for the log: the slower is told that it was used before."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            first = amy.seen[0]
        answers = trio.Event()
        node.log._pause = answers.wait  # type: ignore[attr-defined]
        async with wire_client(node.url) as one, wire_client(node.url) as two:
            for client in (one, two):
                await client.say("resume", resume=first["resume"], log=first["log"], streams={"chat:ops": 0})
            await wait_all_tasks_blocked(0.01)
            answers.set()
            said = [await client.next(id=1) for client in (one, two)]
            (refused,) = [frame for frame in said if frame["op"] == "error"]
            assert (refused["code"], refused["message"]) == ("resume_rejected", "used before")


async def test_a_node_that_leaves_while_the_log_is_asked_sends_away() -> None:
    """It began after everybody was told: its own time to come back, between one second and two."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        answers = trio.Event()
        node.log._pause = answers.wait  # type: ignore[attr-defined]
        async with wire_client(node.url) as client:
            await client.say("hello", token=token(), streams={"chat:ops": {}})
            await wait_all_tasks_blocked(0.01)
            node.node.uniform = lambda: 0.25
            node.node.draining = True
            answers.set()
            assert (await client.closed())[0] == 4001
            bye = await client.next("bye")
            assert (bye["code"], bye["reason"], bye["retry_after"]) == ("draining", "this node is going away", 1.25)
            node.node.draining = False


def work_in_hand(node: TestNode) -> int:
    """What the door holds of openings, once it has looked."""
    node.node.door.sweep(trio.current_time())
    return node.node.door._admission.work


async def test_a_log_that_is_away_says_when_to_come_back() -> None:
    """The reason fits the client, the time is the log's."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        node.log.fail_next("unavailable", "open_streams")  # type: ignore[attr-defined]
        async with wire_client(node.url) as client:
            await client.say("hello", token=token(), streams={"chat:ops": {}})
            assert (await client.closed())[0] == 4006
            bye = await client.next("bye")
            assert (bye["reason"], bye["retry_after"]) == ("the log cannot be reached now", 1.0)
            assert work_in_hand(node) == 0


async def test_who_left_while_the_log_was_asked_is_said_nothing() -> None:
    """No welcome, no session, and its place in the door is free again, whether the log answers or fails."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        for failing in (False, True):
            answers = trio.Event()
            node.log._pause = answers.wait  # type: ignore[attr-defined]
            async with wire_client(node.url) as client:
                await client.say("hello", token=token(), streams={"chat:ops": {}})
                await wait_all_tasks_blocked(0.01)
            await until(lambda: not node.node.shard.connections)
            if failing:
                node.log.fail_next("unavailable", "open_streams")  # type: ignore[attr-defined]
            assert work_in_hand(node) == 1
            answers.set()
            await until(lambda: work_in_hand(node) == 0)
            assert (len(node.node.sessions), node.node.measures.opened) == (0, 0)
            node.node.hub.evict(1e12)


async def test_what_needs_neither_log_nor_bus_is_answered_in_the_turn_that_read_it() -> None:
    """All is known here: no task is started for it, for a hello or a resume."""

    def wait_for(*arguments: object) -> None:
        raise AssertionError("nothing to wait for")

    async with serving_node() as node:
        await warm(node)
        node.node.shard.wait_for = wait_for  # type: ignore[method-assign]
        async with hello(node.url, "user:amy", {"chat:warm": {}}) as amy:
            welcome = amy.seen[0]
        async with wire_client(node.url) as again:
            assert (await resume(again, welcome, streams={"chat:warm": 0}))["resumed"] is True


async def test_a_token_that_was_used_while_its_resume_stood_in_line_is_refused() -> None:
    """Two with one token wait at the door; the first is welcomed, the second told, and may say hello instead."""
    limits = replace(Limits(), opening_work_max=1)
    async with serving_node(limits=limits) as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy") as amy:
            first = amy.seen[0]
        answers = trio.Event()
        node.log._pause = answers.wait  # type: ignore[attr-defined]
        async with wire_client(node.url) as slow, wire_client(node.url) as one, wire_client(node.url) as two:
            await slow.say("hello", token=token("user:bob"), streams={"chat:ops": {}})
            await wait_all_tasks_blocked(0.01)
            for client in (one, two):
                await client.say("resume", resume=first["resume"], log=first["log"], streams={})
                await wait_all_tasks_blocked(0.002)
            assert node.node.door._admission.waiting == 2
            answers.set()
            assert (await slow.next(id=1))["op"] == "welcome"
            assert (await one.next(id=1))["op"] == "welcome"
            refused = await two.next(id=1)
            assert (refused["op"], refused["code"], refused["message"]) == ("error", "resume_rejected", "used before")
            assert (await two.ask("hello", token=token()))["op"] == "welcome"


async def test_a_tenants_admin_opens_what_it_is_no_member_of() -> None:
    """The role is in the token, and in the resume token after it."""
    async with serving_node() as node:
        await node.stream("chat:crew", open=False)
        async with hello(node.url, "user:root", {"chat:crew": {}}, roles=["admin"]) as root:
            welcome = root.seen[0]
            assert welcome["streams"] == {"chat:crew": {"head": 0, "after": 0}}
        async with wire_client(node.url) as again:
            answer = await resume(again, welcome, streams={"chat:crew": 0})
            assert answer["streams"] == {"chat:crew": {"head": 0, "after": 0}}


async def test_who_comes_learns_who_types_and_since_when() -> None:
    """What is latest follows the welcome, with its age on the node's clock."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with hello(node.url, "user:amy", {"chat:ops": {}}) as amy:
            await amy.ask("signal", stream="chat:ops", kind="typing", value=True)
            async with hello(node.url, "user:bob", {"chat:ops": {}}) as bob:
                signal = await bob.next("signal", kind="typing")
                assert (signal["by"], signal["value"]) == ("user:amy", True)
                assert 0.0 <= signal["age"] < 60.0
