"""Access tokens that end: renewed on the open connection, and what happens where that does not succeed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import event, machine, online, said, seqs, tell, welcome

from readback_client import Forbidden, Limits, RateLimited, Revoked, Unauthorized, Waiting
from readback_client._feed import Start
from readback_client._machine import NEVER, Dial, Machine
from readback_client._renewal import Renewal

START = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def stamp(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def renewing(life_s: float = 600.0, streams: Any = None, **changes: Any) -> Machine:
    """Online at 0 with a token that is fetched and ends after ``life_s``."""
    m = machine(fresh_tokens=True, **changes)
    m.next_dial(0.0)
    m.connected(0.0, "t1")
    welcome(m, 0.0, streams, time=stamp(0.0), expires=stamp(life_s))
    said(m)
    return m


def due(m: Machine) -> float:
    """When the next fresh token is wanted, and that it is wanted then and not before."""
    at = m.renewal.due
    if at != NEVER:
        m.heard(at - 0.5)
        m.tick(at - 0.5)
        assert not m.fresh_token_wanted
        assert m.deadline == at
        m.tick(at)
        assert m.fresh_token_wanted
    return at


def refresh(m: Machine, now: float, token: str = "t2") -> int:
    m.renew(now, token)
    (frame,) = said(m)
    assert (frame["op"], frame["token"]) == ("refresh", token)
    id: int = frame["id"]
    return id


def test_a_fresh_token_is_wanted_a_margin_before_the_end() -> None:
    """A minute and some more by chance; it goes out on the open connection, and its end is the next one."""
    m = renewing(600.0)
    assert due(m) == 525.0
    id = refresh(m, 526.0)
    assert not m.fresh_token_wanted
    tell(m, 526.5, op="ok", id=id, expires=stamp(1_200.0), resume="r2", streams={})
    assert (due(m), m.renewal.ends_at, m.stats.refreshes) == (1_125.0, 1_200.0, 1)
    m.closed(1_125.0, 1006, "")
    assert m.next_dial(m.deadline) == Dial("ws://a", False)
    m.connected(1_126.0, None)
    assert said(m)[0]["resume"] == "r2"


def test_of_a_short_token_the_margin_is_a_fifth() -> None:
    """Whatever its length, most of it is used."""
    assert due(renewing(10.0)) == 7.5


def test_the_clock_of_this_machine_does_not_matter() -> None:
    """The server's ``time`` and ``expires`` are compared with each other alone."""
    m = machine(fresh_tokens=True, now=9_000.0)
    m.next_dial(9_000.0)
    m.connected(9_000.0, "t1")
    welcome(m, 9_000.0, time="1999-01-01T00:00:00Z", expires="1999-01-01T00:10:00.000Z")
    assert due(m) == 9_525.0


def test_a_fixed_token_is_not_renewed_and_its_end_is_known() -> None:
    """There is nothing to refresh with; the application may say so."""
    m = machine()
    m.next_dial(0.0)
    m.connected(0.0, "t1")
    welcome(m, 0.0, time=stamp(0.0), expires=stamp(600.0))
    assert (m.renewal.due, m.renewal.ends_at) == (NEVER, 600.0)
    m.tick(599.0)
    assert not m.fresh_token_wanted


def test_an_older_server_says_nothing_and_nothing_changes() -> None:
    """Also after one that did."""
    m = renewing(600.0)
    m.closed(1.0, 1006, "")
    m.next_dial(m.deadline)
    m.connected(2.0, None)
    welcome(m, 2.0, resumed=True)
    assert (m.renewal.due, m.renewal.ends_at) == (NEVER, NEVER)


@given(*[st.none() | st.text() | st.integers() | st.just(stamp(0)) | st.datetimes().map(str)] * 2)
def test_a_time_that_is_none_is_no_end(time: object, expires: object) -> None:
    """Whatever a server says in these two, nothing is raised and nothing is due before now."""
    renewal = Renewal(Limits(), lambda low, high: low, fresh=True)
    renewal.told(50.0, {"time": time, "expires": expires})
    assert renewal.due > 50.0


