"""APNs' headers, payloads, answers and provider tokens, as Apple's documents have them."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model import KEY_RE
from core.push import apns
from core.push.alert import Alert, Note
from core.push.rules import SENT, PushLimits, Verdict, later, refused

LIMITS = PushLimits()
NOW_MS = 1_790_000_000_000
ALERT = Alert("trip:9", "home", 600, NOW_MS + 600_000, "Home", "", "")
NOTE = Note(ALERT, "0b5e7c1e-4f57-8d8a-9a53-3c1f0c8f2f11", "eta-1", NOW_MS + 600_999)


def test_headers() -> None:
    """All that Apple asks for; the id is the notification's and the device's own, the same when sent again."""
    head = apns.headers("jwt", "example.buses", "ref", NOTE)
    assert head.pop("apns-id") == apns.headers("another", "example.buses", "ref", NOTE)["apns-id"]
    assert head == {
        "authorization": "bearer jwt",
        "apns-topic": "example.buses",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1790000600",
        "apns-collapse-id": "eta-1",
    }
    ids = {apns.headers("jwt", "a", ref, NOTE._replace(key=key))["apns-id"] for ref in "ab" for key in "cd"}
    assert len(ids) == 4
    assert all(KEY_RE.match(id) for id in ids)
    assert apns.path("00ff") == "/3/device/00ff"


def test_the_payload() -> None:
    """Plain words, keys to localise by, and facts beside them."""
    assert orjson.loads(apns.payload(NOTE)) == {
        "aps": {
            "alert": {
                "title": "Arriving in about 10 minutes",
                "title-loc-key": "trip_alert_title",
                "title-loc-args": ["10"],
                "body": "Home",
                "loc-key": "trip_alert_body",
                "loc-args": ["Home"],
            },
            "sound": "default",
        },
        "type": "trip.alert",
        "trip": "trip:9",
        "stop": "home",
        "threshold_s": "600",
        "eta": "2026-09-21T14:23:20.000Z",
    }


@given(*(st.text(max_size=size) for size in (160, 160, 80)))
def test_the_payload_is_never_too_large(trip: str, stop: str, name: str) -> None:
    """Whatever names are made of."""
    assert len(apns.payload(NOTE._replace(alert=ALERT._replace(trip=trip, stop=stop, name=name)))) <= 4_096


def said(reason: object, **more: object) -> bytes:
    return orjson.dumps({"reason": reason, **more})


@pytest.mark.parametrize(
    ("status", "body", "after_s", "verdict"),
    [
        (200, b"", None, SENT),
        (410, said("Unregistered", timestamp=5), None, Verdict("dead", "Unregistered", before_ms=5)),
        (410, said("ExpiredToken", timestamp=True), None, Verdict("dead", "ExpiredToken")),
        (410, b"", None, Verdict("dead")),
        (400, said("BadDeviceToken", timestamp=5), None, Verdict("dead", "BadDeviceToken")),
        (400, said("DeviceTokenNotForTopic"), None, refused("400 DeviceTokenNotForTopic")),
        (400, said("BadCollapseId"), 3.0, refused("400 BadCollapseId")),
        (403, said("ExpiredProviderToken"), None, Verdict("renew", "403 ExpiredProviderToken")),
        (403, said("InvalidProviderToken"), None, refused("403 InvalidProviderToken")),
        (413, said("PayloadTooLarge"), None, refused("413 PayloadTooLarge")),
        (429, said("TooManyRequests"), 7.0, later("429 TooManyRequests", 7.0)),
        (429, said("TooManyRequests"), None, later("429 TooManyRequests", 10.0)),
        (429, said("TooManyProviderTokenUpdates"), None, later("429 TooManyProviderTokenUpdates", 10.0)),
        (500, said("InternalServerError"), None, later("500 InternalServerError", 900.0)),
        (503, said("Shutdown"), 5.0, later("503 Shutdown", 5.0)),
        (503, said(7), None, later("503", 900.0)),
        (400, b"[]", None, refused("400")),
        (404, b"<html>", None, refused("404")),
    ],
)
def test_answers(status: int, body: bytes, after_s: float | None, verdict: Verdict) -> None:
    """Each status and reason has its own rule; what cannot be read has its status'."""
    assert apns.judge(status, body, after_s, LIMITS) == verdict


@given(st.floats(1e9, 4e9), st.floats(0, 7_200))
def test_a_provider_tokens_age(now_s: float, later_s: float) -> None:
    """Always a minute to forty-one minutes old, the same for all who ask meanwhile, and a new one forty minutes later."""
    issued = apns.issued_s(now_s, LIMITS)
    assert 60 - 1e-3 <= now_s - issued <= 2_460
    after = apns.issued_s(now_s + later_s, LIMITS)
    assert after == issued or after - issued >= LIMITS.provider_token_s


def test_a_new_one_is_waited_for() -> None:
    """Twenty minutes after the one before, even where Apple says that it expired."""
    assert apns.renew_in_s(1_000, 1_100.0, LIMITS) == 1_100.0
    assert apns.renew_in_s(1_000, 2_200.0, LIMITS) == 0.0


def test_what_a_provider_token_says() -> None:
    """Whose key, which, and since when; nothing else."""
    team = apns.Team("TEAM123456", "KEY1234567", "PEM")
    assert apns.provider_token(team, 5) == ({"alg": "ES256", "kid": "KEY1234567"}, {"iss": "TEAM123456", "iat": 5})
