"""core.retry: what a Retry-After says, in seconds."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from core.retry import RETRY_AFTER_MAX_S, retry_after_s

NOW_S = 1_790_000_000.0


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("", None),
        ("soon", None),
        ("-3", None),
        ("0", 0.0),
        (" 17 ", 17.0),
        ("99999", RETRY_AFTER_MAX_S),
        ("9" * 400, RETRY_AFTER_MAX_S),
        (formatdate(NOW_S + 30, usegmt=True), 30.0),
        (formatdate(NOW_S - 30, usegmt=True), 0.0),
        (formatdate(NOW_S + 1e6, usegmt=True), RETRY_AFTER_MAX_S),
    ],
)
def test_retry_after(text: str, wait: float | None) -> None:
    """Seconds or a date, bounded; else nothing."""
    assert retry_after_s(text, NOW_S) == wait