def test_a_refused_token_is_tried_once_more_near_the_end_and_then_it_is_a_hello() -> None:
    """The connection goes on meanwhile; what ends it in the end is the server, and nothing is lost."""
    m = renewing(600.0)
    reader = m.streams.open_reader(0.0, "chat:ops", Start(after=0), lambda: None)
    tell(m, 0.0, op="ok", id=said(m)[0]["id"], head=0, after=0)
    id = refresh(m, due(m))
    tell(m, 526.0, op="error", id=id, code="unauthorized", message="expired")
    tell(m, 530.0, **event(1))
    assert due(m) == 581.25
    id = refresh(m, 581.25, "t3")
    tell(m, 582.0, op="error", id=id, code="unauthorized", message="expired")
    assert due(m) == NEVER
    tell(m, 600.0, op="bye", code="unauthorized", reason="the access token has expired", retry_after=None)
    m.closed(600.0, 4501, "")
    assert isinstance(m.status, Waiting)
    assert m.next_dial(m.deadline) == Dial("ws://a", True)
    m.connected(601.0, "t4")
    (hello,) = said(m)
    assert (hello["op"], hello["token"], hello["streams"]) == ("hello", "t4", {"chat:ops": {"after": 1}})
    welcome(m, 601.0, {"chat:ops": {"head": 1, "after": 1}}, time=stamp(601.0), expires=stamp(1_201.0))
    assert seqs(m, reader) == [1]
    assert due(m) == 1_126.0


def test_a_provider_that_keeps_its_tokens_is_not_asked_in_a_loop() -> None:
    """The same token again is accepted and brings nothing: once more near the end, when it should have another."""
    m = renewing(600.0)
    for at in (525.0, 581.25):
        assert due(m) == at
        tell(m, at, op="ok", id=refresh(m, at), expires=stamp(600.0), resume="r", streams={})
    assert due(m) == NEVER


def test_tokens_that_end_at_once_are_renewed_at_a_bounded_pace() -> None:
    """A second lies between two refreshes at least; what has ended when that is over is not renewed."""
    m = renewing(1.5)
    assert due(m) == 1.125
    tell(m, 1.2, op="ok", id=refresh(m, 1.125), expires=stamp(2.25), resume="r", streams={})
    assert due(m) == pytest.approx(2.2)
    tell(m, 2.3, op="ok", id=refresh(m, 2.3), expires=stamp(2.4), resume="r", streams={})
    assert due(m) == NEVER


@pytest.mark.parametrize("code", ["rate_limited", "overloaded", "unavailable", "internal"])
def test_what_may_heal_is_tried_again_as_long_as_there_is_time(code: str) -> None:
    """Not sooner than it was asked to, with a token fetched anew, with growing room; never past the end."""
    m = renewing(600.0)
    at, times = due(m), []
    for _ in range(4):
        tell(m, at, op="error", id=refresh(m, at), code=code, message="", retry_after=10)
        times.append(at)
        at = due(m)
    assert times == [525.0, 535.25, 545.75, 556.75]
    tell(m, at, op="error", id=refresh(m, at), code=code, message="", retry_after=60)
    assert due(m) == NEVER


def test_a_server_that_does_not_know_the_op_is_not_asked_again() -> None:
    """Nor told anything else: its connection ends as it always did."""
    m = renewing(600.0)
    tell(m, 525.0, op="error", id=refresh(m, due(m)), code="unknown_op", message="no such op")
    assert due(m) == NEVER


def test_a_provider_that_is_away_is_asked_again() -> None:
    """After what it said; a token that comes when nobody waits for it any more is dropped."""
    m = renewing(600.0)
    m.not_renewed(due(m), 20.0)
    assert due(m) == 545.25
    m.closed(550.0, 1006, "")
    m.renew(550.0, "late")
    m.not_renewed(550.0, None)
    assert not m.writes


