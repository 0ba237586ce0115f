"""core.rules.limits: bounds that must fit each other and those of others."""

from __future__ import annotations

from core.flight import timers
from core.rules import limits
from core.rules.model import timer_name


def test_a_rules_timers_are_timers_of_a_stream() -> None:
    """The longest id with a step makes a name that a stream takes, and a wait is no longer than a timer may be."""
    assert timers.NAME_RE.match(timer_name("x" * limits.ID_CHARS_MAX, limits.ACTIONS_MAX))
    assert limits.WAIT_MAX_MS <= timers.AHEAD_MAX_MS


def test_rules_leave_timers_for_others() -> None:
    """A stream has room for timers of sagas and people beside those of rules."""
    assert limits.WAITS_MAX < timers.TIMERS_MAX


def test_what_one_rule_remembers_fits() -> None:
    """An event that began a wait, twice (wait and steps), is well within a stream's memory."""
    assert 4 * limits.TRIGGER_BYTES_MAX < limits.MEMORY_BYTES_MAX
