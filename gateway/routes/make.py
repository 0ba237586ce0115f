"""The setting `routes` as providers: ``osrm=https://osrm.internal, osrm:bike=https://bikes.internal, valhalla=https://…,
google``.

Each may name the modes that its address serves, joined by ``+``; the first that serves a trip's mode and answers is taken.
Errors are one sentence for the operator and never hold an address, which may have been given a key by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, get_args

import httpx

from core.geo.routing import Mode, Provider
from gateway.routes.google import TRAVEL, URL, Google
from gateway.routes.osrm import MODES, PROFILES, Osrm
from gateway.routes.valhalla import COSTING, Valhalla
from gateway.routes.wire import Wire

PROVIDERS_MAX: Final = 8
"""An arrival time would wait for each in turn."""
_SERVED: Final[Mapping[str, tuple[frozenset[Mode], frozenset[Mode]]]] = {
    "osrm": (frozenset(PROFILES), MODES),
    "valhalla": (frozenset(COSTING), frozenset(COSTING)),
    "google": (frozenset(TRAVEL), frozenset(TRAVEL)),
}
"""Which modes a kind can serve, and which it does where none are named."""


class Named(NamedTuple):
    name: str
    kind: str
    modes: frozenset[Mode]
    url: str


def read_routes(text: str) -> tuple[Named, ...]:
    """Raises `ValueError` with a sentence."""
    found: list[Named] = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, url = part.partition("=")
        name, url = name.strip(), url.strip()
        kind, colon, listed = name.partition(":")
        if kind not in ("osrm", "valhalla", "google"):
            raise ValueError("a provider of routes is osrm, valhalla or google")
        can, modes = _SERVED[kind]
        if colon:
            modes = frozenset(mode for mode in get_args(Mode) if mode in listed.split("+"))
            if not modes or len(modes) != len(listed.split("+")) or not modes <= can:
                raise ValueError(f"{kind} serves the modes {'+'.join(sorted(can))}")
        if kind == "google":
            if colon or (equals and not _is_address(url)):
                raise ValueError(
                    "google stands alone; another address of it (for tests) looks like http://127.0.0.1:8080"
                )
        elif not _is_address(url):
            raise ValueError(
                f"{kind} needs an address without name, password and query, such as {kind}=https://host/path"
            )
        if any(each.name == name for each in found):
            raise ValueError(f"{name} is named twice")
        found.append(Named(name, kind, modes, url or URL))
    if len(found) > PROVIDERS_MAX:
        raise ValueError(f"at most {PROVIDERS_MAX} providers of routes are asked")
    return tuple(found)


def _is_address(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        return False
    port = 443 if url.port is None else url.port
    if url.scheme not in ("http", "https") or not url.host or not 0 < port < 65_536:
        return False
    return not (url.userinfo or url.query or url.fragment)


def make_providers(named: Sequence[Named], google_key: str, wire: Wire) -> list[Provider]:
    """Raises `ValueError` with a sentence where Google is named and there is no key for it."""
    makers: Mapping[str, Callable[[Named], Provider]] = {
        "osrm": lambda each: Osrm(wire, each.url, each.modes, each.name),
        "valhalla": lambda each: Valhalla(wire, each.url, each.modes, each.name),
        "google": lambda each: Google(wire, google_key, url=each.url, name=each.name),
    }
    if any(each.kind == "google" for each in named):
        if not google_key:
            raise ValueError("google needs `google_routes_key` in the secrets file")
        if not (google_key.isascii() and google_key.isprintable() and " " not in google_key):
            raise ValueError("`google_routes_key` is no API key")
    return [makers[each.kind](each) for each in named]
