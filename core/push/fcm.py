"""Firebase Cloud Messaging, HTTP v1: the message, what its answers mean, and the assertion that buys an access token.

Rules obeyed (firebase.google.com/docs/cloud-messaging, "FCM error codes" and "Best practices when sending at scale"; RFC 7523
for the assertion, of at most an hour): 400, 403 and 404 are never repeated, 401 once with a new access token, 429 after its
Retry-After or else a minute, 500 and 503 after their Retry-After or else exponentially with jitter. A token is dead where an
`FcmError` says UNREGISTERED, and not for any other 404, which a project's slip can cause for all of them.

``collapse_key`` makes one of what waits at Google for a phone that is away; ``tag`` one of what a phone shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from core.push.alert import BODY_KEY, TITLE_KEY, Note, facts, minutes, text, title
from core.push.rules import SENT, PushLimits, Verdict, later, refused

URL: Final = "https://fcm.googleapis.com"
TOKEN_URI: Final = "https://oauth2.googleapis.com/token"
SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S: Final = 3_600
FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"


class Account(NamedTuple):
    """Google's JSON of a service account, as much as is needed. ``private_key`` is PEM."""

    project_id: str
    client_email: str
    private_key: str
    private_key_id: str
    token_uri: str


def read_account(data: bytes) -> Account | str:
    """Or what is wrong with it; never what is in it."""
    try:
        document = orjson.loads(data)
    except ValueError:
        return "is not JSON"
    if not isinstance(document, dict) or document.get("type") != "service_account":
        return "is no service account's JSON (its type is service_account)"
    given = {name: document.get(name, "") for name in Account._fields}
    given["token_uri"] = given["token_uri"] or TOKEN_URI
    for name, value in given.items():
        if not isinstance(value, str) or (not value and name != "private_key_id"):
            return f"lacks {name}"
    if not given["token_uri"].startswith("https://"):
        return "has a token_uri that is not https"
    return Account(**given)


def assertion(account: Account, now_s: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims."""
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": account.private_key_id} if account.private_key_id else {})
    claims = {
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": account.token_uri,
        "iat": now_s,
        "exp": now_s + ASSERTION_S,
    }
    return header, claims


class Access(NamedTuple):
    token: str
    until_s: float


def read_access(body: bytes, now_s: float, limits: PushLimits) -> Access | str:
    """The token endpoint's 200: until when the token is used; or what is wrong with it."""
    document = _object(body)
    token, life_s = document.get("access_token"), document.get("expires_in")
    if not isinstance(token, str) or not token or isinstance(life_s, bool) or not isinstance(life_s, int | float):
        return "the token endpoint's answer holds no access_token and expires_in"
    return Access(token, now_s + max(life_s - limits.access_token_spare_s, life_s / 2))


def path(account: Account) -> str:
    return f"/v1/projects/{account.project_id}/messages:send"


def message(token: str, app: str, note: Note, now_ms: int) -> bytes:
    alert = note.alert
    ttl_s = max(1, (note.until_ms - now_ms) // 1000)
    words = {"title": title(alert), "body": text(alert)}
    android = {
        "collapse_key": note.collapse,
        "priority": "HIGH",
        "ttl": f"{ttl_s}s",
        "restricted_package_name": app,
        "notification": {
            "title_loc_key": TITLE_KEY,
            "title_loc_args": [str(minutes(alert))],
            "body_loc_key": BODY_KEY,
            "body_loc_args": [text(alert)],
            "tag": note.collapse,
        },
    }
    return orjson.dumps({"message": {"token": token, "notification": words, "data": facts(alert), "android": android}})


def judge(status: int, body: bytes, retry_after_s: float | None, limits: PushLimits) -> Verdict:
    if status == 200:
        return SENT
    code, said = _error(body)
    reason = f"{status} {code or said}".strip()
    if status == 404 and code == "UNREGISTERED":
        return Verdict("dead", code)
    if status == 401 and code != "THIRD_PARTY_AUTH_ERROR":  # that one is of keys which the project holds at others
        return Verdict("renew", reason)
    if status == 429:
        return later(reason, limits.fcm_quota_s if retry_after_s is None else retry_after_s)
    if status >= 500:
        return later(reason, retry_after_s)
    return refused(reason)


def _error(body: bytes) -> tuple[str, str]:
    """What a `google.rpc.Status` says: FCM's own code, else the general one."""
    error = _object(body).get("error")
    if not isinstance(error, Mapping):
        return "", ""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if (
            isinstance(detail, Mapping)
            and detail.get("@type") == FCM_ERROR
            and isinstance(detail.get("errorCode"), str)
        ):
            return detail["errorCode"], ""
    status = error.get("status")
    return "", status if isinstance(status, str) else ""


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
