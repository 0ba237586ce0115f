"""One kept HTTP/2 connection to one host, with a bound on calls at once and a breaker, both `gateway.work.outside`'s.

Promises: HTTP/2 over TLS and nothing else, no redirect followed, no proxy of the environment used; every call ends within
`call_s`, and nothing is kept past `answer_bytes_max`. A connection that failed is not used again. Nobody is cancelled while the
connection is opened: httpcore 1.0.9 then counts its streams wrong, and fails whoever comes next, after the answer.

Whoever got no answer does not know whether the push went out. It is repeated under the same id.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import httpx
import trio

from core.push.rules import PushLimits
from core.retry import retry_after_s
from core.work_limits import WorkLimits
from gateway.work.outside import Outside, answered
from gateway.work.ports import Transient

IDLE_S: Final = 1_800.0
"""Kept open so long without a call: both services ask not to connect anew for each push."""
BEGUN: Final = "http2.receive_response_headers.started"
"""httpcore's word for: the connection is open, and this call has gone over it (its extension `trace`)."""
SPARE_S: Final = 1.0
"""The client's own timeouts come first, since they tell it that the connection is broken; a cancellation does not."""


class Answered(NamedTuple):
    status: int
    body: bytes
    retry_after_s: float | None


class _Trouble(Transient):
    """A 5xx: the host is not well, and what it said is still an answer."""

    def __init__(self, answered: Answered) -> None:
        super().__init__(f"answers {answered.status}", answered.retry_after_s)
        self.answered = answered


def outside_of(limits: PushLimits, now_s: Callable[[], float] = trio.current_time) -> Outside:
    """For the lines of one worker."""
    bounds = replace(
        WorkLimits(),
        webhooks_per_host_max=limits.calls_per_host_max,
        breaker_failures=limits.breaker_failures,
        breaker_rest_s=limits.breaker_rest_s,
    )
    return Outside(bounds, now_s)


class Line:
    """``base`` is a URL without path. ``verify``: whom to trust, where not the authorities that all trust."""

    def __init__(
        self,
        base: str,
        outside: Outside,
        limits: PushLimits,
        wall: Callable[[], float],
        *,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._base = httpx.URL(base)
        self.host = self._base.host
        self._outside = outside
        self._limits = limits
        self._wall = wall
        self._transport = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context() if verify is None else verify,
            http1=False,
            http2=True,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S),
        )

    async def post(self, path: str, headers: Mapping[str, str], content: bytes) -> Answered:
        """Raises `Transient` (`gateway.work.outside.Full` too) where there is no answer."""
        try:
            with self._outside.call(self._base.netloc.decode()):
                found = await self._answer(path, headers, content)
                if found.status >= 500:
                    raise _Trouble(found)
        except _Trouble as trouble:
            return trouble.answered
        return found

    async def _answer(self, path: str, headers: Mapping[str, str], content: bytes) -> Answered:
        timeout = {"timeout": httpx.Timeout(self._limits.call_s - SPARE_S).as_dict()}
        url = self._base.copy_with(raw_path=path.encode())
        request = httpx.Request("POST", url, headers=dict(headers), content=content, extensions=timeout)
        found: Answered | None = None
        with trio.CancelScope(deadline=trio.current_time() + self._limits.call_s, shield=True) as opening:

            async def begun(what: str, _: object) -> None:
                if what == BEGUN:
                    opening.shield = False

            request.extensions["trace"] = begun
            try:
                async with answered(self._transport, request) as answer:
                    found = Answered(answer.status_code, await self._body(answer), self._retry_after_s(answer))
            except (httpx.TransportError, OSError) as error:
                raise Transient(f"{self.host} cannot be reached: {type(error).__name__}") from None
        if found is None:
            raise Transient(f"{self.host} did not answer within {self._limits.call_s:g} s")
        return found

    async def _body(self, answer: httpx.Response) -> bytes:
        """Its beginning. What follows is read and thrown away: a stream that is left half read keeps its parts."""
        assert isinstance(answer.stream, AsyncIterable)
        body, room = b"", self._limits.answer_bytes_max
        async for chunk in answer.stream:
            body += chunk[: room - len(body)]
        return body

    def _retry_after_s(self, answer: httpx.Response) -> float | None:
        return retry_after_s(answer.headers.get("retry-after", ""), self._wall())

    async def aclose(self) -> None:
        await self._transport.aclose()
