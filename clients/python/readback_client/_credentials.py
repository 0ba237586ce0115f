"""With what a client opens its next connection: a resume token while that can be good, else an access token.

A resume token lives ``resume_ttl`` from its issue, or from the loss of the connection that it was issued on: the server
counts from the same two moments, so a client that sleeps past it does not waste a round trip on a resume.
"""

from __future__ import annotations


class Credentials:
    """``fresh``: access tokens are fetched anew each time, so that one refusal may mean only that one had expired.

    >>> credentials = Credentials(fresh=False)
    >>> credentials.keep("r1", ttl_s=300.0, now=0.0)
    >>> credentials.usable(299.0), credentials.usable(300.0)
    (True, False)
    """

    __slots__ = ("_fresh", "_refused", "_ttl_s", "_until", "resume")

    def __init__(self, *, fresh: bool) -> None:
        self.resume: str | None = None
        self._fresh = fresh
        self._refused = 0  # access tokens in a row
        self._ttl_s = 0.0
        self._until = 0.0

    def usable(self, now: float) -> bool:
        return self.resume is not None and now < self._until

    def keep(self, token: object, *, now: float, ttl_s: float | None = None) -> None:
        """Take a newer resume token, where the frame had one."""
        if ttl_s is not None:
            self._ttl_s = ttl_s
        if isinstance(token, str):
            self.resume = token
            self._until = now + self._ttl_s

    def welcomed(self) -> None:
        self._refused = 0

    def lost(self, now: float) -> None:
        """A connection that was online has ended."""
        self._until = now + self._ttl_s

    def rejected(self) -> None:
        """The resume token is no good."""
        self.resume = None

    def may_refresh(self) -> bool:
        """Unauthorized: whether another access token may heal it. Once in a row, and only where they are fetched."""
        self.resume = None
        self._refused += 1
        return self._fresh and self._refused == 1
