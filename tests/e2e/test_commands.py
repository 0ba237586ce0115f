"""Commands over real sockets and HTTP: kept whole, refused with a reason, answered the same when repeated, raced in order."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
import trio

from core.flight.registry import machine_of
from core.limits import Limits
from core.tokens import Identity
from gateway.service import WireError
from tests.nodes import memory_log, serving_cluster, serving_node, until
from tests.wire_client import Frame, WireClient, hello

FLIGHT = "flight:QX12-20261121"
CREW = {"user:amy": "owner", "user:bob": "member", "user:eve": "reader"}


def key() -> str:
    return str(uuid.uuid4())


def due(hours: int = 1) -> str:
    return f"2027-01-01T{hours:02}:00:00.000Z"


async def command(client: WireClient, type: str, body: dict[str, Any] | None = None, **fields: Any) -> Frame:
    fields = {"key": key(), "stream": FLIGHT, "body": body or {}, **fields}
    return await client.ask("command", type=type, **fields)


async def set_timer(client: WireClient, name: str, hours: int = 1, **fields: Any) -> Frame:
    return await command(client, "timer.set", {"name": name, "due": due(hours)}, **fields)


AMY = Identity("demo", "user:amy", frozenset(), 2e9)


async def test_a_command_becomes_events_that_subscribers_get() -> None:
    """The answer names their seqs; who follows the stream gets them as any event, in order with the chat about the flight."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy", {FLIGHT: {}}) as amy, hello(node.url, "user:eve", {FLIGHT: {}}) as eve:
            await amy.send(FLIGHT, "about to set one")
            ok = await set_timer(amy, "remind")
            assert (ok["op"], ok["stream"], ok["seqs"], ok["dup"]) == ("ok", FLIGHT, [2], False)
            await amy.send(FLIGHT, "done")
            events = await eve.events(FLIGHT, 3)
            assert [(event["seq"], event["type"]) for event in events] == [
                (1, "message"),
                (2, "timer.set"),
                (3, "message"),
            ]
            assert events[1]["body"] == {"name": "remind", "due": due()}
            assert (events[1]["by"], events[1]["at"]) == ("user:amy", ok["at"])


async def test_a_repeated_key_is_answered_what_was_answered_first() -> None:
    """Obeyed or refused, and whatever has become of the flight meanwhile; nothing happens twice."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            obeyed, refused = key(), key()
            first = await set_timer(amy, "remind", key=obeyed)
            no = await command(amy, "timer.cancel", {"name": "other"}, key=refused)
            assert (no["code"], no["reason"]) == ("rejected", "timer_gone")
            assert "dup" not in no
            await set_timer(amy, "other")
            again = await set_timer(amy, "remind", 9, key=obeyed)
            assert again == {**first, "id": again["id"], "dup": True}
            no_again = await command(amy, "timer.cancel", {"name": "other"}, key=refused)
            assert no_again == {**no, "id": no_again["id"], "dup": True}
            assert (await amy.ask("sub", stream=FLIGHT))["head"] == 2


async def test_expect_is_the_head_one_saw() -> None:
    """A command on a head that is no longer so is a conflict that names the head, and leaves nothing behind."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            assert (await set_timer(amy, "a", expect=0))["seqs"] == [1]
            await amy.send(FLIGHT, "chat moves the head, too")
            again = key()
            late = await set_timer(amy, "b", expect=1, key=again)
            assert (late["code"], late["head"]) == ("conflict", 2)
            assert (await set_timer(amy, "b", expect=2, key=again))["seqs"] == [3]


