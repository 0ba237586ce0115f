"""FCM's messages and answers, as its documents have them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.push import fcm
from core.push.alert import Alert, Note
from core.push.rules import SENT, PushLimits, Verdict, later, refused

LIMITS = PushLimits()
NOW_MS = 1_790_000_000_000
ALERT = Alert("trip:9", "home", 600, NOW_MS + 600_000, "Home", "", "")
NOTE = Note(ALERT, "0b5e7c1e-4f57-8d8a-9a53-3c1f0c8f2f11", "eta-1", NOW_MS + 600_000)
JSON: dict[str, Any] = {
    "type": "service_account",
    "project_id": "buses",
    "client_email": "a@buses.example",
    "private_key": "PEM",
    "private_key_id": "k1",
    "token_uri": "https://t.example/token",
}


def error(status: int, general: str, code: str | None = None) -> bytes:
    details: list[object] = [{"@type": "type.googleapis.com/google.rpc.BadRequest"}, 7, {"@type": fcm.FCM_ERROR}]
    if code is not None:
        details.append({"@type": fcm.FCM_ERROR, "errorCode": code})
    return orjson.dumps({"error": {"code": status, "message": "m", "status": general, "details": details}})


def test_the_message() -> None:
    """One device, plain words and keys to localise by, an end, one at a time on the screen, and facts as text."""
    document = orjson.loads(fcm.message("tok", "example.buses", NOTE, NOW_MS + 1_500))
    assert document == {
        "message": {
            "token": "tok",
            "notification": {"title": "Arriving in about 10 minutes", "body": "Home"},
            "data": {
                "type": "trip.alert",
                "trip": "trip:9",
                "stop": "home",
                "threshold_s": "600",
                "eta": "2026-09-21T14:23:20.000Z",
            },
            "android": {
                "collapse_key": "eta-1",
                "priority": "HIGH",
                "ttl": "598s",
                "restricted_package_name": "example.buses",
                "notification": {
                    "title_loc_key": "trip_alert_title",
                    "title_loc_args": ["10"],
                    "body_loc_key": "trip_alert_body",
                    "body_loc_args": ["Home"],
                    "tag": "eta-1",
                },
            },
        }
    }
    last = orjson.loads(fcm.message("tok", "example.buses", NOTE, NOTE.until_ms - 1))
    assert last["message"]["android"]["ttl"] == "1s"


@given(*(st.text(max_size=size) for size in (160, 160, 80)))
def test_the_message_is_never_too_big(trip: str, stop: str, name: str) -> None:
    """FCM takes 4,096 bytes of data and notification."""
    note = NOTE._replace(alert=ALERT._replace(trip=trip, stop=stop, name=name))
    message = orjson.loads(fcm.message("tok", "example.buses", note, NOW_MS))["message"]
    assert len(orjson.dumps([message["data"], message["notification"]])) <= 4_096


@pytest.mark.parametrize(
    ("status", "body", "after_s", "verdict"),
    [
        (200, b"{}", None, SENT),
        (404, error(404, "NOT_FOUND", "UNREGISTERED"), None, Verdict("dead", "UNREGISTERED")),
        (404, error(404, "NOT_FOUND"), None, refused("404 NOT_FOUND")),
        (400, error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), 5.0, refused("400 INVALID_ARGUMENT")),
        (403, error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), None, refused("403 SENDER_ID_MISMATCH")),
        (401, error(401, "UNAUTHENTICATED"), None, Verdict("renew", "401 UNAUTHENTICATED")),
        (401, error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), None, refused("401 THIRD_PARTY_AUTH_ERROR")),
        (429, error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), None, later("429 QUOTA_EXCEEDED", 60.0)),
        (429, b"", 7.0, later("429", 7.0)),
        (500, error(500, "INTERNAL", "INTERNAL"), None, later("500 INTERNAL")),
        (503, error(503, "UNAVAILABLE", "UNAVAILABLE"), 9.0, later("503 UNAVAILABLE", 9.0)),
        (418, b"[]", None, refused("418")),
        (400, b'{"error":{"status":7,"details":{}}}', None, refused("400")),
        (400, b'{"error":"no"}', None, refused("400")),
        (502, b"<html>", None, later("502")),
    ],
)
def test_answers(status: int, body: bytes, after_s: float | None, verdict: Verdict) -> None:
    """Each status and code has its own rule; what cannot be read has its status'."""
    assert fcm.judge(status, body, after_s, LIMITS) == verdict


def test_an_account_is_read() -> None:
    """Google's file as it is; its token endpoint and its key's id may be missing."""
    assert fcm.read_account(orjson.dumps({**JSON, "universe_domain": "x"})) == fcm.Account(
        "buses", "a@buses.example", "PEM", "k1", "https://t.example/token"
    )
    bare = {name: value for name, value in JSON.items() if name not in ("token_uri", "private_key_id")}
    account = fcm.read_account(orjson.dumps(bare))
    assert isinstance(account, fcm.Account)
    assert (account.token_uri, account.private_key_id) == (fcm.TOKEN_URI, "")
    assert fcm.path(account) == "/v1/projects/buses/messages:send"
    assert fcm.assertion(account, 5)[0] == {"alg": "RS256", "typ": "JWT"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is no service account's JSON"),
        (orjson.dumps({**JSON, "type": "authorized_user"}), "is no service account's JSON"),
        (orjson.dumps({**JSON, "private_key": ""}), "lacks private_key"),
        (orjson.dumps({**JSON, "project_id": 7}), "lacks project_id"),
        (orjson.dumps({**JSON, "token_uri": "http://t.example"}), "not https"),
    ],
)
def test_no_account(data: bytes, says: str) -> None:
    """What is wrong, and nothing of what is in it."""
    found = fcm.read_account(data)
    assert isinstance(found, str)
    assert says in found


def test_the_assertion() -> None:
    """By the account, for its token endpoint, to push and nothing else, for an hour."""
    account = fcm.read_account(orjson.dumps(JSON))
    assert isinstance(account, fcm.Account)
    assert fcm.assertion(account, 1_000) == (
        {"alg": "RS256", "typ": "JWT", "kid": "k1"},
        {
            "iss": "a@buses.example",
            "scope": "https://www.googleapis.com/auth/firebase.messaging",
            "aud": "https://t.example/token",
            "iat": 1_000,
            "exp": 4_600,
        },
    )


def test_an_access_token_is_renewed_before_it_ends() -> None:
    """Five minutes before; one that is short, after half its life."""
    assert fcm.read_access(b'{"access_token":"t","expires_in":3599}', 1_000.0, LIMITS) == fcm.Access("t", 4_299.0)
    assert fcm.read_access(b'{"access_token":"t","expires_in":100}', 1_000.0, LIMITS) == fcm.Access("t", 1_050.0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"access_token":"t"}',
        b'{"access_token":"","expires_in":9}',
        b'{"access_token":"t","expires_in":true}',
    ],
)
def test_no_access_token(body: bytes) -> None:
    """An answer that lacks it, or its end, is said to."""
    assert isinstance(fcm.read_access(body, 0.0, LIMITS), str)
