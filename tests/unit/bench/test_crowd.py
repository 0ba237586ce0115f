"""bench.gen.crowd: its clients do what the protocol asks of them, and their account holds what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from bench.gen.chat import places
from bench.gen.crowd import Client, Crowd
from bench.gen.dialect import Dialect
from bench.gen.link import monotonic_ns
from bench.gen.raw import GONE, OPEN, Swarm
from bench.gen.words import account

JOB = {"ports": [1, 2, 3], "payload": 40, "return_s": 1.0, "seed": 1, "connections": 1}
ROOM = b"chat:a"


class Told(Client):
    """Its connections are imagined: what it sends is kept, where it connects to as well."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd, Dialect(), 0, "token", ["chat:a"])
        self.sent: list[dict[str, Any]] = []
        self.dialled: list[tuple[int, dict[str, Any]]] = []

    def send(self, payload: bytes, opcode: int = 1) -> None:
        self.sent.append(orjson.loads(payload))

    def cut(self, *, reset: bool) -> None:
        self.state = GONE

    def connect(self) -> None:
        self.began_ns = monotonic_ns()
        self.dialled.append((self.port, orjson.loads(self.first_frame)))

    def welcomed(self, head: int = 10, **more: Any) -> None:
        self.state = OPEN
        place = {"head": head, "after": self.cursors.get(ROOM, head)}
        self.on_welcome({"principal": "user:b0", "log": "e", "resume": "r1", "streams": {"chat:a": place}, **more})

    def event(self, seq: int, key: str = "k") -> None:
        head = b'{"op":"event","stream":"chat:a","seq":%d,"type":"message","key":"%s-%d",' % (seq, key.encode(), seq)
        self.on_event(head + b'"by":"u","at":"x","body":{"t":%d,"text":""}}' % monotonic_ns())


def played(script: Callable[[Told, Crowd], None]) -> dict[str, Any]:
    """The account of one client that went through a script, having been let in at head 10."""

    async def play() -> dict[str, Any]:
        swarm = Swarm(1)
        crowd = Crowd(JOB, swarm)
        client = Told(crowd)
        crowd.clients.append(client)
        client.welcomed()
        script(client, crowd)
        told = account(crowd)
        swarm.close()
        return told

    return asyncio.run(play())


def at_once(crowd: Crowd) -> list[float]:
    """Timers fire now; the pauses that were asked for are kept."""
    pauses: list[float] = []

    def later(pause_s: float, call: Callable[..., None], *arguments: object) -> None:
        pauses.append(pause_s)
        call(*arguments)

    crowd.later = later  # type: ignore[method-assign]
    return pauses


def test_a_client_leaves_at_its_slot_and_resumes_at_another_node() -> None:
    """With the token that came with the drain, the cursors that it holds, and the slot counted for the node it left."""

    def script(client: Told, crowd: Crowd) -> None:
        pauses = at_once(crowd)
        client.event(11)
        client.on_answer(b'{"op":"drain","after_ms":1500,"resume":"r2"}')
        assert pauses == [1.5]
        ((port, opening),) = client.dialled
        assert port in (2, 3)
        assert opening == {"op": "resume", "id": 1, "resume": "r2", "log": "e", "streams": {"chat:a": 11}}
        client.welcomed(head=12, resumed=True)
        assert not crowd.returns, "not whole before what it missed has come"
        client.event(12)
        assert [left for left, _, _ in crowd.returns] == [1]

    told = played(script)
    assert (told["resumes"], told["lost"], told["duplicates"], told["not_whole"]) == (1, 0, 0, 0)
    assert (len(told["slots"]["1"]), len(told["begun"]["1"])) == (1, 1)


def test_a_slot_of_a_connection_that_is_gone_means_nothing() -> None:
    """The client came back by itself before; it does not leave its new node for the old one's drain."""

    def script(client: Told, crowd: Crowd) -> None:
        client.began_ns += 5
        client.leave(client.began_ns - 5)
        assert client.dialled == []

    played(script)


def test_what_was_not_answered_is_repeated_under_its_key() -> None:
    """A send whose connection went away with the answer."""

    def script(client: Told, crowd: Crowd) -> None:
        crowd.send_next(1)
        (first,) = client.sent
        client.state = GONE
        client.gone_ns, client.left = monotonic_ns(), 1
        client.welcomed()
        assert client.sent[1] == first
        client.on_answer(b'{"op":"ok","id":1,"stream":"chat:a","seq":11,"at":"x","dup":true}')
        assert not client.pending

    told = played(script)
    assert (told["sends"], told["answered"], told["repeats"], told["unanswered"]) == (1, 1, 1, 0)
    assert told["lost"] == 1, "acknowledged, and never delivered in this script"


