"""Apple's push service: headers and payload of a notification, what its answers mean, and when a provider token is new.

Rules obeyed (developer.apple.com, "Sending notification requests to APNs", "Handling notification responses from APNs",
"Establishing a token-based connection to APNs"): 410 and BadDeviceToken end a device token; other 400s, 403s and 413 are never
repeated, but for ExpiredProviderToken, which is repeated once with a new one; 429 later; 5xx after 15 minutes, as Apple asks,
where no Retry-After says otherwise. A payload has at most 4,096 bytes, a collapse id 64.

A provider token is used for `provider_token_s` and counts from a multiple of that on the clock that all share. Signed
deterministically (RFC 6979) it is the same string in every worker and after every restart, so that a team never has more than
one in twenty minutes, however many workers begin anew.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from core.commands import derived_key
from core.push.alert import BODY_KEY, TITLE_KEY, Note, facts, minutes, text, title
from core.push.rules import SENT, PushLimits, Verdict, later, refused

URL: Final = "https://api.push.apple.com"
SANDBOX_URL: Final = "https://api.sandbox.push.apple.com"
PAYLOAD_BYTES_MAX: Final = 4_096


class Team(NamedTuple):
    """Whose apps they are. ``key`` is the .p8 file's PEM."""

    team: str
    key_id: str
    key: str


def issued_s(now_s: float, limits: PushLimits) -> int:
    """`iat` of the provider token that is to be used now."""
    return int((now_s - limits.provider_token_back_s) // limits.provider_token_s * limits.provider_token_s)


def renew_in_s(issued: int, now_s: float, limits: PushLimits) -> float:
    """How long until a token in place of one issued then is allowed, where Apple says that it expired."""
    return max(0.0, issued + limits.provider_token_min_s - now_s)


def provider_token(team: Team, issued: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims."""
    return {"alg": "ES256", "kid": team.key_id}, {"iss": team.team, "iat": issued}


def path(token: str) -> str:
    return f"/3/device/{token}"


def headers(provider: str, app: str, ref: str, note: Note) -> dict[str, str]:
    """``ref``: of the device, whose notification has an id of its own that is the same when sent again."""
    return {
        "authorization": f"bearer {provider}",
        "apns-topic": app,
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(note.until_ms // 1000),
        "apns-collapse-id": note.collapse,
        "apns-id": derived_key("apns", note.key, ref),
    }


def payload(note: Note) -> bytes:
    alert = note.alert
    words = {
        "title": title(alert),
        "title-loc-key": TITLE_KEY,
        "title-loc-args": [str(minutes(alert))],
        "body": text(alert),
        "loc-key": BODY_KEY,
        "loc-args": [text(alert)],
    }
    data = orjson.dumps({"aps": {"alert": words, "sound": "default"}, **facts(alert)})
    assert len(data) <= PAYLOAD_BYTES_MAX, "names are bounded where alerts are read"
    return data


def judge(status: int, body: bytes, retry_after_s: float | None, limits: PushLimits) -> Verdict:
    if status == 200:
        return SENT
    reason, at_ms = _error(body)
    said = f"{status} {reason}".strip()
    if status == 410 or (status == 400 and reason == "BadDeviceToken"):
        return Verdict("dead", reason, before_ms=at_ms if status == 410 else None)
    if status == 403 and reason == "ExpiredProviderToken":
        return Verdict("renew", said)
    if status == 429:
        return later(said, limits.apns_busy_s if retry_after_s is None else retry_after_s)
    if status >= 500:
        return later(said, limits.apns_5xx_s if retry_after_s is None else retry_after_s)
    return refused(said)


def _error(body: bytes) -> tuple[str, int | None]:
    """The reason, and (of 410) since when the token is no more."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return "", None
    if not isinstance(document, dict):
        return "", None
    reason, at_ms = document.get("reason"), document.get("timestamp")
    whole = isinstance(at_ms, int) and not isinstance(at_ms, bool)
    return reason if isinstance(reason, str) else "", at_ms if whole else None
