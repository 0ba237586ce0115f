"""Webhooks: one signed POST of JSON, to an address that a rule names and that must not be one of ours.

Signed as Standard Webhooks says (www.standardwebhooks.com): headers ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature``, an HMAC-SHA256 over ``id.timestamp.body``, so that a receiver believes the sender, the body and the
hour. ``Idempotency-Key`` is the id again: whoever gets one twice does it once. Each tenant's key is derived from the
installation's, so that no receiver of one tenant can sign for another; a newer key signs beside the older while both are there.

Promises: https to addresses of the public internet only, each looked at after its name was looked up and then connected to as
it is, so that a name cannot point inside the second time; ``private`` names networks that are allowed all the same, and with
plain http. No redirect is followed, no proxy of the environment used, no connection kept, no answer
read that is longer than `ANSWER_BYTES_MAX`, and nothing waited for longer than ``webhook_s``.

2xx is done. 408, 425, 429, 5xx and a network that fails may go well later, and an answer's Retry-After is obeyed. Anything
else says that it will not.
"""

from __future__ import annotations

import base64
import hmac
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import httpx
import orjson
import trio

from core.retry import retry_after_s
from core.work_limits import WorkLimits
from gateway.work.orders import Impossible
from gateway.work.outside import TRIES_MAX, Outside, answered
from gateway.work.ports import Transient

ANSWER_BYTES_MAX: Final = 2_048
URL_CHARS_MAX: Final = 2_000
PASSING: Final = frozenset((408, 425, 429))
SECRET_PREFIX: Final = "whsec_"
_NAT64: Final = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


def tenant_key(key: bytes, tenant: str) -> bytes:
    """What a tenant's receivers verify with, of one key of the installation's."""
    return hmac.digest(key, b"readback webhook\0" + tenant.encode(), "sha256")


def shown_secret(key: bytes, tenant: str) -> str:
    """`tenant_key` as receivers' libraries take it."""
    return SECRET_PREFIX + base64.b64encode(tenant_key(key, tenant)).decode()


def signature(keys: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The header's value: one signature a key."""
    signed = f"{id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)


def is_public(address: Address) -> bool:
    """Of the public internet, whatever it is written as: IPv4 inside IPv6 counts as what it leads to."""
    if isinstance(address, IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inside = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inside is not None:
            return is_public(inside)
    return address.is_global and not address.is_multicast and not address.is_reserved


async def look_up(host: str, port: int) -> list[str]:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Webhooks:
    """``keys`` are the installation's, the newest first. ``private``: networks of ours that may be called."""

    def __init__(
        self,
        outside: Outside,
        limits: WorkLimits,
        wall: Callable[[], float],
        keys: Mapping[str, bytes],
        *,
        private: Sequence[Network] = (),
        resolve: Resolve = look_up,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._outside = outside
        self._limits = limits
        self._wall = wall
        self._keys = list(keys.values())
        self._private = tuple(private)
        self._resolve = resolve
        self._transport = transport or httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(max_keepalive_connections=0), http1=True
        )

    async def post(self, tenant: str, url: str, body: Any, key: str) -> int:
        """The answer's status, 2xx. Raises `Transient` and `Impossible`."""
        where = _checked(url)
        if not self._keys:
            raise Impossible("no webhook goes out unsigned: set `webhook_keys` in the secrets file")
        host = where.host
        content = orjson.dumps(body)
        with self._outside.call(host):
            answer: httpx.Response | None = None
            said = b""
            with trio.move_on_after(self._limits.webhook_s) as scope:
                request = self._request(where, await self._address(where), tenant, content, key)
                try:
                    async with answered(self._transport, request) as answer:
                        said = await _said(answer)
                except (httpx.TransportError, OSError) as error:
                    raise _failed(f"{host} cannot be reached: {type(error).__name__}: {error}") from None
            if answer is None or scope.cancelled_caught:
                raise _failed(f"{host} did not answer within {self._limits.webhook_s:g} s")
            status = answer.status_code
            if status in PASSING or status >= 500:
                raise _failed(
                    f"{host} answers {status}", retry_after_s(answer.headers.get("retry-after", ""), self._wall())
                )
        if 200 <= status < 300:
            return status
        if 300 <= status < 400:
            raise Impossible(
                f"{host} redirects ({status}), and redirects are not followed: name the address it points to"
            )
        text = said.decode(errors="replace")[:200]
        raise Impossible(f"{host} refuses the webhook: {status} {text}".strip())

    async def _address(self, where: httpx.URL) -> str:
        """The first address of the host that may be called."""
        host, port = where.host, where.port or (443 if where.scheme == "https" else 80)
        try:
            found = [str(ip_address(host))]
        except ValueError:
            try:
                found = list(await self._resolve(host, port))
            except OSError as error:
                raise _failed(f"{host} cannot be looked up: {error}") from None
        for text in found:
            address = ip_address(text.partition("%")[0])
            if any(address in network for network in self._private if network.version == address.version):
                return str(address)
            if is_public(address):
                if where.scheme != "https":
                    raise Impossible(f"webhooks go out by https, not to {where.scheme}://{host}")
                return str(address)
        raise Impossible(
            f"{host} has no address of the public internet; one of ours must be allowed by the setting `webhooks_private`"
        )

    def _request(self, where: httpx.URL, address: str, tenant: str, content: bytes, key: str) -> httpx.Request:
        timestamp = int(self._wall())
        keys = [tenant_key(each, tenant) for each in self._keys]
        headers = {
            "Host": where.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": "readback",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Idempotency-Key": key,
            "webhook-id": key,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(keys, key, timestamp, content),
        }
        wait = {"timeout": httpx.Timeout(self._limits.webhook_s).as_dict()}
        # The certificate is held against the host's name, though the connection goes to the address that was looked at.
        return httpx.Request(
            "POST",
            where.copy_with(host=address),
            headers=headers,
            content=content,
            extensions=wait | {"sni_hostname": where.host},
        )


def host_of(url: str) -> str:
    """For lanes and reasons; empty where there is none."""
    try:
        return httpx.URL(url).host
    except (httpx.InvalidURL, TypeError, ValueError):
        return ""


def _checked(url: str) -> httpx.URL:
    try:
        where = httpx.URL(url[: URL_CHARS_MAX + 1])
    except (httpx.InvalidURL, ValueError):
        raise Impossible("the webhook's url cannot be read") from None
    if len(url) > URL_CHARS_MAX or where.scheme not in ("https", "http") or not where.host:
        raise Impossible(f"a webhook's url looks like https://host/path, and has at most {URL_CHARS_MAX} characters")
    if where.userinfo:
        raise Impossible("a webhook's url holds no name or password: receivers know us by the signature")
    return where.copy_with(fragment=None)


async def _said(answer: httpx.Response) -> bytes:
    """A short answer whole, and nothing of one that is long or does not say how long it is: it is for a reason's text only,
    and a body that is left half read keeps its connection's parts until they are collected."""
    length = answer.headers.get("content-length", "")
    if not length.isascii() or not length.isdigit() or int(length[:9]) > ANSWER_BYTES_MAX:
        return b""
    assert isinstance(answer.stream, httpx.AsyncByteStream)
    return b"".join([chunk async for chunk in answer.stream])[:ANSWER_BYTES_MAX]


def _failed(reason: str, retry_after_s: float | None = None) -> Transient:
    return Transient(reason, retry_after_s, tries_max=TRIES_MAX)