def test_a_refresh_whose_answer_was_lost_is_made_once_more() -> None:
    """The next connection resumes with what it has; if that was renewed, it says so, else there is one more try."""
    m = renewing(600.0)
    refresh(m, due(m))
    m.closed(526.0, 1006, "")
    m.next_dial(m.deadline)
    m.connected(527.0, None)
    said(m)
    welcome(m, 527.0, resumed=True, time=stamp(527.0), expires=stamp(600.0))
    assert due(m) == 581.25
    tell(m, 582.0, op="ok", id=refresh(m, 582.0), expires=stamp(1_200.0), resume="r", streams={})
    assert due(m) == 1_125.0


def test_an_unanswered_refresh_is_a_loss() -> None:
    """As any other request that a server forgot."""
    m = renewing(600.0)
    refresh(m, due(m))
    m.heard(554.0)
    m.tick(555.0)
    assert m.hangup


def test_past_its_end_a_token_is_not_resumed_with() -> None:
    """Resuming prolongs no identity: the round trip is saved and the hello comes at once."""
    m = renewing(600.0)
    m.closed(595.0, 1006, "")
    assert m.next_dial(600.0) == Dial("ws://a", True)


def test_streams_that_a_new_token_does_not_allow_end_as_forbidden_ones_do() -> None:
    """After the events that were still theirs; what is being asked for anew has its own answer; others go on."""
    names = ("chat:ended", "chat:kept", "chat:asked", "chat:unread")
    streams = {name: {"head": 0, "after": 0} for name in names[:3]}
    m = machine(fresh_tokens=True)
    readers = {name: m.streams.open_reader(0.0, name, Start(after=0), lambda: None) for name in names[:3]}
    m.next_dial(0.0)
    m.connected(0.0, "t1")
    welcome(m, 0.0, streams, time=stamp(0.0), expires=stamp(600.0))
    signals = m.streams.open_signals("chat:ended", lambda: None)
    tell(m, 1.0, **event(1, "chat:ended"))
    due(m)
    m.streams.close_reader(readers["chat:asked"])
    readers["chat:asked"] = m.streams.open_reader(525.0, "chat:asked", Start(after=0), lambda: None)
    asked = said(m)[-1]["id"]
    told = {name: {"error": "forbidden"} for name in ("chat:ended", "chat:asked", "chat:unread")}
    tell(m, 526.0, op="ok", id=refresh(m, 525.0), expires=stamp(1_200.0), resume="r", streams=told)
    taken = m.streams.take(readers["chat:ended"])
    assert taken is not None
    assert taken.seq == 1
    with pytest.raises(Forbidden, match="not a member of chat:ended"):
        m.streams.take(readers["chat:ended"])
    assert isinstance(signals.error, Forbidden)
    tell(m, 526.0, op="ok", id=asked, head=0, after=0)
    for name in ("chat:kept", "chat:asked"):
        tell(m, 527.0, **event(1, name))
        assert seqs(m, readers[name]) == [1]


def prove(url: str, token: str) -> str:
    return f"proof of {token} for {url}"


def test_proofs_go_with_every_token() -> None:
    """In hello, resume and refresh, and in the hello that follows a refused resume: each for the token it goes with."""
    m = renewing(600.0, prove=prove, urls=["ws://a", "ws://b"])
    due(m)
    m.renew(525.0, "t2")
    (frame,) = said(m)
    assert (frame["op"], frame["dpop"]) == ("refresh", "proof of t2 for ws://a")
    m.closed(526.0, 1006, "")
    assert m.next_dial(m.deadline) == Dial("ws://b", False)
    m.connected(527.0, None)
    (frame,) = said(m)
    assert (frame["op"], frame["dpop"]) == ("resume", "proof of r1 for ws://b")
    tell(m, 527.0, op="error", id=frame["id"], code="resume_rejected", message="used before")
    assert m.token_wanted
    m.offer_token(527.0, "t3")
    (frame,) = said(m)
    assert (frame["op"], frame["dpop"]) == ("hello", "proof of t3 for ws://b")


