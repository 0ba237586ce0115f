"""The keys of tenants' issuers: fetched beside the hot path, kept in memory, dropped when they are too old.

For: `KeySource`, which `core.tokens.TokenVerifier` asks (`KeySource.keys`, never waits) and whoever got a `NeedKeys` may wait
for once (`KeySource.want`, bounded). Promises: per source one fetch at a time, on a schedule, and at once for a key that is
not known, but never within `AGAIN_S` of the last: guessing kids makes us fetch as often as we would have liked to anyway.
While an issuer is away its keys stay good for `STALE_S` after the last success, then its tokens are refused. A document
that is refused, or holds nothing usable, replaces nothing. Does not: follow redirects, take proxies from the environment,
send anything secret, read more than `JWKS_BYTES_MAX` of an answer.

A source is a URL or a file; issuers that name the same one share it. Who trusts whom is the tenants file's
(`gateway.tenants`): https, or http on this machine.
"""

from __future__ import annotations

import logging
import os
import random
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import httpx
import trio

from core.keys import JWKS_BYTES_MAX, PublicKey, parse_jwks
from core.tenants import ALGORITHMS, Issuer, Tenants
from gateway.tenants import jwks_url_allowed

REFRESH_S: Final = 600.0
"""Between fetches, where the answer does not say."""

MAX_AGE_S: Final = (60.0, 3_600.0)
"""What an answer's ``Cache-Control: max-age`` may make of it."""

RETRY_S: Final = 30.0
"""After a fetch that failed; twice that after the second in a row, and so on, up to `REFRESH_S`."""

JITTER: Final = 0.1
"""A wait is shortened by up to this part of it, so that nodes started together do not ask together."""

AGAIN_S: Final = 10.0
"""From the beginning of one fetch to the next that a token may bring about."""

FETCH_S: Final = 5.0
WANT_S: Final = 2.5
"""How long a hello waits for a fetch."""

STALE_S: Final = 86_400.0
"""How long keys stay good after the last fetch that worked: a provider may be away for a night, a key it withdrew is not
good for ever."""

FETCHES_AT_ONCE: Final = 32
"""Of all sources; one that hangs keeps its place for `FETCH_S`."""

SHOWN: Final = 5
"""Keys of a set, and reasons, that a line of the log names."""

log = logging.getLogger("readback.jwks")


class FetchError(Exception):
    """Why a source gave no keys, in words for the operator."""


class _Source:
    """Keys from one place, and how that went."""

    def __init__(self, url: str, file: str) -> None:
        self.url = url
        self.file = file
        self.keys: Mapping[str, PublicKey] | None = None
        self.good_at_s = -float("inf")
        """When a fetch last worked."""
        self.begun_at_s = -float("inf")
        self.fetching = False
        self.trouble = ""
        self.failed = 0
        """In a row."""
        self.stamp: tuple[int, int, int] | None = None
        """Of the file that was read last: when it was changed, its size, which it is."""
        self.wanted = trio.Event()
        self.ended = trio.Event()
        """Set, and made anew, when a fetch has ended."""
        self.scope = trio.CancelScope()

    @property
    def place(self) -> str:
        return self.url or self.file