def test_a_send_refused_for_now_is_repeated_when_the_server_says() -> None:
    """Not before, and a little after at random."""

    def script(client: Told, crowd: Crowd) -> None:
        crowd.send_next(1)
        pauses = at_once(crowd)
        client.on_answer(b'{"op":"error","id":1,"code":"overloaded","message":"x","retry_after":2.0}')
        assert 2.0 <= pauses[0] <= 3.0
        assert client.sent[0] == client.sent[1]

    assert played(script)["refused"] == {"overloaded": 1}


@pytest.mark.parametrize(
    ("reason", "least", "most"),
    [
        ("closed by the server", 0.0, 1.0),
        ("HTTP/1.1 503 Service Unavailable, Retry-After: 4", 4.0, 6.0),
        ('{"op":"bye","code":"overloaded","reason":"x","retry_after":0.5}', 0.5, 0.75),
    ],
)
def test_a_client_comes_back_when_it_was_asked_to(reason: str, least: float, most: float) -> None:
    """After what the server said, a little spread; at a moment of its own where it said nothing."""

    def script(client: Told, crowd: Crowd) -> None:
        pauses = at_once(crowd)
        client.state = GONE
        client.on_gone(reason)
        assert least <= pauses[0] <= most
        assert client.dialled[0][0] != 1

    assert played(script)["ended"] == {reason: 1}


def test_a_rejected_resume_becomes_a_hello_at_the_cursors() -> None:
    """Nothing is lost by it, and it is counted."""

    def script(client: Told, crowd: Crowd) -> None:
        at_once(crowd)
        client.event(11)
        client.state = GONE
        client.on_gone('{"op":"error","id":1,"code":"resume_rejected","message":"used"}')
        opening = client.dialled[0][1]
        assert (opening["op"], opening["streams"]) == ("hello", {"chat:a": {"after": 11}})

    assert played(script)["rejected"] == 1


def test_who_is_told_to_stay_away_does() -> None:
    """It neither dials nor sends."""

    def script(client: Told, crowd: Crowd) -> None:
        at_once(crowd)
        client.away = True
        client.state = GONE
        client.on_gone("closed by the server")
        crowd.send_next(1)
        assert (client.dialled, client.sent) == ([], [])

    played(script)


def test_gaps_and_duplicates_reach_the_account() -> None:
    """Through the client's own way of reading events."""

    def script(client: Told, crowd: Crowd) -> None:
        for seq in (11, 13, 13):
            client.event(seq)
        client.event(14, key="other")

    told = played(script)
    assert (told["gaps"], told["lost"], told["duplicates"], told["delivered"]) == (1, 1, 1, 3)


def test_what_comes_on_a_return_is_not_a_delivery_like_others() -> None:
    """The time away would hide how late events are for those who are there."""

    def script(client: Told, crowd: Crowd) -> None:
        client.gone_ns, client.left = monotonic_ns(), 1
        client.welcomed(head=11)
        client.event(11)
        client.event(12)

    opening = played(script)["phases"]["opening"]
    assert (opening["replayed"]["count"], opening["since_ack"]["count"]) == (1, 1)


def test_latencies_go_to_the_stretch_in_which_they_end() -> None:
    """Each stretch has the worst of every client."""

    def script(client: Told, crowd: Crowd) -> None:
        client.event(11)
        crowd.phases.enter("broken")
        crowd.phases.record(0, monotonic_ns(), 7_000, 9_000)
        crowd.phases.record(0, monotonic_ns(), 5_000, 6_000)

    phases = played(script)["phases"]
    assert phases["opening"]["since_send"]["count"] == 1
    assert phases["broken"]["since_ack"]["count"] == 2
    assert phases["broken"]["worst"]["greatest"] == 7_000


@pytest.mark.parametrize("rooms", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_a_rooms_members_are_spread_over_all_nodes(rooms: int, nodes: int) -> None:
    """Whatever the numbers have in common."""
    ports = list(range(nodes))
    at = places(ports, rooms, rooms * 8)
    for room in range(rooms):
        assert set(at[room::rooms]) == set(ports)
