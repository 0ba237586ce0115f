"""The machine by itself: frames and times in, frames and wishes out, no socket and no Trio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import event, machine, online, said, seqs, tell, welcome

from readback_client import Connecting, Cursors, Ended, Limits, NotFound, Online, Superseded, Unauthorized, Waiting
from readback_client._feed import Start
from readback_client._machine import Dial, Phase


def test_the_way_in() -> None:
    """Dial, hello with positions, welcome, online; nothing is written before its time."""
    m = machine()
    m.streams.open_reader(0.0, "chat:ops", Start(after=3), lambda: None)
    m.streams.open_reader(0.0, "chat:crew", Start(last=20), lambda: None)
    m.streams.open_reader(0.0, "trip:9", None, lambda: None)
    assert m.next_dial(0.0) == Dial("ws://a", True)
    assert m.status == Connecting("ws://a", 1)
    assert m.next_dial(0.0) is None
    m.connected(1.0, "token")
    (hello,) = said(m)
    assert (hello["op"], hello["token"]) == ("hello", "token")
    assert hello["streams"] == {"chat:ops": {"after": 3}, "chat:crew": {"last": 20}, "trip:9": {}}
    assert m.phase is Phase.OPENING
    welcome(m, 1.0, {name: {"head": 9, "after": 3} for name in hello["streams"]})
    assert m.status == Online("s", "user:amy", False, 6)
    assert said(m) == []


def test_resume_brings_cursors_and_subs_bring_the_rest() -> None:
    """Only cursors held go into a resume; a stream without one, or opened meanwhile, is asked for after the welcome."""
    m = machine()
    ops = m.streams.open_reader(0.0, "chat:ops", Start(after=0), lambda: None)
    m.next_dial(0.0)
    m.connected(0.0, "token")
    welcome(m, 0.0, {"chat:ops": {"head": 1, "after": 0}})
    tell(m, 0.0, **event(1))
    m.closed(1.0, 1006, "")
    m.streams.open_reader(1.0, "chat:new", Start(last=5), lambda: None)
    assert isinstance(m.status, Waiting)
    assert m.next_dial(m.deadline) == Dial("ws://a", False)
    said(m)
    m.connected(2.0, None)
    assert said(m) == [{"op": "resume", "id": 2, "resume": "r1", "log": "e1", "streams": {"chat:ops": 1}}]
    welcome(m, 2.0, {"chat:ops": {"head": 1, "after": 1}}, resumed=True, resume="r2")
    (sub,) = said(m)
    assert (sub["op"], sub["stream"], sub["last"]) == ("sub", "chat:new", 5)
    assert seqs(m, ops) == [1]
    assert m.stats.resumes == 1


def test_an_old_resume_token_is_not_tried() -> None:
    """Past its time a hello is due, so the dial asks for a token."""
    m = online()
    m.closed(10.0, 1006, "")
    assert m.next_dial(400.0) == Dial("ws://a", True)


def test_full_jitter_grows_to_its_cap_and_forgets_after_a_connection_that_held() -> None:
    """Half of 0.5, 1, 2 … 30 s with this fixed draw; after five seconds online it starts anew."""
    m = machine(limits=Limits())
    waits = []
    for _ in range(8):
        m.next_dial(m.deadline)
        m.failed(0.0, "refused")
        assert isinstance(m.status, Waiting)
        waits.append(m.status.retry_in_s)
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    m.next_dial(100.0)
    m.connected(100.0, "t")
    welcome(m, 100.0)
    m.closed(101.0, 1006, "")
    assert isinstance(m.status, Waiting)
    assert m.status.retry_in_s == 15.0  # a welcome alone proves nothing
    m.next_dial(200.0)
    m.connected(200.0, None)
    welcome(m, 200.0)
    m.closed(206.0, 1006, "")
    assert isinstance(m.status, Waiting)
    assert m.status.retry_in_s == 0.25


def test_urls_take_turns() -> None:
    """Each failure moves on to the next node."""
    m = machine(["ws://a", "ws://b", "ws://c"])
    dialled = []
    for _ in range(4):
        dial = m.next_dial(m.deadline)
        assert dial is not None
        dialled.append(dial.url)
        m.failed(0.0, "refused")
    assert dialled == ["ws://a", "ws://b", "ws://c", "ws://a"]


def test_a_node_that_refuses_for_a_while_is_passed_over() -> None:
    """Its Retry-After is its own: the next url is tried after the jitter alone. Where all refuse, the soonest, not sooner."""
    m = machine(["ws://a", "ws://b", "ws://c"])
    dialled = []

    def refused(now: float, retry_after_s: float | None) -> float:
        dial = m.next_dial(now)
        assert dial is not None
        dialled.append(dial.url)
        m.failed(now, "HTTP 503", retry_after_s=retry_after_s)
        assert isinstance(m.status, Waiting)
        return m.status.retry_in_s

    assert refused(0.0, 60.0) == 0.25
    assert refused(1.0, 30.0) == 0.5
    assert (
        refused(2.0, None) == 1.0
    )  # nobody listens at c: it may be dialled again, after the others have had their turn
    assert refused(3.0, 90.0) == 28.0 + 2.0
    assert dialled == ["ws://a", "ws://b", "ws://c", "ws://c"]
    assert m.next_dial(32.9) is None
    assert m.next_dial(33.0) == Dial("ws://b", True)
    m.connected(33.0, "token")
    welcome(m, 33.0)
    tell(m, 40.0, op="bye", code="overloaded", reason="full", retry_after=40)
    m.closed(40.0, 4002, "")
    assert m.status == Waiting(20.25, "full")  # a, from 60 on, is the first that will have us
    assert m.next_dial(60.25) == Dial("ws://a", False)


def test_what_is_said_of_the_whole_cell_holds_for_every_url() -> None:
    """The log is away: another node cannot reach it either."""
    m = online(urls=["ws://a", "ws://b"])
    tell(m, 0.0, op="bye", code="unavailable", reason="no log", retry_after=9)
    m.closed(0.0, 4006, "")
    assert m.status == Waiting(9.25, "no log")
    assert m.next_dial(9.25) == Dial("ws://b", False)


def test_a_bye_floor_is_kept_and_its_code_outranks_the_close() -> None:
    """A TCP cut right behind a bye is still that bye."""
    m = online()
    tell(m, 0.0, op="bye", code="superseded", reason="a newer one", retry_after=None)
    m.closed(0.0, 1006, "")
    assert isinstance(m.error, Superseded)
    m = online()
    tell(m, 0.0, op="bye", code="overloaded", reason="full", retry_after=20)
    m.closed(0.0, 4002, "")
    assert m.status == Waiting(20.25, "full")


def test_a_negative_or_infinite_wish_is_not_slept_on() -> None:
    """What a server says of time is taken only where it is one."""
    m = online()
    m.receive(0.0, '{"op":"bye","code":"internal","reason":"x","retry_after":-5}')
    m.closed(0.0, 4000, "")
    assert m.status == Waiting(0.25, "x")


def test_silence_pings_once_then_leaves() -> None:
    """At 1.25 heartbeats a ping, at 2 the end; any byte starts it anew."""
    m = online()
    assert m.deadline == 31.25
    m.tick(31.25)
    assert [frame["op"] for frame in said(m)] == ["ping"]
    assert m.deadline == 50.0
    m.heard(40.0)
    assert m.deadline == 71.25
    m.tick(71.25)
    m.tick(90.0)
    assert m.hangup
    m.closed(90.0, 1000, "")
    assert isinstance(m.status, Waiting)
    assert "nothing heard for 50 s" in m.status.reason


@given(st.floats(0, 1e6), st.floats(0.1, 1e3))
def test_a_tick_at_the_deadline_always_moves_it(heard: float, heartbeat: float) -> None:
    """Found as a hang under a mock clock: ``now - heard`` rounded below what ``heard + wait`` had promised, for ever."""
    m = machine(now=heard)
    m.next_dial(heard)
    m.connected(heard, "t")
    welcome(m, heard, heartbeat=heartbeat)
    for _ in range(2):
        due = m.deadline
        m.tick(due)
        assert m.hangup or m.deadline > due
    assert m.hangup


def test_nothing_is_taken_after_the_decision_to_leave() -> None:
    """Between hang-up and close, frames are the next connection's business."""
    m = machine()
    reader = m.streams.open_reader(0.0, "chat:ops", Start(after=0), lambda: None)
    m.next_dial(0.0)
    m.connected(0.0, "t")
    welcome(m, 0.0, {"chat:ops": {"head": 9, "after": 0}})
    m.receive(0.0, "nonsense")
    tell(m, 0.0, **event(1))
    assert m.hangup
    assert seqs(m, reader) == []


