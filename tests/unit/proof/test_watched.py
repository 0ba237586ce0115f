"""proof.watched: what a connection's messages mean as records, from whichever end they are seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from proof.history import (
    Answered,
    Asked,
    DrainTold,
    Ended,
    Follow,
    Open,
    Record,
    Rejected,
    Reset,
    Told,
    Took,
    Unfollow,
    Welcome,
    digest,
    encode,
)
from proof.watched import Watched, what_of

STREAM = "chat:ops"
KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"


class Seen:
    """A connection whose messages are given as dicts; the clock counts records."""

    def __init__(self, **named: Any) -> None:
        self.records: list[Record] = []
        ticks = self._ticks()
        self.watched = Watched("c1.1", "node-a", self.records.append, lambda: next(ticks), **named)

    @staticmethod
    def _ticks() -> Iterator[float]:
        at = 0.0
        while True:
            at += 1.0
            yield at

    def said(self, **message: Any) -> None:
        self.watched.said(orjson.dumps(message))

    def told(self, **message: Any) -> None:
        self.watched.told(orjson.dumps(message))

    def opened(self, **places: Any) -> Seen:
        self.said(op="hello", id=1, token="secret", streams={name: {} for name in places})
        self.told(op="welcome", id=1, session="s", log="e", resume="next", principal="user:amy", streams=places)
        return self

    def of(self, kind: type[Record]) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]


def test_a_hello_says_where_each_stream_is_wanted_from() -> None:
    """A cursor, at head, and nothing for what only the node can tell."""
    seen = Seen(client="c1", tenant="demo", who="user:amy")
    streams = {"chat:a": {"after": 7}, "chat:b": {}, "chat:c": {"last": 5}}
    seen.said(op="hello", id=1, token="secret", streams=streams)
    (opened,) = seen.of(Open)
    assert (opened.client, opened.tenant, opened.who, opened.how) == ("c1", "demo", "user:amy", "hello")
    assert opened.asked == {"chat:a": 7, "chat:b": None}
    assert (opened.credential, opened.standing) == (digest("secret"), "good")


def test_a_resume_says_its_cursors_and_the_log_they_are_of() -> None:
    """With the token named, never told."""
    seen = Seen(good=False)
    seen.said(op="resume", id=1, resume="r1", log="epoch-1", streams={"chat:a": 7})
    (opened,) = seen.of(Open)
    assert (opened.how, opened.asked, opened.epoch) == ("resume", {"chat:a": 7}, "epoch-1")
    assert opened.standing == "spent", "who cannot know whether a token is good does not claim it"
    assert opened.client == "c1.1", "nobody said whose connection it is"


def test_a_welcome_begins_to_follow_what_it_does_not_refuse() -> None:
    """Each with the place from which events come."""
    seen = Seen().opened(**{"chat:a": {"head": 9, "after": 7}, "trip:9": {"error": "forbidden"}})
    (welcome,) = seen.of(Welcome)
    assert (welcome.session, welcome.resumed, welcome.epoch) == ("s", False, "e")
    assert (welcome.credential, welcome.refused) == (digest("next"), {"trip:9": "forbidden"})
    assert [(one.stream, one.after, one.head) for one in seen.of(Follow)] == [("chat:a", 7, 9)]


def test_a_refused_opening_may_be_tried_again_on_the_connection() -> None:
    """The second try is an opening of its own."""
    seen = Seen()
    seen.said(op="resume", id=1, resume="r1", streams={})
    seen.told(op="error", id=1, code="resume_rejected", message="used before")
    seen.said(op="hello", id=2, token="t", streams={})
    seen.told(op="welcome", id=2, session="s", log="e", resume="r2", streams={})
    assert [type(record) for record in seen.records] == [Open, Rejected, Open, Welcome]


def test_a_send_and_its_answer_bear_the_key() -> None:
    """In the spelling that the log keeps."""
    seen = Seen(within_s=20.0).opened()
    seen.said(op="send", id=2, stream=STREAM, key=KEY.upper(), type="message", body={"text": "hi"}, expect=4)
    seen.told(op="ok", id=2, stream=STREAM, seq=5, at="x", dup=True)
    (asked,), (answered,) = seen.of(Asked), seen.of(Answered)
    assert (asked.id, asked.op, asked.within_s, asked.stream, asked.key, asked.expect) == (
        2, "send", 20.0, STREAM, KEY, 4,
    )  # fmt: skip
    assert (answered.ok, answered.seq, answered.dup, answered.stream, answered.key) == (True, 5, True, STREAM, KEY)


def test_an_answer_goes_to_the_oldest_request_of_its_id() -> None:
    """Clients may use an id again before it is answered."""
    seen = Seen().opened()
    for key in ("k1", "k2"):
        seen.said(op="send", id=2, stream=STREAM, key=key, type="message", body=1)
    seen.told(op="error", id=2, code="forbidden", message="x")
    seen.told(op="ok", id=2, stream=STREAM, seq=1, at="x", dup=False)
    assert [(one.key, one.ok, one.code) for one in seen.of(Answered)] == [("k1", False, "forbidden"), ("k2", True, "")]


def test_sub_and_unsub_take_hold_with_their_answers() -> None:
    """Not when they are asked for."""
    seen = Seen().opened()
    seen.said(op="sub", id=2, stream=STREAM, after=3)
    assert not seen.of(Follow)
    seen.told(op="ok", id=2, stream=STREAM, head=9, after=3)
    seen.said(op="unsub", id=3, stream=STREAM)
    assert not seen.of(Unfollow)
    seen.told(op="ok", id=3, stream=STREAM)
    (follow,), (unfollow,) = seen.of(Follow), seen.of(Unfollow)
    assert (follow.stream, follow.after, follow.head) == (STREAM, 3, 9)
    assert (unfollow.stream, unfollow.reason) == (STREAM, "")


def test_an_event_is_known_again_by_its_digest() -> None:
    """Type, time and body together; in whatever order the body's fields come."""
    seen = Seen().opened()
    event = {"op": "event", "stream": STREAM, "seq": 4, "type": "message", "key": KEY, "by": "user:bob", "at": "x"}
    seen.told(**event, body={"a": 1, "b": 2})
    (took,) = seen.of(Took)
    assert (took.stream, took.seq, took.key, took.by) == (STREAM, 4, KEY, "user:bob")
    assert took.what == what_of("message", "x", {"b": 2, "a": 1}) != what_of("message", "x", {"a": 1})


