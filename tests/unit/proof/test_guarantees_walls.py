"""proof.guarantees.walls: Tenant-wall, Auth-fresh, Blast-radius-one."""

from __future__ import annotations

import pytest

from proof.history import Fault, Member, Restored, Run, Unfollow, View
from tests.stories import ROOM, Story


def two_tenants() -> Story:
    """The same stream in both; amy is in one, zoe in the other, bob in both."""
    story = Story()
    for seq in (1, 2):
        story.commit(seq)
        story.commit(seq, tenant="other")
    story.join("c1", head=2)
    story.join("z1", head=2, tenant="other", who="user:zoe")
    story.join("c2", 2, who="user:bob")
    story.join("z2", 2, tenant="other", who="user:bob")
    return story


# Tenant-wall


def test_two_tenants_that_share_names() -> None:
    """The same stream, the same people, even the same key are no crossing."""
    story = two_tenants()
    story.commit(3, "shared")
    story.commit(3, "shared", tenant="other")
    for seq, key in ((1, ""), (2, ""), (3, "shared")):
        story.took("c1", seq, key, mark="acme")
        story.took("z1", seq, key, mark="other")
    story.told("c1", "presence", "online", by="user:bob")
    story.told("z1", "presence", "online", by="user:bob")
    story.told("z1", "typing", True, by="service:unseen")
    story.told("z1", "online", 3, by=None)
    assert story.found() == []
    assert story.judged("Tenant-wall") == 14


def test_another_tenants_event() -> None:
    """Found as a crossing and as nothing else, whether or not this tenant has an event at that place."""
    story = two_tenants()
    story.took("c1", 1)
    first = story.took("c1", 2, "other-2", by="user:other")
    second = story.took("c1", 3, "other-1", by="user:other")
    assert story.found() == [("Tenant-wall", first), ("Tenant-wall", second)]


def test_a_key_that_only_another_tenant_asked_for() -> None:
    """Where nobody knows the log, questions tell whose a key is."""
    story = Story(live=False)
    story.join("c1")
    story.join("z1", tenant="other", who="user:zoe")
    story.asks("z1", "send", "k")
    at = story.took("c1", 1, "k")
    assert story.found() == [("Tenant-wall", at)]


def test_another_tenants_mark() -> None:
    """A body that bears another tenant's mark, even in an event that looks right."""
    story = two_tenants()
    story.took("c1", 1, mark="acme")
    at = story.took("c1", 2, mark="other")
    assert story.found() == [("Tenant-wall", at)]


@pytest.mark.parametrize(("kind", "value"), [("presence", "online"), ("typing", True), ("mark", [0, 0])])
def test_a_signal_of_another_tenants_person(kind: str, value: object) -> None:
    """Who is known in other tenants alone is nobody here."""
    story = two_tenants()
    at = story.told("c1", kind, value, by="user:zoe")
    assert story.found() == [("Tenant-wall", at)]


def test_another_tenants_person_in_a_list() -> None:
    """Nor in a list of who is here."""
    story = two_tenants()
    at = story.add(View(0.0, "c1", ROOM, 2, None, {"user:zoe": "online", "user:bob": "online"}))
    assert story.found() == [("Tenant-wall", at)]


def test_another_tenants_stream() -> None:
    """A stream with a head, of which only another tenant has events; an empty one may share the name."""
    story = two_tenants()
    story.commit(1, tenant="other", stream="chat:b")
    story.follow("c1", 0, head=0, stream="chat:b")
    at = story.follow("c2", 0, head=1, stream="chat:b")
    assert story.found() == [("Tenant-wall", at)]


def test_who_claims_a_tenant_with_a_bad_token_is_not_of_it() -> None:
    """A forged opening makes nobody known."""
    story = two_tenants()
    story.open("f1", who="user:zoe", standing="foreign")
    story.ended("f1", "server", 4501, "no", "unauthorized")
    at = story.told("c1", "typing", True, by="user:zoe")
    assert story.found() == [("Tenant-wall", at)]


# Auth-fresh: removals