def test_a_late_answer_to_an_older_question_changes_nothing() -> None:
    """Closed and opened anew while a sub was under way: only the newer answer counts."""
    m = online()
    first = m.streams.open_reader(0.0, "chat:ops", Start(after=5), lambda: None)
    (old,) = said(m)
    m.streams.close_reader(first)
    second = m.streams.open_reader(0.0, "chat:ops", Start(last=2), lambda: None)
    unsub, new = said(m)
    assert (unsub["op"], new["op"]) == ("unsub", "sub")
    tell(m, 0.0, op="error", id=old["id"], code="not_found", message="gone")
    tell(m, 0.0, op="ok", id=new["id"], head=9, after=7)
    tell(m, 0.0, **event(8))
    tell(m, 0.0, **event(9))
    assert seqs(m, second) == [8, 9]


def test_reopened_during_the_opening_is_not_taken_for_the_old_one() -> None:
    """The welcome speaks of the hello's feed; a reader opened since asks for its own start."""
    m = machine()
    old = m.streams.open_reader(0.0, "chat:ops", Start(after=5), lambda: None)
    m.next_dial(0.0)
    m.connected(0.0, "t")
    m.streams.close_reader(old)
    m.streams.open_reader(0.0, "chat:ops", Start(last=1), lambda: None)
    m.streams.open_reader(0.0, "chat:b", Start(after=0), lambda: None)
    said(m)
    welcome(m, 0.0, {"chat:ops": {"head": 9, "after": 5}})
    assert [(frame["op"], frame.get("last"), frame.get("after")) for frame in said(m)] == [
        ("sub", 1, None),
        ("sub", None, 0),
    ]


