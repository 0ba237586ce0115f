"""core.stream: the nouns of delivery keep their own books."""

from __future__ import annotations

from core.model import AUDIT_STREAM
from core.policy import OWNS, READS_AUDIT
from core.stream import Pass, Port, SignalKey, Stream, chunk_of, latest_of
from tests.fake_port import FakePort


def ring(count: int, size: int = 10) -> Stream:
    stream = Stream("demo", "chat:a", 1, 0, 0, 1, False)
    for _ in range(count):
        stream.push(b"x" * size)
    return stream


def test_a_chunk_is_bytes_that_remember_their_frames() -> None:
    """One frame is not copied; several are joined; where each ends stays known."""
    stream = ring(0)
    frame = b"frame"
    one, two = chunk_of(stream, 7, [frame]), chunk_of(stream, 7, [frame, b"next"])
    assert (one, two) == (b"frame", b"framenext")
    assert (two.stream, two.first, two.frames) == (stream, 7, [b"frame", b"next"])


def test_what_is_latest_remembers_its_frames_and_keys() -> None:
    """Likewise for markers and signals: of each frame whose it is."""
    stream = ring(0)
    keys: list[tuple[Stream, str | SignalKey]] = [(stream, "user:amy"), (stream, ("typing", "user:bob"))]
    one, two = latest_of([b"mark"], keys[:1]), latest_of([b"mark", b"signal"], keys)
    assert (one, one.keys) == (b"mark", keys[:1])
    assert (two, two.frames, two.keys) == (b"marksignal", [b"mark", b"signal"], keys)


def test_the_ring_ends_at_head() -> None:
    """``base`` is the seq of the oldest frame, head + 1 while there is none."""
    stream = Stream("demo", "chat:a", 1, 0, 5, 3, False)
    assert (stream.base, stream.head, stream.want) == (6, 5, 5)
    stream.push(b"one")
    stream.push(b"two")
    assert (stream.base, stream.head, stream.ring_bytes) == (6, 7, 6)


def test_the_ring_shrinks_an_eighth_at_a_time() -> None:
    """Deleting from the front moves the rest: it waits until it is worth it, then goes down to the bound."""
    stream = ring(16)
    assert stream.shrink(16, 1_000) == 0
    stream.push(b"x" * 10)
    assert stream.shrink(16, 1_000) == 0
    stream.push(b"x" * 10)
    assert stream.shrink(16, 1_000) == 20
    assert (len(stream.frames), stream.base, stream.ring_bytes) == (16, 3, 160)


def test_the_ring_is_bounded_in_bytes_but_keeps_the_newest() -> None:
    """Whichever bound is met first; one frame larger than all of it stays until the next."""
    stream = ring(4, 100)
    assert stream.shrink(16, 250) == 200
    assert (len(stream.frames), stream.base) == (2, 3)
    stream.push(b"x" * 999)
    stream.shrink(16, 250)
    assert (stream.frames, stream.base) == ([b"x" * 999], 5)


def test_where_live_ports_stand_during_a_tour() -> None:
    """Served ones at its end, the others at its start; without a tour all at head."""
    stream = ring(3)
    assert (stream.live_at, stream.floor) == (3, 3)
    stream.tour = Pass(1, 2, chunk_of(stream, 2, [b"x"]), [])
    assert (stream.live_at, stream.floor) == (2, 1)


def test_a_port_is_an_interface() -> None:
    """The hub's calls do nothing on a bare port; a socket's overrides them."""
    port = Port(len)
    port.stall()
    port.flow()
    port.broken()
    assert (port.blocked, port.closed, port.subs, port.send(b"abc")) == (False, False, {}, 3)
    assert FakePort("user:bob").principal == "user:bob"


def test_a_role_is_ones_own_or_the_tenants() -> None:
    """Who is not known may do nothing; admin and service of the tenant act as owner everywhere."""
    stream = ring(0)
    stream.roles["user:amy"] = "reader"
    assert stream.role("user:amy", 0) == "reader"
    assert stream.role("user:bob", 0) is None
    assert stream.role("user:bob", OWNS) == stream.role("user:amy", OWNS) == "owner"


def test_the_audit_stream_is_for_who_may_read_it_whatever_is_known_of_members() -> None:
    """Its roles come from the tenant alone: nobody owns it, nobody sends."""
    stream = Stream("demo", AUDIT_STREAM, 7, 0, 0, 1, True)
    stream.roles["user:amy"] = "owner"
    assert stream.role("user:amy", 0) is None
    assert stream.role("user:amy", OWNS) is None
    assert stream.role("user:amy", READS_AUDIT) == stream.role("user:amy", OWNS | READS_AUDIT) == "reader"
