"""Sessions: which connection speaks for a session now, and which resume token is its newest.

A session survives its transports. Its resume tokens are numbered by generation; using one makes the next and kills the
used one. This node remembers the generation of the sessions that it has seen; of a session it has not (another node's,
or before a restart), and of a token newer than what it remembers, it trusts the signature and the expiry alone, which
is why those are short. Among nodes a token is used once because using it is claimed on the bus (`gateway.sessions`).

Expiry counts from the end of the connection where this node saw that end, so that a connection of hours leaves a
resume good for `resume_ttl_s`, and from the token's issue where it did not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from core.tokens import ResumeClaims

C = TypeVar("C")

NEVER_S: Final = float("inf")


class Session(Generic[C]):
    __slots__ = ("connection", "elsewhere", "ended_at_s", "generation")

    def __init__(self, generation: int, connection: C) -> None:
        self.generation = generation
        self.connection: C | None = connection
        self.ended_at_s = NEVER_S
        self.elsewhere = False
        """Another node spoke for it last."""


class Sessions(Generic[C]):
    """The sessions of one node, at most ``sessions_max``; past it an ended one is forgotten, the oldest first."""

    def __init__(self, sessions_max: int, resume_ttl_s: float) -> None:
        self._max = sessions_max
        self._ttl_s = resume_ttl_s
        self._sessions: dict[str, Session[C]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, session_id: str, connection: C) -> int:
        """A new session speaks through ``connection``; returns its first generation."""
        self._remember(session_id, Session(1, connection))
        return 1

    def may_resume(self, claims: ResumeClaims, now_s: float) -> str | None:
        """Why a token with a good signature may not resume now, or ``None``. Times are Unix seconds."""
        if now_s >= claims.auth_expires_at_s:
            return "the access token behind it has expired"
        session = self._sessions.get(claims.session)
        if session is None or session.generation < claims.generation:  # another node made this token
            return None if now_s < claims.expires_at_s else "expired"
        if session.generation > claims.generation:
            return "used before"
        if session.connection is None and now_s >= max(claims.expires_at_s, session.ended_at_s + self._ttl_s):
            return "expired"
        return None

    def resume(self, claims: ResumeClaims, connection: C) -> tuple[int, C | None]:
        """``connection`` speaks for the session from now on: (new generation, the connection it supersedes)."""
        old = self._sessions.pop(claims.session, None)
        generation = claims.generation + 1
        self._remember(claims.session, Session(generation, connection))
        superseded = None if old is None or old.connection is connection else old.connection
        return generation, superseded

    def close(self, session_id: str, connection: C, now_s: float) -> None:
        """The connection ended. Nothing happens if another speaks for the session already."""
        session = self._sessions.get(session_id)
        if session is not None and session.connection is connection:
            session.connection = None
            session.ended_at_s = now_s

    def taken(self, session_id: str, generation: int, now_s: float) -> C | None:
        """Another node speaks for the session by ``generation``: older tokens are dead here too. Returns the connection
        here that no longer speaks for it. Nothing happens where this node knows of a newer generation."""
        session = self._sessions.get(session_id)
        if session is None or session.generation > generation:
            return None
        session.generation = generation
        session.elsewhere = True
        superseded, session.connection = session.connection, None
        if superseded is not None:
            session.ended_at_s = now_s
        return superseded

    def was_last_here(self, claims: ResumeClaims) -> bool:
        """Whether the token was made by this node, so that no other can have a connection of its session."""
        session = self._sessions.get(claims.session)
        return session is not None and session.generation == claims.generation and not session.elsewhere

    def spoken_for(self, session_id: str) -> int | None:
        """The generation of a session that a connection of this node speaks for."""
        session = self._sessions.get(session_id)
        return None if session is None or session.connection is None else session.generation

    def speaking(self) -> Iterator[tuple[str, int]]:
        """Each session that a connection of this node speaks for, with its generation."""
        for session_id, session in self._sessions.items():
            if session.connection is not None:
                yield session_id, session.generation

    def generation(self, session_id: str) -> int | None:
        session = self._sessions.get(session_id)
        return None if session is None else session.generation

    def forget_ended(self, now_s: float) -> None:
        """Drop sessions that can be resumed no more. They stay twice their time, so that a reuse is still recognised."""
        for session_id, session in list(self._sessions.items()):
            if session.connection is None and now_s >= session.ended_at_s + 2 * self._ttl_s:
                del self._sessions[session_id]

    def _remember(self, session_id: str, session: Session[C]) -> None:
        if len(self._sessions) >= self._max:
            ended = (key for key, old in self._sessions.items() if old.connection is None)
            del self._sessions[next(ended, next(iter(self._sessions)))]
        self._sessions[session_id] = session
