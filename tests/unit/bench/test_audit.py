"""bench.gen.audit: what was lost, doubled, skipped or mixed up is counted, in traces made up to hold each of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.gen.audit import Audit, Cursors, wrong_presence

A, B = b"chat:a", b"chat:b"


def told(audit: Audit, *seqs: int) -> None:
    """Senders were told of these seqs, each with a key of its own."""
    for seq in seqs:
        audit.acknowledged(A, seq, b"k%d" % seq, 1_000 * seq)


def got(audit: Audit, *seqs: int, cursors: Cursors | None = None) -> Cursors:
    """A follower that started at the head 0 got these."""
    mine: Cursors = {A: 0} if cursors is None else cursors
    for seq in seqs:
        audit.took(mine, A, seq, b"k%d" % seq)
    return mine


def test_who_got_all_of_it_once_and_in_order_gives_no_cause() -> None:
    """Nothing skipped, doubled, mixed up or behind."""
    audit = Audit()
    told(audit, 1, 2, 3)
    cursors = got(audit, 1, 2, 3)
    assert (audit.delivered, audit.skipped, audit.duplicates, audit.conflicts, audit.doubled()) == (3, 0, 0, 0, 0)
    assert audit.behind([cursors]) == 0


def test_an_event_that_was_led_past_is_skipped_for_good() -> None:
    """It counts once; coming late it is a duplicate of a place that was passed, not a repair."""
    audit = Audit()
    told(audit, 1, 2, 3, 4)
    cursors = got(audit, 1, 4, 2)
    assert (audit.skipped, audit.duplicates) == (2, 1)
    assert audit.behind([cursors]) == 0, "what was led past is told apart from what has not come"


def test_an_event_that_came_twice_is_a_duplicate() -> None:
    """Wherever it came from: a new connection's replay, too."""
    audit = Audit()
    assert got(audit, 1, 2, 2) == {A: 2}
    assert (audit.delivered, audit.duplicates) == (2, 1)


def test_only_what_was_acknowledged_can_be_missing() -> None:
    """A send whose sender knows nothing may be in the log or not."""
    audit = Audit()
    told(audit, 1, 2, 5)
    whole, behind, empty = got(audit, 1, 2, 3, 4, 5), got(audit, 1), {A: 0}
    assert audit.behind([whole]) == 0
    assert audit.behind([whole, behind, empty]) == 2 + 3
    assert audit.behind([{B: 0}]) == 0, "nothing was said in that room"


def test_two_keys_at_one_seq_are_a_conflict() -> None:
    """Two followers that see different events at one place."""
    audit = Audit()
    audit.took({A: 0}, A, 1, b"k1")
    audit.took({A: 0}, A, 1, b"other")
    assert audit.conflicts == 1


def test_one_key_at_two_seqs_is_doubled() -> None:
    """A repeated send that landed twice, though each place looks right by itself."""
    audit = Audit()
    cursors: Cursors = {A: 0}
    audit.took(cursors, A, 1, b"k")
    audit.took(cursors, A, 2, b"k")
    assert (audit.conflicts, audit.doubled()) == (0, 1)


def test_an_answer_that_contradicts_an_earlier_one_is_a_conflict() -> None:
    """The same key must be answered with the same seq, and a seq with one key."""
    audit = Audit()
    audit.acknowledged(A, 1, b"k", 10)
    audit.acknowledged(A, 1, b"k", 20)
    assert audit.conflicts == 0, "a repeated send is answered with the first seq"
    audit.acknowledged(A, 2, b"k", 30)
    audit.acknowledged(A, 1, b"other", 30)
    assert audit.conflicts == 2


def test_an_event_other_than_was_acknowledged_is_mixed_up() -> None:
    """The sender was told of seq 1, and somebody else's event is there."""
    audit = Audit()
    told(audit, 1)
    audit.took({A: 0}, A, 1, b"somebody's")
    assert audit.doubled() == 1


def test_the_gap_of_an_event_runs_from_its_first_answer() -> None:
    """None where the delivery came first, or the sender never knew."""
    audit = Audit()
    assert audit.since_acknowledged(A, 1, 5_000) == 0
    audit.acknowledged(A, 1, b"k", 3_000)
    audit.acknowledged(A, 1, b"k", 4_000)
    assert audit.since_acknowledged(A, 1, 5_000) == 2_000
    assert audit.since_acknowledged(A, 1, 2_000) == 0


@given(st.lists(st.integers(1, 12), max_size=40))
def test_every_seq_is_delivered_skipped_or_still_to_come(seqs: list[int]) -> None:
    """Whatever the order: a follower's cursor is what was delivered and skipped together."""
    audit = Audit()
    cursors = got(audit, *seqs)
    assert audit.delivered + audit.skipped == cursors[A]
    assert audit.delivered + audit.duplicates == len(seqs)


def test_a_presence_list_is_wrong_by_each_name_too_many_or_too_few() -> None:
    """Away is there; offline is not, also where it is named."""
    seen = {"user:amy": "online", "user:bob": "away", "user:cy": "offline"}
    assert wrong_presence(seen, ["user:amy", "user:bob"]) == 0
    assert wrong_presence(seen, ["user:amy", "user:cy"]) == 2
    assert wrong_presence({}, ["user:amy"]) == 1