async def test_chat_does_not_disturb_what_is_decided() -> None:
    """Commands without expect are decided on the flight's own events: a lively chat makes nobody decide anew."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            for n in range(5):
                await amy.say("send", stream=FLIGHT, key=key(), body={"n": n})
                await set_timer(amy, f"t{n}")
            assert node.node.commander.stale == 0


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"type": "dance"}, "bad_request", "no command 'dance'"),
        ({"type": "timer.set"}, "bad_request", "`name`"),
        ({"type": "timer.fire", "body": {"name": "x", "fence": 1}}, "forbidden", "by the gateway"),
        ({"type": None}, "bad_request", "type"),
        ({"type": "Depart!"}, "bad_request", "type"),
        ({"key": "seven"}, "bad_request", "key"),
        ({"expect": -1}, "bad_request", "expect"),
        ({"body": [1]}, "bad_request", "body"),
        ({"body": {"name": "x" * 60_000}}, "too_large", "body"),
        ({"stream": "chat:ops"}, "not_found", "takes no commands"),
        ({"stream": "flight:board"}, "not_found", "takes no commands"),
        ({"stream": "flight:none"}, "not_found", "no stream"),
        ({"stream": 7}, "bad_request", "stream"),
    ],
)
async def test_a_command_that_makes_no_sense_is_told_what_is_wrong(fields: Frame, code: str, said: str) -> None:
    """It names the field or what there is; nothing is written, and the connection goes on."""
    async with serving_node() as node:
        for stream in (FLIGHT, "chat:ops", "flight:board"):
            await node.stream(stream, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            wanted = {"type": "timer.set", "key": key(), "stream": FLIGHT, "body": {}, **fields}
            no = await amy.ask("command", **wanted)
            assert (no["op"], no["code"]) == ("error", code)
            assert said in no["message"]
            assert (
                node.node.hub.by_name["demo", FLIGHT].head == 0 if ("demo", FLIGHT) in node.node.hub.by_name else True
            )
            assert (await set_timer(amy, "fine"))["seqs"] == [1]


async def test_who_may_not_is_refused() -> None:
    """A reader gives no commands, a stranger none, a member none that are an owner's; nobody sends what commands become."""
    async with serving_node() as node:
        await node.stream(FLIGHT, open=False, members=CREW)
        for who, said in (("user:eve", "only reads"), ("user:zoe", "not a member"), ("user:bob", "for owners")):
            async with hello(node.url, who) as client:
                no = await set_timer(client, "x")
                assert (no["code"], said in no["message"]) == ("forbidden", True), no
        async with hello(node.url, "user:amy") as client:
            no = await client.send(FLIGHT, "", type="flight.departed")
            assert (no["code"], no["message"]) == ("forbidden", "flight.* events are made by commands")