def test_a_proof_takes_its_room_in_an_opening() -> None:
    """What does not fit beside token and proof follows as sub."""
    for long_proof, named in ((None, 2), (lambda url, token: "p" * 60, 1)):
        m = machine(prove=long_proof, limits=Limits(hello_bytes_max=100))
        for name in ("chat:a", "chat:b"):
            m.streams.open_reader(0.0, name, Start(after=0), lambda: None)
        m.next_dial(0.0)
        m.connected(0.0, "t")
        assert len(said(m)[0]["streams"]) == named


def test_without_a_key_there_is_no_proof() -> None:
    """Not even an empty one."""
    m = machine()
    m.next_dial(0.0)
    m.connected(0.0, "t")
    assert "dpop" not in said(m)[0]


@pytest.mark.parametrize("fresh", [True, False])
def test_who_is_revoked_is_ended_for_good(fresh: bool) -> None:
    """No other token is asked for, wherever it is met: online, or in an opening."""
    m = online(fresh_tokens=fresh)
    tell(m, 1.0, op="bye", code="revoked", reason="this token was revoked", retry_after=None)
    m.closed(1.0, 1006, "")
    assert isinstance(m.error, Revoked)
    assert str(m.error) == "revoked: this token was revoked"
    assert m.next_dial(1e9) is None
    m = machine(fresh_tokens=fresh)
    m.next_dial(0.0)
    m.connected(0.0, "t1")
    tell(m, 1.0, op="bye", code="revoked", reason="this tenant is not served here", retry_after=None)
    m.closed(1.0, 4502, "")
    assert isinstance(m.error, Revoked)
    assert not isinstance(m.error, Unauthorized)


def test_a_tenant_whose_quota_is_used_up_is_waited_for() -> None:
    """As long as it was told and some more by chance, whichever url is next; and the room for chance grows."""
    m = machine(["ws://a", "ws://b"])
    for url, retry_s in (("ws://a", 8.25), ("ws://b", 8.5), ("ws://a", 9.0)):
        now = m.deadline
        assert m.next_dial(now) == Dial(url, True)
        m.connected(now, "t")
        tell(m, now, op="bye", code="rate_limited", reason="the quota of its tenant is used up", retry_after=8)
        m.closed(now, 4004, "")
        assert m.status == Waiting(retry_s, "the quota of its tenant is used up")


def test_a_stream_refused_for_a_quota_is_asked_for_later() -> None:
    """By itself, while the others are followed; its reader learns nothing of it."""
    m = machine()
    kept = m.streams.open_reader(0.0, "chat:kept", Start(after=0), lambda: None)
    late = m.streams.open_reader(0.0, "chat:late", Start(after=0), lambda: None)
    m.next_dial(0.0)
    m.connected(0.0, "t")
    said(m)
    welcome(m, 0.0, {"chat:kept": {"head": 1, "after": 0}, "chat:late": {"error": "rate_limited"}})
    tell(m, 0.0, **event(1, "chat:kept"))
    assert (seqs(m, kept), said(m)) == ([1], [])
    m.tick(0.25)
    (sub,) = said(m)
    assert (sub["op"], sub["stream"], sub["after"]) == ("sub", "chat:late", 0)
    tell(m, 0.25, op="error", id=sub["id"], code="rate_limited", message="", retry_after=5)
    m.tick(5.7)
    assert said(m) == []
    m.tick(5.75)
    tell(m, 5.75, op="ok", id=said(m)[0]["id"], head=1, after=0)
    tell(m, 5.75, **event(1, "chat:late"))
    assert seqs(m, late) == [1]
    assert RateLimited("rate_limited", "").retryable
