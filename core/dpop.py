"""Proofs of possession (DPoP, RFC 9449): who brings a bound token shows that it holds the key, once for each use.

For: tokens with ``cnf.jkt`` (`core.identity.Identity.bound_to`), which a thief who has only the token cannot use. Promises:
`verify_proof` never raises on what a client sent, checks at most one signature, and none before size and shape were seen to
be right; `Seen` holds a bounded number of proofs and never forgets one that could be used again. Does not: decide whether a
token needs a proof (compare `Proof.jkt` with ``bound_to``), know nonces (section 8): the time window stands in for them, and
`Seen` for the rest of it.

The checks are those of section 4.3, with EdDSA on Ed25519 alone: a device's key is one of ours (docs/decisions/0043-dpop.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from math import inf, isfinite
from typing import Final
from urllib.parse import unquote, urlsplit

from core.jws import TokenError, b64url, number, read, write
from core.keys import BadKey, SigningKey, parse_jwk

PROOF_WINDOW_S: Final = (60.0, 5.0)
"""How far a proof's ``iat`` may be behind our clock, and before it. The first forgives slow links and clocks that lag; the
second, clocks that are ahead. A client whose clock is worse takes the time from a response's ``Date``."""

PROOF_CHARS_MAX: Final = 4_096
"""A proof is about 500 characters, and the URL in it may have 2,000."""

PROOF_ID_CHARS_MAX: Final = 128

SPARED: Final = 0.25
"""The part of the memory of proofs that nobody gets who holds as much already."""

_OWNER_BYTES: Final = 6

_HEADER: Final = frozenset({"typ", "alg", "jwk"})
_Target = tuple[str, str, int, str]
"""Scheme, host, port and path."""

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True, slots=True)
class Proof:
    """``jkt`` is the thumbprint of the key that made it (RFC 7638), ``public_key`` the key itself: 32 bytes, Ed25519."""

    jkt: str
    jti: str
    public_key: bytes


def verify_proof(
    proof: object, *, method: str, url: str | tuple[str, ...], token: str | None, now_s: float
) -> Proof | TokenError:
    """What a proof proves for one request at ``now_s`` (Unix time).

    ``proof`` is whatever the client sent, of any type; ``method`` and ``url`` are the request's, query and fragment do not
    count, and of several URLs any will do (whoever stands behind a proxy does not know the scheme that the client used);
    ``token`` is the access token that goes with it, ``None`` where there is none, as when one is asked for.
    Whether the proof was used before is for `Seen`. Raises `ValueError` for a ``url`` of ours that is none.
    """
    targets = {_target(one) for one in ((url,) if isinstance(url, str) else url)}
    if not targets or None in targets:
        raise ValueError(f"no URL of a request: {url!r}")
    if isinstance(proof, str) and len(proof) > PROOF_CHARS_MAX:
        return TokenError("the proof is too long")
    jws = read(proof)
    if isinstance(jws, TokenError):
        return TokenError("the proof is not a JWT")
    kind = jws.header.get("typ")
    if not isinstance(kind, str) or kind.lower() not in ("dpop+jwt", "application/dpop+jwt"):
        return TokenError("not a proof by its typ, dpop+jwt")
    if jws.header.keys() != _HEADER:
        return TokenError("the proof's header is not typ, alg and jwk alone")
    if jws.header["alg"] != "EdDSA":
        return TokenError("the proof is signed with an algorithm that is not accepted")
    key = parse_jwk(jws.header["jwk"])
    if isinstance(key, BadKey) or key.algorithm != "EdDSA":
        return TokenError("the proof's jwk is not a public key on Ed25519")
    refused = _refused(jws.claims, method, targets, token, now_s)
    if refused:
        return TokenError(refused)
    if not key.verify(jws.signed, jws.signature):
        return TokenError("the proof has a bad signature")
    return Proof(key.thumbprint, str(jws.claims["jti"]), key.public_bytes)


