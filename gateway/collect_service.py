"""What the HTTP API asks where positions come in: a small port beside `gateway.service.Service`, and its values.

For: keeping routes apart from rules, as there. Failures are those of `gateway.service`. What holds a
secret shows it in no repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from core.collectors.values import Report
from core.tokens import Identity
from core.tracks import AppKey
from gateway.live.positions import Taken

OSMAND = "osmand"
OWNTRACKS = "owntracks"
APPS = (OSMAND, OWNTRACKS)
"""Protocols, as metrics name them."""


@dataclass(frozen=True, slots=True)
class NewAppKey:
    """The only time that an app's secret is told. ``base_url``: where the app finds this API."""

    key: AppKey
    secret: str = field(repr=False)
    base_url: str


class CollectService(Protocol):
    """``who`` is a verified identity; each method decides by itself whether it may."""

    def now_ms(self) -> int:
        """For what says no time of its own."""
        ...

    async def positions(
        self, who: Identity, stream: str, fixes: list[object], signature: str | None, nav: object
    ) -> Taken:
        """One message as the socket's ``position`` op has it: the same rules, the same answer."""
        ...

    async def collect(self, app: str, address: str, secret: str, report: Report) -> Taken:
        """What an app brought, under whosever key this is. Raises `WireError` unauthorized where it is nobody's."""
        ...

    # For administrators

    async def mint(self, who: Identity, device: str, stream: str, base_url: str) -> NewAppKey:
        """A key for the device's app; the one before ends. ``base_url``: how the caller reached the HTTP API, for where no
        public URL is set."""
        ...

    async def bind(self, who: Identity, device: str, stream: str) -> None:
        """From now on the app's fixes count in this stream."""
        ...

    async def drop(self, who: Identity, device: str) -> None: ...

    async def keys(self, who: Identity) -> list[AppKey]:
        """By device."""
        ...
