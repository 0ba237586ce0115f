"""Registrations of phones for the HTTP API. Everybody registers their own and sees no other's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal

from core.tokens import Identity
from core.tracks import Push, Tracks
from gateway.service import WireError

APNS_TOKEN_RE: Final = re.compile(r"([0-9a-f]{2}){16,100}\Z")


class PushDesk:
    """``tracks`` keeps them; ``wall`` says when."""

    def __init__(self, tracks: Tracks, wall: Callable[[], float]) -> None:
        self._tracks = tracks
        self._wall = wall

    async def register(self, who: Identity, service: Literal["fcm", "apns"], token: str, app: str) -> Push:
        """From now on the token is theirs, whoever had it. `WireError` bad_request, forbidden."""
        if not who.principal.startswith("user:"):
            raise WireError("forbidden", "alerts go to inboxes, and pushes with them: only a user has one")
        token = checked(service, token)
        push = Push(service, token, app, int(1000 * self._wall()))
        await self._tracks.add_push(who.tenant, who.principal, push)
        return push

    async def pushes(self, who: Identity) -> Sequence[Push]:
        """The newest first."""
        return await self._tracks.pushes(who.tenant, who.principal)

    async def drop(self, who: Identity, token: str) -> bool:
        """Whether they had it. One that somebody else registered meanwhile stays theirs."""
        mine = await self.pushes(who)
        found = [push for push in mine if push.token == (token.lower() if push.service == "apns" else token)]
        for push in found:
            await self._tracks.drop_push(push.service, push.token, push.at_ms)
        return bool(found)


def checked(service: str, token: str) -> str:
    """As its service knows it: Apple's are hexadecimal, and one phone's must be one string."""
    if service != "apns":
        return token
    if APNS_TOKEN_RE.match(token.lower()) is None:
        raise WireError("bad_request", "token: of apns it is the device token in hexadecimal, two digits a byte")
    return token.lower()
