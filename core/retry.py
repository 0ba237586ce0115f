"""How long somebody outside asks to be left alone: what a ``Retry-After`` says.

For: whatever calls over HTTP what is not ours. Promises: total for any text; at most `RETRY_AFTER_MAX_S`.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

RETRY_AFTER_MAX_S: Final = 3_600.0
"""Who asks for more is asked again after an hour all the same."""


def retry_after_s(text: str, now_s: float) -> float | None:
    """Of a header's value: seconds, or a date (RFC 9110, section 10.2.3); what cannot be read says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_MAX_S)
    try:
        wait_s = parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)