def test_a_reader_closed_during_the_opening_is_left_on_the_server() -> None:
    """The server follows it by the hello; it is told that nobody reads."""
    m = machine()
    reader = m.streams.open_reader(0.0, "chat:ops", Start(after=5), lambda: None)
    m.next_dial(0.0)
    m.connected(0.0, "t")
    m.streams.close_reader(reader)
    said(m)
    welcome(m, 0.0, {"chat:ops": {"head": 9, "after": 5}})
    assert [(frame["op"], frame["stream"]) for frame in said(m)] == [("unsub", "chat:ops")]


def test_a_full_buffer_parks_and_half_empty_returns() -> None:
    """Memory is bounded by events and by bytes; the cursor stands still while parked."""
    m = online(limits=Limits(buffer_events_max=4))
    reader = m.streams.open_reader(0.0, "chat:ops", Start(after=0), lambda: None)
    (sub,) = said(m)
    tell(m, 0.0, op="ok", id=sub["id"], head=9, after=0)
    for seq in range(1, 9):
        tell(m, 0.0, **event(seq))
    assert [frame["op"] for frame in said(m)] == ["unsub"]
    assert len(reader.queue) == 4
    m.streams.take(reader)
    assert said(m) == []
    m.streams.take(reader)
    assert [(frame["op"], frame["after"]) for frame in said(m)] == [("sub", 4)]


def test_large_events_park_by_bytes() -> None:
    """A few big events fill a buffer as well as many small ones."""
    m = online(limits=Limits(buffer_bytes_max=1_000))
    reader = m.streams.open_reader(0.0, "chat:ops", Start(after=0), lambda: None)
    (sub,) = said(m)
    tell(m, 0.0, op="ok", id=sub["id"], head=9, after=0)
    for seq in range(1, 4):
        tell(m, 0.0, **{**event(seq), "body": {"text": "x" * 600}})
    assert len(reader.queue) == 2
    assert m.stats.parked == 1


