"""Apple's and Google's services, each as one thing: send this note to this device, and say what became of it.

Promises: an authentication that ended is renewed once and the push repeated; what fails on the way is a verdict, not an
exception. Does not: retry otherwise (`gateway.push.sender`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from core.push import apns, fcm
from core.push.alert import Note
from core.push.rules import PushLimits, Verdict, later, ref_of, refused
from core.tracks import Push
from gateway.push.line import Line
from gateway.push.tokens import AppleTokens, GoogleTokens
from gateway.work.outside import Full
from gateway.work.ports import Transient


class PushService(Protocol):
    async def send(self, push: Push, note: Note) -> Verdict:
        """Anything but ``renew``."""
        ...


class Fcm:
    def __init__(
        self, account: fcm.Account, line: Line, tokens: GoogleTokens, wall: Callable[[], float], limits: PushLimits
    ) -> None:
        self._path = fcm.path(account)
        self._line = line
        self._tokens = tokens
        self._wall = wall
        self._limits = limits

    async def send(self, push: Push, note: Note) -> Verdict:
        verdict = refused("")
        for _ in range(2):
            try:
                token = await self._tokens.get()
                if isinstance(token, Verdict):
                    return token
                content = fcm.message(push.token, push.app, note, int(1000 * self._wall()))
                head = {"authorization": f"Bearer {token}", "content-type": "application/json"}
                answered = await self._line.post(self._path, head, content)
            except Transient as error:
                return failed(error)
            verdict = fcm.judge(answered.status, answered.body, answered.retry_after_s, self._limits)
            if verdict.what != "renew":
                return verdict
            self._tokens.forget(token)
        return refused(f"{verdict.reason} with a new access token")


class Apns:
    def __init__(self, line: Line, tokens: AppleTokens, limits: PushLimits) -> None:
        self._line = line
        self._tokens = tokens
        self._limits = limits

    async def send(self, push: Push, note: Note) -> Verdict:
        verdict, content, ref = refused(""), apns.payload(note), ref_of(push.service, push.token)
        for again in (False, True):
            token = self._tokens.get()
            try:
                head = apns.headers(token, push.app, ref, note)
                answered = await self._line.post(apns.path(push.token), head, content)
            except Transient as error:
                return failed(error)
            verdict = apns.judge(answered.status, answered.body, answered.retry_after_s, self._limits)
            if verdict.what != "renew":
                return verdict
            if not again and (wait_s := self._tokens.renew(token)) > 0.0:
                return later(f"{verdict.reason}: no new provider token yet", wait_s)
        return refused(f"{verdict.reason} with a new provider token")


def failed(error: Transient) -> Verdict:
    """On the way. Where a bound was met, or the service rests, nothing was tried."""
    return later(str(error), error.retry_after_s, counts=not isinstance(error, Full))
