"""core.session: one connection speaks for a session, and only its newest token resumes it."""

from __future__ import annotations

from dataclasses import replace

from core.session import Sessions
from core.tokens import ResumeClaims

TTL_S = 300.0
CLAIMS = ResumeClaims("demo", "user:amy", "s1", 1, frozenset(), 10_000.0, 1_000.0)


def sessions(sessions_max: int = 10) -> Sessions[str]:
    return Sessions(sessions_max, TTL_S)


def test_a_token_resumes_once() -> None:
    """Using it makes the next and kills the used one; the older connection is superseded."""
    ours = sessions()
    assert ours.open("s1", "first") == 1
    assert ours.may_resume(CLAIMS, 0.0) is None
    assert ours.resume(CLAIMS, "second") == (2, "first")
    assert ours.may_resume(CLAIMS, 0.0) == "used before"
    assert ours.may_resume(replace(CLAIMS, generation=2), 0.0) is None
    assert ours.generation("s1") == 2
    assert ours.generation("s2") is None


def test_resuming_after_the_connection_ended_supersedes_nobody() -> None:
    """Nobody is told of a newer connection when the older has gone; nor is the one that resumes."""
    ours = sessions()
    ours.open("s1", "first")
    ours.close("s1", "first", 5.0)
    assert ours.resume(CLAIMS, "second") == (2, None)
    assert ours.resume(replace(CLAIMS, generation=2), "second") == (3, None)


def test_the_end_of_a_superseded_connection_changes_nothing() -> None:
    """The older connection closes after the newer took over: the session is still the newer's."""
    ours = sessions()
    ours.open("s1", "first")
    ours.resume(CLAIMS, "second")
    ours.close("s1", "first", 5.0)
    ours.close("unknown", "first", 5.0)
    ours.forget_ended(1e9)
    assert len(ours) == 1


def test_expiry_counts_from_the_end_of_the_connection() -> None:
    """A connection of hours leaves a resume good for the whole time to live after it ends."""
    ours = sessions()
    ours.open("s1", "first")
    assert ours.may_resume(CLAIMS, 5_000.0) is None
    ours.close("s1", "first", 5_000.0)
    assert ours.may_resume(CLAIMS, 5_000.0 + TTL_S - 1) is None
    assert ours.may_resume(CLAIMS, 5_000.0 + TTL_S) == "expired"
    early = sessions()
    early.open("s1", "first")
    early.close("s1", "first", 1.0)
    assert early.may_resume(CLAIMS, 999.0) is None  # the token itself was promised until then


def test_a_session_of_another_node_is_taken_at_its_tokens_word() -> None:
    """What this node has not seen is judged by the token's own expiry, whatever its generation."""
    ours = sessions()
    assert ours.may_resume(replace(CLAIMS, generation=7), 999.0) is None
    assert ours.may_resume(CLAIMS, 1_000.0) == "expired"
    assert ours.resume(replace(CLAIMS, generation=7), "here") == (8, None)


def test_a_newer_token_is_another_nodes_and_taken_at_its_word() -> None:
    """The session went on elsewhere and comes back: what this node remembers of it is older than the token."""
    ours = sessions()
    ours.open("s1", "first")
    assert ours.may_resume(replace(CLAIMS, generation=5), 999.0) is None
    assert ours.may_resume(replace(CLAIMS, generation=5), 1_000.0) == "expired"
    assert ours.resume(replace(CLAIMS, generation=5), "back") == (6, "first")
    assert ours.may_resume(replace(CLAIMS, generation=5), 0.0) == "used before"


def test_another_node_takes_a_session_over() -> None:
    """Its connection here is let go of, once, and older tokens are dead here too; the newest still resumes."""
    ours = sessions()
    ours.open("s1", "first")
    assert ours.taken("s1", 2, 5.0) == "first"
    assert ours.taken("s1", 2, 6.0) is None
    assert ours.may_resume(CLAIMS, 6.0) == "used before"
    assert ours.may_resume(replace(CLAIMS, generation=2), 6.0) is None
    assert ours.may_resume(replace(CLAIMS, generation=2), 1_000.0) == "expired"
    ours.close("s1", "first", 7.0)  # it ends now; nothing here is about it any more
    assert ours.resume(replace(CLAIMS, generation=2), "back") == (3, None)


