"""What becomes of a push: the bounds, the words of a verdict, when it is tried again, and what a task remembers of it.

For: `gateway.push`. A push goes to each device of one principal. Every device's answer is a `Verdict`; `Progress` keeps them by
the device's `ref_of`, so that a repeated task repeats only what is not done, and never sooner than the service asked for.

Promises: nothing is tried once its time is over, so that every task ends. Does not: know what the services answer
(`core.push.fcm`, `core.push.apns`), read a clock, or keep a device's token: a digest of it is enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class PushLimits:
    """Bounds of a worker's pushes."""

    call_s: float = 10.0  # one call, all in all
    device_s: float = 25.0  # all calls for one device, tokens and a second try included: within a task's claim of 30 s
    calls_per_host_max: int = 16  # at once; a service that hangs leaves half of the worker's 32 jobs to others
    breaker_failures: int = 5  # in a row, and the service is left alone
    breaker_rest_s: float = 10.0  # for so long; short, since what waits is minutes from being too late
    ttl_max_s: float = 14_400.0  # an alert further ahead than four hours is no alert; its push lives no longer
    retry_first_s: float = 1.0  # doubled each time, with jitter (FCM: 1, 2, 4, 8 s and so on)
    retry_max_s: float = 60.0
    fcm_quota_s: float = 60.0  # FCM's 429 without a Retry-After, as its guide has it
    apns_busy_s: float = 10.0  # APNs' 429 without a Retry-After: too many to one device, or too many provider tokens
    apns_5xx_s: float = 900.0  # APNs' 5xx without a Retry-After: Apple asks for 15 minutes
    provider_token_s: float = 2_400.0  # how long a provider token is used: Apple allows 20 to 60 minutes
    provider_token_min_s: float = 1_200.0  # never a new one sooner
    provider_token_back_s: float = 60.0  # it begins in the past, lest a clock ahead of Apple's sign in the future
    access_token_spare_s: float = 300.0  # an OAuth token is renewed so long before it ends
    access_token_rest_s: float = 30.0  # who was refused one does not ask again before
    answer_bytes_max: int = 8_192  # of an answer's body; both services' are below 1 KB


class Verdict(NamedTuple):
    """What a service said of one device's push.

    ``dead``: the token is no more, where ``before_ms`` is given since then. ``refused``: it would be refused again. ``later``:
    it may go well, not before ``after_s``, or where that is ``None`` after the backoff; ``counts``: an attempt was made.
    ``renew``: what we authenticated with is not (any more) good.
    """

    what: Literal["sent", "dead", "refused", "later", "renew"]
    reason: str = ""
    after_s: float | None = None
    before_ms: int | None = None
    counts: bool = True


SENT: Final = Verdict("sent")
REASON_MAX: Final = 120


def refused(reason: str) -> Verdict:
    return Verdict("refused", reason[:REASON_MAX])


def later(reason: str, after_s: float | None = None, *, counts: bool = True) -> Verdict:
    return Verdict("later", reason[:REASON_MAX], after_s, counts=counts)


def wait_s(after_s: float | None, tries: int, uniform: float, limits: PushLimits) -> float:
    """After so many ``tries``, from 1; ``uniform`` is 0 to 1. What a service asked for is never cut short, and jitter added."""
    if after_s is not None:
        return after_s * (1.0 + 0.1 * uniform)
    return min(limits.retry_first_s * 2.0 ** min(tries - 1, 30), limits.retry_max_s) * (0.5 + uniform)


def ref_of(service: str, token: str) -> str:
    """A device in tasks, logs and ids."""
    return hashlib.sha256(f"{service}\0{token}".encode()).hexdigest()[:24]


class Progress:
    """Of one task: what its devices' verdicts were, by `ref_of`, and when those left may be tried."""

    __slots__ = ("done", "not_before_ms", "tries", "why")

    def __init__(self) -> None:
        self.done: dict[str, str] = {}
        """`sent`, `dead: …` or `refused: …`."""
        self.tries: dict[str, int] = {}
        self.not_before_ms: dict[str, int] = {}
        self.why: dict[str, str] = {}
        """Reasons of those left."""

    @classmethod
    def of(cls, *documents: Mapping[str, Any]) -> Progress:
        """As `document` made them, whichever is newer: what is done is done, and nobody is tried sooner than one has it."""
        progress = cls()
        for document in documents:
            kept = document.get("pushed", {})
            progress.done |= kept.get("done", {})
            for mine, theirs in ((progress.tries, "tries"), (progress.not_before_ms, "not_before_ms")):
                for ref, number in kept.get(theirs, {}).items():
                    mine[ref] = max(number, mine.get(ref, 0))
        return progress

    def document(self) -> dict[str, Any]:
        kept = {"done": dict(self.done), "tries": dict(self.tries), "not_before_ms": dict(self.not_before_ms)}
        return {"pushed": {name: value for name, value in kept.items() if value}}

    def is_due(self, ref: str, now_ms: int) -> bool:
        return ref not in self.done and self.not_before_ms.get(ref, 0) <= now_ms

    def note(self, ref: str, verdict: Verdict, now_ms: int, uniform: float, limits: PushLimits) -> None:
        assert verdict.what != "renew", "whoever sends renews, and says what came of it"
        if verdict.what != "later":
            self.done[ref] = f"{verdict.what}: {verdict.reason}" if verdict.reason else verdict.what
            for left in (self.tries, self.not_before_ms, self.why):
                left.pop(ref, None)
            return
        tries = self.tries.get(ref, 0) + verdict.counts
        if verdict.counts:
            self.tries[ref] = tries
        self.why[ref] = verdict.reason
        self.not_before_ms[ref] = now_ms + round(1000 * wait_s(verdict.after_s, tries, uniform, limits))

    def next_ms(self, refs: list[str]) -> int | None:
        """When the first of these that is not done may be tried; ``None``: all are done."""
        left = [self.not_before_ms.get(ref, 0) for ref in refs if ref not in self.done]
        return min(left, default=None)

    def give_up(self, refs: list[str], reason: str) -> None:
        """Those not done never will be."""
        for ref in refs:
            self.done.setdefault(ref, f"{reason}: {self.why[ref]}" if self.why.get(ref) else reason)
        self.tries.clear()
        self.not_before_ms.clear()

    def says(self) -> str:
        """How many came to what."""
        counts: dict[str, int] = {}
        for what in self.done.values():
            word = what.partition(":")[0]
            counts[word] = counts.get(word, 0) + 1
        return ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "no device is registered"