def test_a_removal_cuts_at_its_place() -> None:
    """All up to it comes, then it is let go of; back again by a later change, it follows anew."""
    story = Story()
    story.join("c1", who="user:bob")
    for seq in (1, 2):
        story.event(seq, "c1")
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 2))
    story.add(Unfollow(0.0, "c1", ROOM, "removed", 2))
    story.event(3)
    story.event(4)
    story.add(Member(0.0, "acme", ROOM, "user:bob", "member", 4))
    story.follow("c1", 2, head=4)
    story.took("c1", 3)
    story.took("c1", 4)
    assert story.found() == []
    assert story.judged("Auth-fresh") == 2


def test_an_event_past_a_removal() -> None:
    """However the producer tells of the removal: before, or at the end with the log."""
    story = Story()
    story.join("c1", who="user:bob")
    story.event(1, "c1")
    story.event(2, "c1")
    at = story.event(3, "c1")
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 2))
    assert story.found() == [("Auth-fresh", at)]


def test_an_event_after_being_let_go() -> None:
    """`unsub` with `removed` is the last word on a stream."""
    story = Story()
    story.join("c1", who="user:bob")
    story.event(1, "c1")
    story.add(Unfollow(0.0, "c1", ROOM, "removed", 1))
    at = story.event(2, "c1")
    assert story.found() == [("Auth-fresh", at)]


def test_a_signal_after_being_let_go() -> None:
    """Nor do signals and markers come."""
    story = Story()
    story.join("c1", who="user:bob")
    story.event(1, "c1")
    story.add(Unfollow(0.0, "c1", ROOM, "removed", 1))
    at = story.told("c1", "typing", True)
    assert story.found() == [("Auth-fresh", at)]


def test_who_was_removed_is_not_let_in() -> None:
    """At a head at or past the removal, by hello, resume or `sub`."""
    story = Story()
    for seq in (1, 2):
        story.commit(seq)
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 2))
    at = story.join("c1", 2, who="user:bob")
    assert story.found() == [("Auth-fresh", at)]


def test_removals_that_shut_nobody_out() -> None:
    """Of an open stream; of somebody whose token owns everything; of somebody else, or of the same name elsewhere."""
    story = Story()
    story.join("c1", who="user:bob")
    story.open("c2", who="service:ops", asked={ROOM: 0}, privileged=True)
    story.welcome("c2")
    story.follow("c2", 0)
    story.event(1, "c1", "c2")
    story.event(2, "c1", "c2")
    story.event(3, "c1", "c2")
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 1, open=True))
    story.add(Member(0.0, "acme", ROOM, "service:ops", None, 2))
    story.add(Member(0.0, "acme", ROOM, "user:cy", None, 2))
    story.add(Member(0.0, "other", ROOM, "user:bob", None, 2))
    story.add(Member(0.0, "acme", "chat:b", "user:bob", None, 2))
    assert story.found() == []


def test_who_is_back_in_the_log_is_let_in_by_a_node_that_lags() -> None:
    """The node asks the log, which has the return already; then the removal on its way ends nothing."""
    story = Story()
    for seq in (1, 2, 3):
        story.commit(seq)
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 2))
    story.add(Member(0.0, "acme", ROOM, "user:bob", "member", 3))
    story.join("c1", 1, head=1, who="user:bob")
    for seq in (2, 3):
        story.took("c1", seq)
    assert story.found() == []


def test_a_return_does_not_excuse_what_came_before_it() -> None:
    """Who was there when the removal came is cut by it, also if the return is next in the log."""
    story = Story()
    story.join("c1", who="user:bob")
    for seq in (1, 2):
        story.event(seq, "c1")
    at = story.event(3, "c1")
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 2))
    story.add(Member(0.0, "acme", ROOM, "user:bob", "member", 3))
    assert story.found() == [("Auth-fresh", at)]


