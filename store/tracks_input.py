"""What both stores of tracks look at before anything is written.

Samples and last positions are a node's own: what is wrong with them is a `ValueError`. Fences, keys of apps and pushes are what
somebody asked for: `core.ports.Refused` bad_request. Neither a secret nor a token is ever repeated in a message.

A batch costs a few comparisons a sample: names repeat, so that the expressions run on first sight only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from core.geo.fences import POINTS_MAX
from core.model import PRINCIPAL_RE, STREAM_RE, TENANT_RE
from core.tracks import (
    DWELL_S_MAX,
    FENCE_STREAMS_MAX,
    KEEP_MAX,
    MEMORY_BYTES_MAX,
    OLDEST_DAYS,
    REASON_CHARS_MAX,
    AppKey,
    Fence,
    Last,
    Push,
    Sample,
)
from store.directory_input import (
    MS_MAX,
    check_hashes,
    check_principal,
    check_tenant,
    check_times,
    refuse,
)

DAY_MS: Final = 86_400_000
DAYS_AHEAD: Final = 2
"""Days to come for which there is room: today's, and these."""
RETAIN_DAYS_MAX: Final = 36_500
NAME_CHARS_MAX: Final = 200
RADIUS_MAX_M: Final = 1_000_000.0
TOKEN_CHARS_MAX: Final = 4_096  # FCM says no length; theirs are some 160, APNs' 64
VERDICTS: Final = frozenset(("accepted", "degraded", "quarantined"))
SERVICES: Final = ("fcm", "apns")

_SEQ_MAX: Final = 2**63 - 1
_FAR: Final = 1e300  # beyond any measure
_REMEMBERED_MAX: Final = 65_536  # names remembered as well-formed, a kind; forgotten all at once when full
_FENCE_RE = re.compile(r"[A-Za-z0-9._~-]{1,128}\Z")
_APP_RE = re.compile(r"[A-Za-z0-9._-]{1,255}\Z")


class _Known(set[str]):
    """Names of one kind that were looked at."""

    def __init__(self, kind: str, expression: re.Pattern[str]) -> None:
        super().__init__()
        self._kind = kind
        self._match = expression.match

    def learn(self, name: str) -> None:
        if self._match(name) is None or name.startswith("audit:"):
            raise ValueError(f"no {self._kind} can be called {name[:100]!r}")
        if len(self) >= _REMEMBERED_MAX:
            self.clear()
        self.add(name)