class KeySource:
    """Keys by issuer, for a `TokenVerifier`. `run` fetches; without it nothing does.

    ``clock`` gives seconds that only grow; ``rng`` spreads the fetches; ``transport`` stands in for the network in tests.
    The counters only grow and are for metrics.
    """

    def __init__(
        self,
        tenants: Tenants,
        *,
        rng: random.Random,
        clock: Callable[[], float] = trio.current_time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.fetches = 0
        """Begun, of URLs and files."""
        self.failures = 0
        self.wanted = 0
        """Tokens with a key that was not known."""
        self.spared = 0
        """Of these, those for which nothing was fetched, because it had just been."""
        self._rng = rng
        self._clock = clock
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._nursery: trio.Nursery | None = None
        self._room = trio.CapacityLimiter(FETCHES_AT_ONCE)
        self._sources: dict[tuple[str, str], _Source] = {}
        self.replace(tenants)

    def keys(self, issuer: Issuer) -> Mapping[str, PublicKey] | None:
        """The issuer's keys by ``kid``; ``None`` where there are none, or none that are recent enough. Never waits."""
        source = self._sources.get((issuer.jwks_url, issuer.jwks_file))
        if source is None or self._clock() - source.good_at_s > STALE_S:
            return None
        return source.keys

    async def want(self, issuer: Issuer, kid: str) -> None:
        """Return when a fetch that could bring this key has ended, after `WANT_S` in any case; at once where there is none
        to wait for. Look again then, and once only."""
        self.wanted += 1
        source = self._sources.get((issuer.jwks_url, issuer.jwks_file))
        if source is None or kid in (self.keys(issuer) or {}):
            return
        if not source.fetching:
            if self._clock() - source.begun_at_s < AGAIN_S:
                self.spared += 1
                return
            source.wanted.set()
        with trio.move_on_after(WANT_S):
            await source.ended.wait()

    def replace(self, tenants: Tenants) -> None:
        """From now on these. Sources that stay keep their keys."""
        issuers = [issuer for tenant in tenants.named.values() for issuer in tenant.issuers]
        wanted = {(issuer.jwks_url, issuer.jwks_file): None for issuer in issuers}
        for place in [place for place in self._sources if place not in wanted]:
            source = self._sources.pop(place)
            source.scope.cancel()
            source.ended.set()
        for place in wanted:
            if place not in self._sources:
                self._sources[place] = source = _Source(*place)
                if self._nursery is not None:
                    self._nursery.start_soon(self._keep, source)

    def troubles(self) -> list[str]:
        """Sources that cannot be had at present, and why; for the node's health. No key is in it."""
        return [f"{source.place}: {source.trouble}" for source in self._sources.values() if source.trouble]

    def oldest_s(self) -> float:
        """How long ago the source that has gone longest without a success had one; infinite where one never had."""
        now_s = self._clock()
        return max((now_s - source.good_at_s for source in self._sources.values()), default=0.0)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Fetch, until cancelled. Started at once; the first fetches are then under way."""
        try:
            async with trio.open_nursery() as self._nursery:
                for source in self._sources.values():
                    self._nursery.start_soon(self._keep, source)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            if self._client is not None:
                with trio.move_on_after(1.0, shield=True):
                    await self._client.aclose()
        raise AssertionError("sleep_forever returned")

    async def _keep(self, source: _Source) -> None:
        """One source, for as long as an issuer names it: fetch, wait until it is time or somebody wants a key, again."""
        with source.scope:
            while True:
                source.fetching = True  # before there is room: who wants a key now waits for this fetch
                async with self._room:
                    wait_s = await self._fetch(source)
                source.fetching = False
                source.wanted = trio.Event()
                ended, source.ended = source.ended, trio.Event()
                ended.set()
                with trio.move_on_after(wait_s * (1 - JITTER * self._rng.random())):
                    await source.wanted.wait()

    async def _fetch(self, source: _Source) -> float:
        """One attempt, its outcome in ``source``. After how long the next is due."""
        source.begun_at_s = self._clock()
        self.fetches += 1
        try:
            with trio.fail_after(FETCH_S):
                data, wait_s = await (self._download(source) if source.url else self._read(source))
            if data is not None:
                self._take(source, data)
        except trio.TooSlowError:
            trouble = f"no whole answer within {FETCH_S:g} s"
        except FetchError as error:
            trouble = str(error)
        else:
            if source.trouble:
                log.info("The keys at %s can be had again.", source.place)
            source.good_at_s, source.trouble, source.failed = self._clock(), "", 0
            return wait_s
        self.failures += 1
        source.stamp = None  # a file that was refused is looked at again, though nobody changed it
        if trouble != source.trouble:
            # Once, not every half minute; what is left of them is in the metrics.
            log.warning("The keys at %s cannot be had: %s. Those at hand stay good for a day.", source.place, trouble)
        source.trouble = trouble
        source.failed += 1
        return float(min(RETRY_S * 2 ** min(source.failed - 1, 10), REFRESH_S))

    def _take(self, source: _Source, data: bytes) -> None:
        keys, reasons = parse_jwks(data, ALGORITHMS)
        if not keys and reasons:
            # A set without any key withdraws them all. One whose keys are all unfit is a mistake, and withdraws none.
            raise FetchError(f"nothing in there can be used ({reasons[0]})")
        if source.keys is None or keys.keys() != source.keys.keys():
            log.info("Keys at %s: %s.", source.place, _some(list(keys)))
            if reasons:
                log.info("Keys at %s that are left out: %s.", source.place, _some(reasons))
        source.keys = keys

    async def _download(self, source: _Source) -> tuple[bytes, float]:
        if not jwks_url_allowed(source.url):
            raise FetchError("not an https URL, nor http on this machine")
        client = await self._http()
        try:
            # Without compression, so that the bytes that are counted are the bytes that are there.
            headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
            async with client.stream("GET", source.url, headers=headers) as response:
                if response.status_code != 200:
                    raise FetchError(f"the answer was {response.status_code}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise FetchError("the answer is compressed, which was not asked for")
                return await _body(response), _wait_s(response.headers.get("cache-control", ""))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            # The class alone: an exception's words quote what was received. The last two are of names that cannot be
            # spelled and certificates that cannot be read, where httpx does not say so in its own words.
            raise FetchError(f"no answer ({type(error).__name__})") from None

    async def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            # The machine's own authorities (and SSL_CERT_FILE), as everything else on it; reading them takes a while.
            verify: ssl.SSLContext | bool = True
            if self._transport is None:
                verify = await trio.to_thread.run_sync(ssl.create_default_context)
            if self._client is None:
                self._client = httpx.AsyncClient(
                    verify=verify,
                    timeout=FETCH_S,
                    follow_redirects=False,
                    trust_env=False,
                    transport=self._transport,
                    limits=httpx.Limits(max_connections=FETCHES_AT_ONCE, max_keepalive_connections=0),
                )
        return self._client

    async def _read(self, source: _Source) -> tuple[bytes | None, float]:
        """A file's bytes, ``None`` where it is the one that was read last."""
        try:
            stamp, data = await trio.to_thread.run_sync(_read_file, source.file, source.stamp, abandon_on_cancel=True)
        except OSError as error:
            raise FetchError(f"the file cannot be read: {error.strerror}") from None
        if data is not None and len(data) > JWKS_BYTES_MAX:
            raise FetchError(f"the file is larger than {JWKS_BYTES_MAX} bytes")
        source.stamp = stamp
        return data, REFRESH_S


async def _body(response: httpx.Response) -> bytes:
    data = bytearray()
    try:
        async for chunk in response.aiter_raw():
            if len(data) <= JWKS_BYTES_MAX:
                data += chunk
            else:
                # Cut off, and read on to where that shows: httpx leaves generators that were not read to their end to the
                # garbage collector, of which Trio warns.
                await response.aclose()
    except httpx.HTTPError:
        if len(data) <= JWKS_BYTES_MAX:
            raise
    if len(data) > JWKS_BYTES_MAX:
        raise FetchError(f"the answer is larger than {JWKS_BYTES_MAX} bytes")
    return bytes(data)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "none") + more


def _read_file(path: str, known: tuple[int, int, int] | None) -> tuple[tuple[int, int, int], bytes | None]:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        # Not to wait for whoever may write to what is no file.
        status = os.fstat(file.fileno())
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        return stamp, None if stamp == known else file.read(JWKS_BYTES_MAX + 1)


def _wait_s(cache_control: str) -> float:
    """Until the next fetch, by an answer's ``Cache-Control`` (RFC 9111, section 5.2.2)."""
    if re.search(r"\bno-(store|cache)\b", cache_control, re.IGNORECASE):
        return MAX_AGE_S[0]
    found = re.search(r"(?<![\w-])max-age=\"?(\d{1,10})", cache_control, re.IGNORECASE)
    return REFRESH_S if found is None else min(max(float(found[1]), MAX_AGE_S[0]), MAX_AGE_S[1])