def test_what_another_node_says_of_the_past_changes_nothing() -> None:
    """A message that comes late, or is about a session not known here."""
    ours = sessions()
    ours.open("s1", "first")
    ours.resume(CLAIMS, "second")
    assert ours.taken("s1", 1, 0.0) is None
    assert ours.taken("elsewhere", 9, 0.0) is None
    assert (len(ours), ours.spoken_for("s1"), ours.spoken_for("elsewhere")) == (1, 2, None)


def test_a_node_knows_which_tokens_are_its_own() -> None:
    """Made here and not taken over since: nobody else needs to be told that it is used."""
    ours = sessions()
    assert not ours.was_last_here(CLAIMS)
    ours.open("s1", "first")
    assert ours.was_last_here(CLAIMS)
    assert not ours.was_last_here(replace(CLAIMS, generation=2))
    ours.taken("s1", 2, 0.0)
    assert not ours.was_last_here(replace(CLAIMS, generation=2))
    ours.resume(replace(CLAIMS, generation=2), "back")
    assert ours.was_last_here(replace(CLAIMS, generation=3))


def test_who_speaks_here_is_listed() -> None:
    """Sessions without a connection here are remembered and not spoken for."""
    ours = sessions()
    ours.open("s1", "first")
    ours.open("s2", "other")
    ours.close("s2", "other", 0.0)
    ours.resume(CLAIMS, "second")
    assert list(ours.speaking()) == [("s1", 2)]
    assert ours.spoken_for("s2") is None
    assert ours.generation("s2") == 1


def test_resuming_never_outlives_the_access_token() -> None:
    """The identity behind it has ended: no resume, however young its token."""
    ours = sessions()
    ours.open("s1", "first")
    assert ours.may_resume(CLAIMS, 10_000.0) == "the access token behind it has expired"


def test_ended_sessions_are_forgotten_after_twice_their_time() -> None:
    """Long enough that a reuse is still recognised as one."""
    ours = sessions()
    ours.open("s1", "first")
    ours.open("s2", "other")
    ours.close("s1", "first", 0.0)
    ours.forget_ended(2 * TTL_S - 1)
    assert ours.may_resume(replace(CLAIMS, generation=0), TTL_S) == "used before"
    ours.forget_ended(2 * TTL_S)
    assert (len(ours), ours.generation("s1"), ours.generation("s2")) == (1, None, 1)


def test_at_most_so_many_sessions_are_remembered() -> None:
    """Past the bound the one longest without use goes; resuming counts as use."""
    ours = sessions(2)
    ours.open("s1", "a")
    ours.open("s2", "b")
    ours.resume(CLAIMS, "c")
    ours.open("s3", "d")
    assert (ours.generation("s1"), ours.generation("s2"), ours.generation("s3")) == (2, None, 1)


def test_one_that_ended_is_forgotten_before_one_that_lives() -> None:
    """The oldest of those without a connection, whenever it began; only where all live, the oldest of them."""
    ours = sessions(3)
    for name in ("s1", "s2", "s3"):
        ours.open(name, name)
    ours.close("s2", "s2", 0.0)
    ours.close("s3", "s3", 0.0)
    ours.open("s4", "s4")
    assert [ours.generation(f"s{n}") for n in (1, 2, 3, 4)] == [1, None, 1, 1]


def test_two_nodes_with_as_many_resumes_know_of_each_other() -> None:
    """Both took one token while they could not talk: the one that is told gives its connection up."""
    ours = sessions()
    ours.open("s1", "first")
    ours.resume(CLAIMS, "second")
    assert ours.taken("s1", 2, 5.0) == "second"
    assert ours.spoken_for("s1") is None


def test_expiry_counts_from_the_takeover_and_from_no_later_word_of_it() -> None:
    """The connection here ended then; hearing of it once more prolongs nothing."""
    ours = sessions()
    ours.open("s1", "first")
    newest = replace(CLAIMS, generation=2)
    ours.taken("s1", 2, 5_000.0)
    assert ours.may_resume(newest, 5_000.0 + TTL_S - 1) is None
    ours.taken("s1", 2, 5_200.0)
    assert ours.may_resume(newest, 5_000.0 + TTL_S) == "expired"