async def test_commands_to_one_flight_from_two_nodes_are_each_decided_on_the_latest() -> None:
    """Whatever node they come to: none is lost, none decided on a state that the other had changed."""
    async with serving_cluster(2) as nodes:
        await nodes[0].stream(FLIGHT, members=CREW)
        async with hello(nodes[0].url, "user:amy") as one, hello(nodes[1].url, "user:amy") as two:
            answers: list[Frame] = []

            async def give(client: WireClient, name: str) -> None:
                for n in range(12):
                    answers.append(await set_timer(client, f"{name}{n}"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(give, one, "a")
                nursery.start_soon(give, two, "b")
            assert sorted(answer["seqs"][0] for answer in answers) == list(range(1, 25))
            last = await set_timer(two, "a0", 5)
            assert last["seqs"] == [25]
        assert sum(node.node.commander.stale for node in nodes) > 0
        assert len(await nodes[0].log.ruled("demo", 1, 0, 100)) == 25


async def test_many_on_one_connection_are_answered_in_their_order() -> None:
    """Commands of one flight wait for each other without a round trip of the client's; those of others pass."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            ids = [
                await amy.say(
                    "command", stream=FLIGHT, type="timer.set", key=key(), body={"name": f"t{n}", "due": due()}
                )
                for n in range(60)
            ]
            got = [await amy.next(id=id) for id in ids]
            assert [answer["seqs"] for answer in got] == [[n] for n in range(1, 61)]


async def test_too_many_of_one_flight_are_told_to_wait() -> None:
    """One flight's commands have a bound of their own."""
    log = memory_log()
    async with serving_node(log, replace(Limits(), commands_per_stream_max=3)) as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            await set_timer(amy, "first")
            committing = trio.Event()
            log._pause = committing.wait
            ids = [
                await amy.say(
                    "command", stream=FLIGHT, type="timer.set", key=key(), body={"name": f"t{n}", "due": due()}
                )
                for n in range(5)
            ]
            refused = [await amy.next(id=id) for id in ids[3:]]
            assert [(no["code"], no["retry_after"]) for no in refused] == [("overloaded", 0.2)] * 2
            committing.set()
            assert [(await amy.next(id=id))["seqs"] for id in ids[:3]] == [[2], [3], [4]]


async def test_an_answer_of_the_store_that_never_came_is_found_out_by_repeating() -> None:
    """Commit unknown: the sender is told to repeat with the same key, and it has happened once."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            for kind in ("unavailable", "unknown"):
                log.fail_next(kind, "command")  # type: ignore[arg-type]
                same = key()
                no = await set_timer(amy, kind, key=same)
                assert (no["code"], no["op"]) == ("unavailable", "error")
                ok = await set_timer(amy, kind, key=same)
                assert ok["dup"] == (kind == "unknown")
            log.fail_next("unavailable", "ruled")
            node.node.commander._books.clear()
            assert (await set_timer(amy, "later"))["code"] == "unavailable"
            assert (await set_timer(amy, "later"))["seqs"] == [3]


async def test_states_that_nobody_needs_are_let_go_and_folded_again() -> None:
    """A node remembers as many flights as its limit says, and what it forgot it reads."""
    async with serving_node(limits=replace(Limits(), commands_kept_max=2)) as node:
        flights = [f"flight:QX{n}" for n in range(4)]
        for flight in flights:
            await node.stream(flight, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            for turn in range(2):
                for flight in flights:
                    assert (await set_timer(amy, f"t{turn}", stream=flight))["seqs"] == [turn + 1]
            no = await set_timer(amy, "t0", stream=flights[0])
            assert no["reason"] == "unchanged"
        assert len(node.node.commander) == 2


async def test_the_same_over_http() -> None:
    """Commands given through the desk are the socket's: kept, refused, repeated, by the same rules."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        who, same = AMY, key()
        body = {"name": "remind", "due": due()}
        first = await node.desk.command(who, FLIGHT, key=same, type="timer.set", body=body, expect=0)
        again = await node.desk.command(who, FLIGHT, key=same, type="timer.set", body=body, expect=0)
        assert (list(first.seqs), first.dup, list(again.seqs), again.dup) == ([1], False, [1], True)
        refused = await node.desk.command(who, FLIGHT, key=key(), type="timer.set", body=body, expect=None)
        assert refused.refusal is not None
        assert refused.refusal.reason == "unchanged"
        with pytest.raises(WireError) as raised:
            await node.desk.command(who, FLIGHT, key=key(), type="timer.set", body=body, expect=0)
        assert (raised.value.code, raised.value.head) == ("conflict", 1)


async def test_a_drain_answers_what_was_taken() -> None:
    """Commands on their way when the node is told to end are committed and answered before the goodbye."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            ids = [
                await amy.say(
                    "command", stream=FLIGHT, type="timer.set", key=key(), body={"name": f"t{n}", "due": due()}
                )
                for n in range(20)
            ]
            await until(lambda: node.node.commander.given == 20)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.node.drain, 1.0)
                got = [await amy.next(id=id) for id in ids]
            assert [answer["seqs"] for answer in got] == [[n] for n in range(1, 21)]


async def test_a_flight_does_not_forget() -> None:
    """What a flight's state is folded from is not trimmed."""
    async with serving_node() as node:
        await node.stream(FLIGHT, members=CREW)
        who = Identity("demo", "user:root", frozenset({"admin"}), 2e9)
        with pytest.raises(WireError, match="they are kept"):
            await node.desk.trim(who, FLIGHT, 5)


async def test_a_machine_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in one flight's machine is told to whoever commands that flight; others, and the node, go on."""
    async with serving_node() as node:
        for flight in (FLIGHT, "flight:QX13"):
            await node.stream(flight, members=CREW)
        async with hello(node.url, "user:amy") as amy:
            assert (await set_timer(amy, "a"))["seqs"] == [1]
            machine = type(machine_of(FLIGHT))

            def broken(*_: object) -> None:
                raise KeyError("of ours")

            for method in ("decide", "evolve"):
                with monkeypatch.context() as patch:
                    patch.setattr(machine, method, broken)
                    node.node.commander._books.clear()
                    assert (await set_timer(amy, "b"))["code"] == "internal"
                    assert (await amy.ask("ping"))["op"] == "pong"
            assert (await set_timer(amy, "b"))["seqs"] == [2]
            with monkeypatch.context() as patch:
                patch.setattr(machine, "evolve", broken)
                assert (await set_timer(amy, "c"))["seqs"] == [3], "it was kept before it was folded"
            assert (await set_timer(amy, "c"))["reason"] == "unchanged"
            assert (await set_timer(amy, "a", stream="flight:QX13"))["seqs"] == [1]