def test_a_removal_that_a_restore_undid() -> None:
    """It shuts nobody out of the restored log; one that was kept does."""
    story = Story()
    for seq in (1, 2, 3):
        story.commit(seq)
    story.add(Member(0.0, "acme", ROOM, "user:bob", None, 3))
    story.add(Member(0.0, "acme", ROOM, "user:cy", None, 2))
    story.add(Restored(0.0, "e2", {f"acme/{ROOM}": 2}))
    story.join("c1", 2, who="user:bob", epoch="e2")
    for seq in (3, 4):
        story.commit(seq, f"new-{seq}", epoch="e2")
        story.took("c1", seq, f"new-{seq}")
    at = story.join("c2", 4, who="user:cy", epoch="e2")
    assert story.found() == [("Auth-fresh", at)]


# Auth-fresh: tokens


@pytest.mark.parametrize("standing", ["used", "expired", "forged", "foreign", "revoked"])
def test_a_dead_token_opens_nothing(standing: str) -> None:
    """No welcome answers it."""
    story = Story()
    story.open("c1", how="resume", standing=standing)
    at = story.welcome("c1", resumed=True)
    assert story.found() == [("Auth-fresh", at)]


def test_a_dead_token_then_a_good_one() -> None:
    """Openings of a connection are answered in their order; a spent token may or may not open."""
    story = Story()
    story.open("c1", how="resume", standing="forged")
    story.open("c1")
    story.rejected("c1")
    story.welcome("c1")
    story.open("c2", how="resume", standing="spent")
    story.welcome("c2", resumed=True)
    assert story.found() == []
    assert story.judged("Auth-fresh") == 1


@pytest.mark.parametrize(
    ("node", "trouble", "bus", "found"),
    [
        ("n1", "bus down", True, True),  # the node that welcomed it knows
        ("n2", "", True, True),
        ("n2", "cut", True, True),
        ("n2", "bus down", True, False),
        ("n2", "", False, False),
    ],
)
def test_a_used_token_on_a_node_that_cannot_know(node: str, trouble: str, bus: bool, found: bool) -> None:
    """While nodes do not hear each other, a token works once on each."""
    story = Story(run=Run(0.0, "a story", bus=bus))
    story.open("c1", node="n1", how="resume", credential="token")
    story.welcome("c1", resumed=True)
    if trouble:
        story.add(Fault(0.0, trouble))
    story.open("c2", node=node, how="resume", credential="token", standing="used")
    at = story.welcome("c2", resumed=True)
    assert story.found() == ([("Auth-fresh", at)] if found else [])


def test_an_identity_that_is_over() -> None:
    """Two heartbeats after an access token's end nothing comes any more, a node that stood still having so much longer."""
    story = Story(run=Run(0.0, "a story", heartbeat_s=2.0, live_commits=True))
    story.open("c1", expires_t=10.0)
    story.welcome("c1")
    story.follow("c1")
    story.wait(13.0)
    story.event(1, "c1")
    story.add(Fault(0.0, "pause", "n1", 3.0))
    story.wait(3.5)
    story.event(2, "c1")
    story.wait(1.0)
    event = story.event(3, "c1")
    signal = story.told("c1", "typing", True, sent_t=story.t)
    assert story.found() == [("Auth-fresh", event), ("Auth-fresh", signal)]
    assert story.judged("Auth-fresh") == 1


def test_who_reads_slowly_reads_after_its_identity_is_over() -> None:
    """What was committed, or put on the wire, in time may be read at any time; without live commits nobody knows."""
    for live in (True, False):
        story = Story(run=Run(0.0, "a story", heartbeat_s=2.0, live_commits=live))
        story.commit(1)
        story.open("c1", expires_t=1.0)
        story.welcome("c1")
        story.follow("c1")
        story.wait(9.0)
        event = story.took("c1", 1)
        story.told("c1", "typing", True, sent_t=2.0)
        assert story.found() == ([] if live else [("Auth-fresh", event)])


@pytest.mark.parametrize(("since_s", "found"), [(29.0, False), (31.0, True)])
def test_a_token_within_the_leeway_for_clocks(since_s: float, found: bool) -> None:
    """It may be let in, and stays until it is looked after, which is counted from its welcome."""
    story = Story(run=Run(0.0, "a story", heartbeat_s=25.0))
    story.wait(10.0 + since_s)
    story.open("c1", standing="expired", expires_t=10.0)
    at = story.welcome("c1")
    story.follow("c1")
    story.wait(49.0)
    story.took("c1", 1)
    assert story.found() == ([("Auth-fresh", at)] if found else [])


