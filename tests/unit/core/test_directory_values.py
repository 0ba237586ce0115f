"""core.directory: the values that a directory's adapters share."""

from __future__ import annotations

from core.directory import SCOPES, WINDOW, Ping, Refresh, Revocation


def test_a_revocation_is_in_force_unless_it_was_lifted() -> None:
    """Whoever makes one without saying more has revoked."""
    assert not Revocation(1, "acme", "tenant", "", 5, None, "unpaid", "user:root").lifted


def test_the_window_is_whole_words() -> None:
    """Adapters keep it as 64-bit words."""
    assert WINDOW % 64 == 0


def test_the_words_that_are_stored_stay_what_they_are() -> None:
    """They are in databases and on the wire."""
    assert SCOPES == ("token", "session", "principal", "tenant")
    assert [ping.value for ping in Ping] == ["accepted", "duplicate", "too_old"]
    assert [refresh.value for refresh in Refresh] == ["ok", "unknown", "reused"]