class Seen:
    """Which proofs were used, so that each is used once: at most ``count_max``, each for as long as it would be good.

    When it is full of proofs that could still be used again, a new one is refused rather than an old one forgotten:
    forgetting would let whoever fills it replay what he overheard. A proof takes about 100 bytes here. Ask after signature
    and token were found good, and filling it takes ``count_max`` good requests in a minute; the last `SPARED` of it is for
    those who hold less than that by themselves, so that one who fills it is in nobody's way but its own.
    """

    def __init__(self, count_max: int) -> None:
        self.count_max = count_max
        self.replayed = 0
        """Proofs refused because they were used before."""
        self.crowded_out = 0
        """Proofs refused because there was no room."""
        self._until_s: dict[bytes, float] = {}  # in the order of their ends, as all are kept for equally long
        self._held: dict[bytes, int] = {}  # how many of each whose they are, by the beginning of their names
        self._spared = int(SPARED * count_max)

    def __len__(self) -> int:
        return len(self._until_s)

    def first(self, proof: Proof, now_s: float, whose: str = "") -> bool:
        """Whether this is the proof's first use, which it now has been. False: used before, or no room. ``whose``: who shares
        room with others, such as a tenant; all who are not named are one."""
        until_s, held = self._until_s, self._held
        for _ in range(2):  # two leave for one that comes, so the work is constant and what is over goes in the end
            oldest = next(iter(until_s), None)
            if oldest is None or until_s[oldest] >= now_s:
                break
            self._forget(oldest)
        # Hashes, so that a long jti costs no more than a short one.
        owner = hashlib.sha256(whose.encode()).digest()[:_OWNER_BYTES]
        name = owner + hashlib.sha256(f"{proof.jkt} {proof.jti}".encode()).digest()[:16]
        if until_s.get(name, -inf) >= now_s:
            self.replayed += 1
            return False
        if name in until_s:
            self._forget(name)
        room, mine = self.count_max - len(until_s), held.get(owner, 0)
        if room <= 0 or (room <= self._spared <= mine):
            self.crowded_out += 1
            return False
        until_s[name] = now_s + sum(PROOF_WINDOW_S)
        held[owner] = mine + 1
        return True

    def _forget(self, name: bytes) -> None:
        del self._until_s[name]
        owner = name[:_OWNER_BYTES]
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]


def make_proof(key: SigningKey, *, method: str, url: str, token: str | None, now_s: float, jti: str) -> str:
    """A proof for one request, as a device makes it. ``jti`` is different each time: 96 random bits or more."""
    claims: dict[str, object] = {
        "jti": jti,
        "htm": method,
        "htu": url.partition("?")[0].partition("#")[0],
        "iat": now_s,
    }
    if token is not None:
        claims["ath"] = token_hash(token)
    jwk = {name: key.jwk[name] for name in ("crv", "kty", "x")}
    return write({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk}, claims, key.sign)


def token_hash(token: str) -> str:
    """``ath``: SHA-256 of the access token, in base64url."""
    return b64url(hashlib.sha256(token.encode()).digest())


def _refused(
    claims: dict[str, object], method: str, targets: Collection[_Target | None], token: str | None, now_s: float
) -> str:
    """Why the claims are not those of a proof for this request; empty where they are."""
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= PROOF_ID_CHARS_MAX:
        return f"the proof's jti is not a text of 1 to {PROOF_ID_CHARS_MAX} characters"
    if claims.get("htm") != method:
        return "the proof is for another method"
    htu = claims.get("htu")
    target = _target(htu) if isinstance(htu, str) else None
    if target is None or target not in targets:
        return "the proof is for another URL"
    made_at_s = number(claims.get("iat"))
    if made_at_s is None or not isfinite(made_at_s):
        return "the proof's iat is missing or not a number"
    if now_s - made_at_s > PROOF_WINDOW_S[0]:
        return "the proof is too old"
    if made_at_s - now_s > PROOF_WINDOW_S[1]:
        return "the proof is from the future"
    if token is not None and claims.get("ath") != token_hash(token):
        return "the proof is not for this token"
    return ""


def _target(url: str) -> _Target | None:
    """What is left of a URL, as RFC 9449 compares them: query and fragment off, defaults filled in, and the path as routes see
    it, once decoded, so that ``chat%3Aops`` is ``chat:ops``."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return None  # `urlsplit` would drop line feeds and tabs without a word
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    default = _PORTS.get(parts.scheme)
    if default is None or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, default if port is None else port, unquote(parts.path) or "/"
