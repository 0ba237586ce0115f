"""What a node knows of revocations: whom it must not serve any more, although the signature is good.

Promises: a principal's revocation ends what was issued until then and nothing later, so that one who is let in again needs
only a new token; a token's, a session's or a tenant's ends it whenever it was issued. Lifting one takes it back. Older news
about the same thing than what is known changes nothing, in whatever order they come. Does not: read a clock, keep what is
past its time (`forget`).
"""

from __future__ import annotations

from core.directory import Revocation

_REASONS = {
    "token": "this token was revoked",
    "session": "this session was revoked",
    "principal": "what this principal was given until then was revoked",
    "tenant": "this tenant is stopped",
}


class Revocations:
    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], Revocation] = {}
        """By (scope, tenant, value), lifted ones too: what is known of them must not be undone by older news."""

    def __len__(self) -> int:
        return len(self._known)

    def take(self, revocation: Revocation) -> bool:
        """Note it; False where as new a word is known already."""
        key = (revocation.scope, revocation.tenant, revocation.value)
        known = self._known.get(key)
        if known is not None and known.number >= revocation.number:
            return False
        self._known[key] = revocation
        return True

    def known(self, tenant: str, scope: str, value: str) -> Revocation | None:
        """The newest word about it, lifted or not."""
        return self._known.get((scope, tenant, value))

    def refuses(
        self, tenant: str, principal: str, *, session: str = "", token_id: str = "", issued_at_s: float
    ) -> str | None:
        """Why somebody is not served any more, in words fit for it; ``None``: it is. ``issued_at_s`` is Unix time.

        Four look-ups, whatever is known.
        """
        known = self._known
        if not known:
            return None
        for scope, value in (("tenant", ""), ("principal", principal), ("session", session), ("token", token_id)):
            found = known.get((scope, tenant, value))
            if found is None or found.lifted or not (value or scope == "tenant"):
                continue
            # What says no time, or the very second of the revocation, counts as older than it.
            if scope != "principal" or issued_at_s * 1000 <= found.at_ms:
                return _REASONS[scope]
        return None

    def forget(self, now_ms: int) -> None:
        """Drop what can concern nobody any more."""
        for key, found in list(self._known.items()):
            if found.until_ms is not None and found.until_ms < now_ms:
                del self._known[key]