class TracksInput:
    """Looks at samples and last positions; remembers names, and nothing else."""

    def __init__(self) -> None:
        self._tenants = _Known("tenant", TENANT_RE)
        self._subjects = _Known("subject", PRINCIPAL_RE)
        self._streams = _Known("stream", STREAM_RE)
        self._reasons = {""}

    def days(self, samples: Sequence[Sample]) -> set[int]:
        """Days (since 1970) of these; `ValueError` where one cannot be kept."""
        if len(samples) > KEEP_MAX:
            raise ValueError(f"at most {KEEP_MAX} samples at once, not {len(samples)}")
        tenants, subjects, streams, reasons = self._tenants, self._subjects, self._streams, self._reasons
        oldest_ms = OLDEST_DAYS * DAY_MS
        days = set()
        for (
            tenant,
            subject,
            stream,
            at_ms,
            seq,
            lat,
            lon,
            acc,
            speed,
            heading,
            alt,
            verdict,
            reason,
            taken_ms,
        ) in samples:
            if tenant not in tenants:
                tenants.learn(tenant)
            if subject not in subjects:
                subjects.learn(subject)
            if stream not in streams:
                streams.learn(stream)
            if reason not in reasons:
                self._learn_reason(reason)
            if not (at_ms >= 0 and taken_ms <= MS_MAX and -DAY_MS <= taken_ms - at_ms <= oldest_ms):
                raise ValueError(f"a sample taken at {taken_ms} cannot be of {at_ms}")
            if not -_SEQ_MAX <= seq <= _SEQ_MAX:
                raise ValueError(f"no store keeps the number {seq}")
            if not _is_place(lat, lon, acc, speed, heading, alt, verdict):
                raise ValueError(f"no store keeps a sample of {(lat, lon, acc, speed, heading, alt, verdict[:100])}")
            days.add(at_ms // DAY_MS)
        return days

    def memories(self, lasts: Sequence[Last]) -> list[str]:
        """Of each as JSON; `ValueError` where one cannot be kept."""
        if len(lasts) > KEEP_MAX:
            raise ValueError(f"at most {KEEP_MAX} last positions at once, not {len(lasts)}")
        memories = []
        for last in lasts:
            if last.tenant not in self._tenants:
                self._tenants.learn(last.tenant)
            if last.subject not in self._subjects:
                self._subjects.learn(last.subject)
            if last.stream not in self._streams:
                self._streams.learn(last.stream)
            if not (0 <= last.at_ms <= MS_MAX and 0 <= last.taken_ms <= MS_MAX):
                raise ValueError(f"a last position taken at {last.taken_ms} cannot be of {last.at_ms}")
            place = (last.lat, last.lon, last.acc, last.speed, last.heading, last.alt, last.verdict)
            if not _is_place(*place):
                raise ValueError(f"no store keeps a last position of {place}"[:500])
            memories.append(_memory(last))
        return memories

    def _learn_reason(self, reason: str) -> None:
        if len(reason) > REASON_CHARS_MAX or "\0" in reason:
            raise ValueError(f"a reason is at most {REASON_CHARS_MAX} characters, none of them NUL: {reason[:100]!r}")
        reason.encode()  # UnicodeEncodeError is a ValueError
        if len(self._reasons) >= _REMEMBERED_MAX:
            self._reasons.clear()
        self._reasons.add(reason)


def _is_place(
    lat: float,
    lon: float,
    acc: float | None,
    speed: float | None,
    heading: float | None,
    alt: float | None,
    verdict: str,
) -> bool:
    """No NaN and no infinity passes a comparison."""
    return (
        -90 <= lat <= 90
        and -180 <= lon <= 180
        and (acc is None or -_FAR < acc < _FAR)
        and (speed is None or -_FAR < speed < _FAR)
        and (heading is None or -_FAR < heading < _FAR)
        and (alt is None or -_FAR < alt < _FAR)
        and verdict in VERDICTS
    )


def _memory(last: Last) -> str:
    try:
        memory = orjson.dumps(last.memory)
    except TypeError as error:
        raise ValueError(f"the memory of {last.subject} is no JSON: {error}") from None
    if len(memory) > MEMORY_BYTES_MAX:
        raise ValueError(f"the memory of {last.subject} is {len(memory)} bytes; at most {MEMORY_BYTES_MAX} are kept")
    if b"\\u0000" in memory and "\0" in _texts(last.memory):
        raise ValueError(f"the memory of {last.subject} has a text with a NUL, which no store keeps")
    return memory.decode()


def _texts(value: object) -> str:
    """All texts of a JSON value, one after another: where a NUL would be one, not six characters that look like one."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(_texts(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple):
        return "".join(map(_texts, value))
    return ""


def check_retention(days: Mapping[str, int], default_days: int) -> None:
    for each in (default_days, *days.values()):
        if not 0 <= each <= RETAIN_DAYS_MAX:
            raise ValueError(f"samples are kept for 0 to {RETAIN_DAYS_MAX} days, not {each}")


# What somebody asked for


def is_name(tenant: str, *, subject: str | None = None, stream: str | None = None) -> bool:
    """Whether a question about these can have an answer at all."""
    return (
        TENANT_RE.match(tenant) is not None
        and (subject is None or PRINCIPAL_RE.match(subject) is not None)
        and (stream is None or STREAM_RE.match(stream) is not None)
    )


def is_cursor(after: tuple[int, str, int] | None) -> bool:
    """Subjects are ASCII; what is none may stand before or after them."""
    return after is None or (after[1].isascii() and "\0" not in after[1])


def is_fence_id(fence: str) -> bool:
    return _FENCE_RE.match(fence) is not None


def check_stream(stream: str) -> None:
    if not STREAM_RE.match(stream) or stream.startswith("audit:"):
        raise refuse("a stream is kind:name, kind one of chat, flight, trip, user")


def check_fence(tenant: str, fence: Fence) -> None:
    check_tenant(tenant)
    if not is_fence_id(fence.fence):
        raise refuse("a fence's id is 1 to 128 of A-Z, a-z, 0-9 and ._~-")
    if not (0 < len(fence.name) <= NAME_CHARS_MAX and fence.name.isprintable()):
        raise refuse(f"a fence's name is 1 to {NAME_CHARS_MAX} printable characters")
    if len(fence.points) == 1:
        if not 0 < fence.radius_m <= RADIUS_MAX_M:
            raise refuse(f"a circle's radius is above 0 and at most {RADIUS_MAX_M:.0f} m")
    elif not 3 <= len(fence.points) <= POINTS_MAX:
        raise refuse(f"a fence is one point with a radius, or a polygon of 3 to {POINTS_MAX} points")
    elif fence.radius_m != 0:
        raise refuse("a polygon has no radius")
    if not all(-90 <= lat <= 90 and -180 <= lon <= 180 for lat, lon in fence.points):
        raise refuse("a point is latitude -90 to 90 and longitude -180 to 180")
    if not 0 <= fence.dwell_s <= DWELL_S_MAX:
        raise refuse(f"a dwell is 0 to {DWELL_S_MAX} s")
    if len(fence.streams) > FENCE_STREAMS_MAX:
        raise refuse(f"a fence is of at most {FENCE_STREAMS_MAX} streams, or of all")
    for stream in fence.streams:
        check_stream(stream)


def check_app_key(key: AppKey, secret_hash: bytes) -> None:
    check_tenant(key.tenant)
    check_principal(key.subject)
    check_stream(key.stream)
    check_times(key.made_ms)
    check_hashes(secret_hash)


def check_push(tenant: str, principal: str, push: Push) -> None:
    check_tenant(tenant)
    check_principal(principal)
    if push.service not in SERVICES:
        raise refuse(f"a push service is one of {', '.join(SERVICES)}")
    if not is_push(push.service, push.token):
        raise refuse(f"a push token is 1 to {TOKEN_CHARS_MAX} printable ASCII characters")
    if not _APP_RE.match(push.app):
        raise refuse("an app is its bundle id or package name: 1 to 255 of A-Z, a-z, 0-9 and ._-")
    check_times(push.at_ms)


def is_push(service: str, token: str) -> bool:
    return service in SERVICES and 0 < len(token) <= TOKEN_CHARS_MAX and token.isascii() and token.isprintable()
