"""core.work_limits: bounds that are there and fit together."""

from __future__ import annotations

from dataclasses import fields

from core.limits import Limits
from core.work_limits import WorkLimits

LIMITS = WorkLimits()


def test_every_bound_is_there() -> None:
    """None is switched off by being nothing."""
    assert all(getattr(LIMITS, field.name) > 0 for field in fields(WorkLimits))


def test_bounds_fit_together() -> None:
    """Beats can be lost without losing a lease; what waits longest waits less than it is kept; calls end within their claim."""
    assert LIMITS.lease_s >= 4 * LIMITS.beat_s
    assert LIMITS.poll_s < LIMITS.beat_s
    assert LIMITS.timer_s <= LIMITS.task_s
    assert LIMITS.webhook_s < LIMITS.task_s
    assert LIMITS.retry_first_s < LIMITS.retry_max_s < LIMITS.keep_done_s
    assert LIMITS.running_tasks_max <= LIMITS.claim_tasks
    assert Limits().commit_timeout_s <= LIMITS.timer_s, "a timer's command is answered before its claim runs out"