def test_a_parked_stream_is_not_resumed_but_taken_up_when_drained() -> None:
    """After a loss, a stream whose reader is still full stays out of the resume."""
    m = online(limits=Limits(buffer_events_max=2))
    reader = m.streams.open_reader(0.0, "chat:ops", Start(after=0), lambda: None)
    (sub,) = said(m)
    tell(m, 0.0, op="ok", id=sub["id"], head=9, after=0)
    tell(m, 0.0, **event(1))
    tell(m, 0.0, **event(2))
    m.closed(0.0, 1006, "")
    m.next_dial(m.deadline)
    m.connected(1.0, None)
    assert said(m)[0]["streams"] == {}
    welcome(m, 1.0, resumed=True)
    assert said(m) == []
    m.streams.take(reader)
    assert [(frame["op"], frame["after"]) for frame in said(m)] == [("sub", 2)]


def test_an_epoch_voids_stored_cursors_once_each() -> None:
    """Readers are told; streams that only the store knew are told when opened; the next opening is free."""
    m = machine(cursors=Cursors("e0", {"chat:ops": 4, "chat:crew": 9}))
    reader = m.streams.open_reader(0.0, "chat:ops", None, lambda: None)
    m.next_dial(0.0)
    m.connected(0.0, "t")
    (hello,) = said(m)
    assert (hello["log"], hello["streams"]) == ("e0", {"chat:ops": {"after": 4}})
    welcome(m, 0.0, {"chat:ops": {"head": 2, "after": 0}})
    tell(m, 0.0, op="reset", stream="chat:ops", reason="epoch", first=1, head=2)
    assert str(reader.error) == "chat:ops cannot continue from the cursor held (epoch)"
    assert m.streams.open_reader(0.0, "chat:crew", None, lambda: None).error is not None
    assert m.streams.open_reader(0.0, "chat:crew", None, lambda: None).error is None
    assert m.cursors() == Cursors("e1", {})


def test_a_pong_may_renew_the_resume_token() -> None:
    """A server that rotates tokens on long connections is followed."""
    m = online()
    tell(m, 5.0, op="pong", time="2026-11-21T09:30:00.000Z", resume="r9")
    m.closed(6.0, 1006, "")
    m.next_dial(m.deadline)
    m.connected(7.0, None)
    assert said(m)[0]["resume"] == "r9"


def test_an_error_that_names_only_a_stream_ends_that_stream() -> None:
    """Unasked-for refusals do not touch the rest."""
    m = online()
    reader = m.streams.open_reader(0.0, "chat:ops", Start(after=0), lambda: None)
    other = m.streams.open_reader(0.0, "chat:b", Start(after=0), lambda: None)
    tell(m, 0.0, op="error", stream="chat:ops", code="not_found", message="deleted")
    assert isinstance(reader.error, NotFound)
    assert other.error is None


def test_too_many_streams_are_refused_in_words() -> None:
    """The server's own limit, told at the place where it is crossed."""
    m = online()
    m.streams.streams_max = 2
    for name in ("chat:a", "chat:b"):
        m.streams.open_reader(0.0, name, Start(), lambda: None)
    with pytest.raises(ValueError, match="2 streams are followed already"):
        m.streams.open_reader(0.0, "chat:c", Start(), lambda: None)


def test_an_end_is_final() -> None:
    """After it nothing is dialled, written or waited for, and a second end changes nothing."""
    m = online()
    call = m.call("presence", {"stream": "chat:ops"})
    m.closed(0.0, 4501, "expired")
    assert m.status == Ended(m.error)
    assert isinstance(call.error, Unauthorized)
    m.end(None)
    m.failed(0.0, "late")
    assert isinstance(m.error, Unauthorized)
    assert m.next_dial(1e9) is None
    with pytest.raises(Unauthorized):
        m.call("presence", {})