def test_what_is_told_beside_events() -> None:
    """Resets, removals, markers, signals, drains."""
    seen = Seen().opened()
    seen.told(op="reset", stream=STREAM, reason="trimmed", first=50, head=121)
    seen.told(op="unsub", stream=STREAM, reason="removed", seq=4)
    seen.told(op="mark", stream=STREAM, by="user:bob", delivered=3, read=2)
    seen.told(op="signal", stream=STREAM, kind="presence", by="user:bob", value="online", age=0.5)
    seen.told(op="drain", after_ms=1800, resume="r")
    (reset,), (gone,), (drain,) = seen.of(Reset), seen.of(Unfollow), seen.of(DrainTold)
    assert (reset.reason, reset.first, reset.head) == ("trimmed", 50, 121)
    assert (gone.reason, gone.seq, drain.after_s) == ("removed", 4, 1.8)
    assert [(one.kind, one.by, one.value, one.age_s) for one in seen.of(Told)] == [
        ("mark", "user:bob", [3, 2], 0.0),
        ("presence", "user:bob", "online", 0.5),
    ]


def test_an_end_is_told_once_with_the_word_before_it() -> None:
    """What comes after it is nothing."""
    seen = Seen().opened()
    seen.told(op="bye", code="draining", reason="this node is going away", retry_after=0.5)
    seen.watched.ended("server", 4001, "this node is going away")
    seen.watched.ended("network")
    seen.told(op="drain", after_ms=1, resume="r")
    assert seen.records[-1] == Ended(seen.records[-1].t, "c1.1", "server", 4001, "this node is going away", "draining")


def test_who_never_opened_leaves_no_trace() -> None:
    """A port scan is no history."""
    seen = Seen()
    seen.said(op="send", id=1, stream=STREAM)
    seen.told(op="error", id=1, code="unauthorized", message="say hello or resume first")
    seen.watched.ended("network")
    assert seen.records == []


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b'{"op":7}', b'{"op":"hello"}', b'{"op":"send","id":"x"}', b"\xff"]
)
def test_what_is_no_message_is_passed_over(payload: bytes) -> None:
    """The node has its own words for it; the watcher must not fail."""
    seen = Seen().opened()
    before = len(seen.records)
    seen.watched.said(payload)
    assert len(seen.records) == before


def test_nothing_that_was_said_in_confidence_is_in_a_record() -> None:
    """Neither bodies, tokens nor the values of signals other than presence and typing."""
    seen = Seen(tenant="demo", who="user:amy").opened(**{STREAM: {"head": 0, "after": 0}})
    seen.said(op="send", id=2, stream=STREAM, key=KEY, type="message", body={"text": "hidden words"})
    seen.told(op="event", stream=STREAM, seq=1, type="m", key=KEY, by="u", at="x", body={"text": "hidden words"})
    seen.told(op="signal", stream="trip:9", kind="position", by="device:t", value={"lat": -33.95}, age=0.1)
    seen.said(op="resume", id=3, resume="hidden token", streams={})
    written = b"".join(map(encode, seen.records))
    for secret in (b"hidden", b"secret", b"33.95", b'"next"'):
        assert secret not in written


def test_a_record_that_goes_on_elsewhere_ends_here_and_begins_there() -> None:
    """With the cursors that it has by then; what was asked before is answered in neither."""
    seen = Seen(tenant="demo", who="user:amy").opened(**{STREAM: {"head": 3, "after": 3}})
    seen.told(op="event", stream=STREAM, seq=4, type="m", key=KEY, by="u", at="x", body=1)
    seen.said(op="sub", id=2, stream="chat:b", after=0)
    seen.said(op="send", id=3, stream=STREAM, key=KEY, type="m", body=1)
    carried = seen.watched.carry("c1.1~2")
    assert carried is not None
    end, begin = carried
    assert (end.conn, end.by, end.reason) == ("c1.1", "unseen", "goes on as c1.1~2")
    assert [type(record) for record in begin] == [Open, Welcome, Follow]
    assert isinstance(begin[0], Open)
    assert begin[0].asked == {STREAM: 4}
    seen.records.clear()
    seen.told(op="ok", id=2, stream="chat:b", head=0, after=0)
    seen.told(op="error", id=3, code="unavailable", message="x")
    seen.said(op="unsub", id=2, stream="chat:b")
    seen.told(op="ok", id=2, stream="chat:b")
    assert [type(record) for record in seen.records] == [Follow, Asked, Unfollow, Answered]
    assert seen.watched.cursors == {STREAM: 4}


def test_who_is_not_welcome_yet_goes_on_nowhere() -> None:
    """Nor who has ended."""
    seen = Seen()
    seen.said(op="hello", id=1, token="t", streams={})
    assert seen.watched.carry("c1.1~2") is None
    seen.told(op="welcome", id=1, session="s", log="e", resume="r", streams={})
    seen.watched.ended("client")
    assert seen.watched.carry("c1.1~2") is None
