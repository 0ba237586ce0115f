"""Which of several urls is dialled next.

They are addresses of one cell, each as good as another, in an order that differs from client to client (`_connect`
shuffles). A node that refuses for a while (503 with Retry-After, ``bye`` overloaded or draining) speaks for itself alone:
the next one is dialled meanwhile, and only where all of them refuse is the soonest waited for. What a server says of the
whole cell (the log is away, this principal is too fast) is waited for by the caller, whatever the url.
"""

from __future__ import annotations

from collections.abc import Sequence


class Rota:
    """
    >>> rota = Rota(["ws://a", "ws://b"])
    >>> rota.leave(now=0.0, rest_s=5.0), rota.url
    (0.0, 'ws://b')
    >>> rota.leave(now=1.0, rest_s=9.0), rota.url
    (4.0, 'ws://a')
    """

    __slots__ = ("_at", "_not_before", "_urls")

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = list(urls)
        self._at = 0
        self._not_before = [0.0] * len(urls)

    @property
    def url(self) -> str:
        return self._urls[self._at]

    def leave(self, now: float, rest_s: float = 0.0) -> float:
        """Turn to the next url; the one that is left wants ``rest_s`` of peace. Returns how long to wait at least."""
        count = len(self._urls)
        self._not_before[self._at] = now + rest_s
        rests = [max(0.0, until - now) for until in self._not_before]
        self._at = min(((self._at + step) % count for step in range(1, count + 1)), key=rests.__getitem__)
        return rests[self._at]
