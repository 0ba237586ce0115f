"""The push services that there are keys for. Raises `gateway.config.ConfigError` for keys that cannot be used."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

from core.push import apns, fcm
from core.push.rules import PushLimits
from core.tracks import Tracks
from gateway.config import Config, ConfigError, Secrets
from gateway.push.line import Line, outside_of
from gateway.push.services import Apns, Fcm, PushService
from gateway.push.tokens import AppleTokens, GoogleTokens
from gateway.work.outside import Outside


class Bases(NamedTuple):
    """Where the services are. Tests have theirs."""

    fcm: str = fcm.URL
    apns: str = ""
    """Empty: Apple's, for production or development as the configuration has it."""


SERVICES: Final = Bases()


class Services(NamedTuple):
    by_name: dict[str, PushService]
    outside: Outside
    lines: list[Line]

    async def aclose(self) -> None:
        """Once nobody sends any more."""
        for line in self.lines:
            await line.aclose()


class Pushing(NamedTuple):
    """What a worker needs to push."""

    tracks: Tracks
    services: Services


def pushing_of(config: Config, secrets: Secrets, tracks: Tracks | None, wall: Callable[[], float]) -> Pushing | None:
    """``None`` where phones are not known, or there is no key: alerts stay in the inboxes then."""
    services = services_of(config, secrets, wall, PushLimits())
    return None if tracks is None or not services.by_name else Pushing(tracks, services)


def services_of(
    config: Config,
    secrets: Secrets,
    wall: Callable[[], float],
    limits: PushLimits,
    *,
    bases: Bases = SERVICES,
    verify: ssl.SSLContext | None = None,
) -> Services:
    """``by_name`` is empty where there is no key at all."""
    made = Services({}, outside_of(limits), [])

    def line_to(base: str) -> Line:
        made.lines.append(Line(base, made.outside, limits, wall, verify=verify))
        return made.lines[-1]

    if secrets.fcm_service_account:
        account = fcm.read_account(secrets.fcm_service_account)
        if isinstance(account, str):
            raise ConfigError(f"The secret fcm_service_account cannot be used: it {account}.")
        try:
            google = GoogleTokens(account, line_to(_origin(account.token_uri)), wall, limits)
        except ValueError as error:
            raise ConfigError(f"The secret fcm_service_account cannot be used: {error}.") from None
        made.by_name["fcm"] = Fcm(account, line_to(bases.fcm), google, wall, limits)
    if secrets.apns_key:
        if not (config.apns_team and config.apns_key_id):
            raise ConfigError("With the secret apns_key, set apns_team and apns_key_id: whose key it is, and which.")
        team = apns.Team(config.apns_team, config.apns_key_id, secrets.apns_key.decode(errors="replace"))
        try:
            apple = AppleTokens(team, wall, limits)
        except ValueError as error:
            raise ConfigError(f"The secret apns_key cannot be used: {error}.") from None
        base = bases.apns or (apns.SANDBOX_URL if config.apns_sandbox else apns.URL)
        made.by_name["apns"] = Apns(line_to(base), apple, limits)
    return made


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
