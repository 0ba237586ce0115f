"""Sends that a quota refuses: repeated under their keys, in order, at the pace that the server lets through."""

from __future__ import annotations

from machines import machine, online, said, tell, welcome

from readback_client import Closed
from readback_client._calls import Call
from readback_client._machine import Machine


def send(m: Machine, n: int, stream: str = "chat:ops") -> Call:
    return m.call("send", {"stream": stream, "key": str(n), "type": "message", "body": n})


def keys(m: Machine) -> dict[str, int]:
    """The keys of the sends that were written now, in order, with the ids to answer."""
    return {frame["key"]: frame["id"] for frame in said(m) if frame["op"] == "send"}


def limit(m: Machine, now: float, id: int, retry_after: float = 4.0) -> None:
    tell(m, now, op="error", id=id, code="rate_limited", message="", retry_after=retry_after)


def land(m: Machine, now: float, id: int) -> None:
    tell(m, now, op="ok", id=id, seq=1, at="2026-11-21T09:30:00.000Z", dup=False)


def test_a_limited_stream_waits_and_keeps_its_order() -> None:
    """Until the time that was said and some more by chance; what came later waits behind what was refused."""
    m = online()
    calls = [send(m, n) for n in range(4)]
    ids = keys(m)
    land(m, 1.0, ids["0"])
    for n in ("2", "1", "3"):
        limit(m, 1.0, ids[n])
    calls.append(send(m, 4))
    assert keys(m) == {}
    assert m.deadline == 5.25
    m.heard(5.0)
    m.tick(5.0)
    assert keys(m) == {}
    landed = []
    m.tick(5.25)
    while written := keys(m):
        landed.append(list(written))
        for id in written.values():
            land(m, 6.0, id)
    assert landed == [["1"], ["2", "3"], ["4"]]
    assert all(call.answer is not None for call in calls)
    send(m, 5)
    send(m, 6)
    assert list(keys(m)) == ["5", "6"]  # nothing is left of it


def test_other_streams_and_other_ops_go_on() -> None:
    """A quota of one stream's is nobody else's."""
    m = online()
    send(m, 0)
    limit(m, 1.0, keys(m)["0"], 60.0)
    send(m, 1)
    send(m, 2, "chat:other")
    m.call("history", {"stream": "chat:ops"})
    assert [(frame["op"], frame["stream"]) for frame in said(m)] == [("send", "chat:other"), ("history", "chat:ops")]


def test_refused_again_it_waits_longer() -> None:
    """Each time twice the room for chance; one that lands begins anew."""
    m = online()
    send(m, 0)
    send(m, 1)
    waits, now = [], 0.0
    ids = keys(m)
    limit(m, now, ids["1"], 1.0)
    limit(m, now, ids["0"], 1.0)
    for _ in range(3):
        until = m.deadline
        waits.append(until - now)
        now = until
        m.tick(now)
        (id,) = keys(m).values()
        limit(m, now, id, 1.0)
    assert waits == [1.25, 1.5, 2.0]
    now = m.deadline
    m.tick(now)
    land(m, now, keys(m)["0"])
    limit(m, now, keys(m)["1"], 1.0)
    assert m.deadline == now + 1.25


def test_a_server_that_refuses_slowly_is_not_taken_for_deaf() -> None:
    """It reads on in its own time: 512 refusals took longer than a request may wait, and the client left, to send them all
    again elsewhere."""
    m = online()
    for n in range(40):
        send(m, n)
    ids = list(keys(m).values())
    for n, id in enumerate(ids[:-1]):
        m.tick(n * 1.0)
        limit(m, n * 1.0, id, 60.0)
    assert not m.hangup
    m.heard(60.0)
    m.tick(67.9)
    assert not m.hangup
    m.tick(68.0)
    assert m.hangup


def test_a_loss_brings_back_what_was_under_way_in_its_place() -> None:
    """And the time that the server said holds on the next connection as well."""
    m = online()
    for n in range(3):
        send(m, n)
    limit(m, 1.0, keys(m)["1"], 20.0)
    m.closed(2.0, 1006, "")
    m.next_dial(m.deadline)
    m.connected(3.0, None)
    welcome(m, 3.0, resumed=True)
    assert keys(m) == {}
    m.heard(21.0)
    m.tick(21.25)
    for expected in (["0"], ["1", "2"]):
        written = keys(m)
        assert list(written) == expected
        for id in written.values():
            land(m, 22.0, id)


def test_whoever_waits_no_more_is_forgotten_and_an_end_reaches_all() -> None:
    """Nothing is sent for a caller that gave up, and nobody waits for ever."""
    m = online()
    calls = [send(m, n) for n in range(3)]
    for id in keys(m).values():
        limit(m, 1.0, id)
    assert len(m.calls) == 3
    m.calls.drop(calls[1])
    assert len(m.calls) == 2
    m.heard(5.0)
    m.tick(5.25)
    assert list(keys(m)) == ["0"]
    m.end(None)
    assert isinstance(calls[0].error, Closed)
    assert isinstance(calls[2].error, Closed)
    assert len(m.calls) == 0


def test_before_it_was_online_nothing_is_limited() -> None:
    """Sends wait for the connection and go in their order."""
    m = machine()
    send(m, 0)
    send(m, 1)
    m.next_dial(0.0)
    m.connected(0.0, "t")
    said(m)
    welcome(m, 0.0)
    assert list(keys(m)) == ["0", "1"]