# Blast-radius-one


@pytest.mark.parametrize(
    ("code", "bye"),
    [
        (4000, "internal"),
        (4500, "bad_frame"),
        (4503, "forbidden"),
        (4505, "too_large"),
        (4501, "unauthorized"),
        (4003, "hello_timeout"),
        (1002, ""),
        (1003, ""),
        (1007, ""),
        (1009, ""),
        (1011, ""),
        (4000, ""),
    ],
)
def test_an_end_that_blames(code: int, bye: str) -> None:
    """Nobody who broke no rule is ended for one, nor by a fault of ours."""
    story = Story()
    story.join("c1")
    at = story.ended("c1", "server", code, "a reason", bye)
    assert story.found() == [("Blast-radius-one", at)]


@pytest.mark.parametrize(
    ("by", "code", "reason", "bye"),
    [
        ("server", 4001, "this node is going away", "draining"),
        ("server", 4002, "too many are coming at once", "overloaded"),
        ("server", 4004, "", "rate_limited"),
        ("server", 4005, "nothing heard", "idle"),
        ("server", 4006, "the log cannot be reached now", "unavailable"),
        ("server", 4502, "", "revoked"),
        ("server", 4504, "a newer connection", "superseded"),
        ("server", 4000, "the log was restored", "internal"),
        ("server", 1000, "", ""),
        ("client", 1000, "", ""),
        ("client", 1002, "", ""),
        ("network", 0, "", ""),
    ],
)
def test_ends_that_blame_nobody(by: str, code: int, reason: str, bye: str) -> None:
    """Codes that ask to come back, or that tell of what the client or its session did itself."""
    story = Story()
    story.join("c1")
    story.ended("c1", by, code, reason, bye)
    assert story.found() == []
    assert story.judged("Blast-radius-one") == 1


def test_ends_that_are_deserved() -> None:
    """Of who breaks rules on purpose, brings a bad token, outlives its token, or was held up by trouble."""
    story = Story()
    story.open("c1", hostile=True)
    story.ended("c1", "server", 4500, "not JSON", "bad_frame")
    story.open("c2", standing="expired")
    story.ended("c2", "server", 4501, "expired", "unauthorized")
    story.open("c3", expires_t=1.0)
    story.welcome("c3")
    story.wait(1.0)
    story.ended("c3", "server", 4501, "the access token has expired", "unauthorized")
    story.open("c4", how="resume", standing="spent")
    story.rejected("c4")
    story.ended("c4", "server", 4003, "no hello within 5 s", "hello_timeout")
    story.add(Fault(0.0, "stall", for_s=9.0))
    story.open("c5")
    story.ended("c5", "server", 4003, "no hello within 5 s", "hello_timeout")
    assert story.found() == []
    assert story.judged("Blast-radius-one") == 4


def test_an_end_before_any_opening_is_nobodys() -> None:
    """A connection that never said hello is not known to be a client."""
    story = Story()
    story.ended("c1", "server", 4003, "no hello within 5 s", "hello_timeout")
    assert story.found() == []
    assert story.judged("Blast-radius-one") == 0


def test_a_clock_that_was_moved() -> None:
    """By another clock a good token has ended and an expired one has not: then neither is held against the node."""
    story = Story(run=Run(0.0, "a story", heartbeat_s=1.0))
    story.open("c1", expires_t=1.0)
    story.welcome("c1")
    story.follow("c1")
    story.open("c2")
    story.welcome("c2")
    story.add(Fault(0.0, "wall", "n1"))
    story.ended("c2", "server", 4501, "the access token has expired", "unauthorized")
    story.open("c3", standing="expired")
    story.welcome("c3")
    story.open("c4", how="resume")
    story.rejected("c4")
    story.wait(9.0)
    story.took("c1", 1)
    assert story.found() == []
