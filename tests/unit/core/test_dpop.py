"""core.dpop: a proof is for one request, one token and one minute, and is used once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dpop import (
    PROOF_CHARS_MAX,
    PROOF_ID_CHARS_MAX,
    PROOF_WINDOW_S,
    Proof,
    Seen,
    make_proof,
    token_hash,
    verify_proof,
)
from core.jws import TokenError
from core.keys import PublicKey
from tests.issuers import NOW, compact, own, signer

URL = "https://gateway.example/v1/devices/token"
TOKEN = "a.b.c"
KEY = own("truck-7")
JWK = {name: KEY.jwk[name] for name in ("crv", "kty", "x")}
HEADER: dict[str, Any] = {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": JWK}
CLAIMS: dict[str, Any] = {"jti": "p-1", "htm": "POST", "htu": URL, "iat": NOW, "ath": token_hash(TOKEN)}


def proof(header: object = ..., /, **changed: object) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not ...}
    return compact(HEADER if header is ... else header, claims, KEY.sign)


def verified(text: object, *, url: str = URL, token: str | None = TOKEN, now_s: float = NOW) -> Proof:
    result = verify_proof(text, method="POST", url=url, token=token, now_s=now_s)
    assert isinstance(result, Proof), result
    return result


def refused(text: object, *, url: str = URL, token: str | None = TOKEN, now_s: float = NOW) -> str:
    result = verify_proof(text, method="POST", url=url, token=token, now_s=now_s)
    assert isinstance(result, TokenError), result
    return result.reason


def test_what_a_device_makes_is_a_proof() -> None:
    """Of its key, for the request, with or without a token."""
    for token in (TOKEN, None):
        made = make_proof(KEY, method="POST", url=URL + "?a=b#c", token=token, now_s=NOW, jti="p-1")
        assert verified(made, token=token) == Proof(KEY.thumbprint, "p-1", KEY.public_bytes)
    assert "not for this token" in refused(made)


def test_a_proof_as_in_the_rfc() -> None:
    """Section 4.2: typ in any case, a token's hash that nobody asked for, further claims."""
    verified(proof({**HEADER, "typ": "DPoP+JWT"}))
    verified(proof({**HEADER, "typ": "application/dpop+jwt"}))
    verified(proof({**HEADER, "jwk": {**JWK, "kid": "x", "alg": "EdDSA", "use": "sig"}}))
    verified(proof(nonce="x", exp=0), token=None)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({**HEADER, "typ": "JWT"}, "typ"),
        ({**HEADER, "typ": ["dpop+jwt"]}, "typ"),
        ({"alg": "EdDSA", "jwk": JWK}, "typ"),
        ({**HEADER, "kid": "s1"}, "alone"),
        ({**HEADER, "crit": ["exp"]}, "alone"),
        ({"typ": "dpop+jwt", "alg": "EdDSA"}, "alone"),
        ({"typ": "dpop+jwt", "jwk": JWK}, "alone"),
        ({**HEADER, "alg": "none"}, "algorithm"),
        ({**HEADER, "alg": "HS256"}, "algorithm"),
        ({**HEADER, "alg": ["EdDSA"]}, "algorithm"),
        ({**HEADER, "jwk": {**JWK, "d": "AAAA"}}, "jwk"),
        ({**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}}, "jwk"),
        ({**HEADER, "jwk": signer("ES256").jwk}, "jwk"),
        ({**HEADER, "jwk": None}, "jwk"),
        ({**HEADER, "jwk": {**JWK, "x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}, "jwk"),
        ({**HEADER, "jwk": {name: own("s2").jwk[name] for name in JWK}}, "bad signature"),
    ],
)
def test_headers_of_no_proof(header: object, said: str) -> None:
    """Each with its reason."""
    assert said in refused(proof(header))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"jti": ...}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": 7}, "jti"),
        ({"jti": "j" * (PROOF_ID_CHARS_MAX + 1)}, "jti"),
        ({"htm": ...}, "method"),
        ({"htm": "post"}, "method"),
        ({"htm": ["POST"]}, "method"),
        ({"htu": ...}, "URL"),
        ({"htu": [URL]}, "URL"),
        ({"iat": ...}, "iat"),
        ({"iat": "now"}, "iat"),
        ({"iat": True}, "iat"),
        ({"ath": ...}, "token"),
        ({"ath": token_hash("other")}, "token"),
        ({"ath": token_hash(TOKEN) + "="}, "token"),
    ],
)
def test_claims_of_no_proof(change: dict[str, Any], said: str) -> None:
    """Missing, of another type, of another request."""
    assert said in refused(proof(**change))


def test_the_window() -> None:
    """A minute back and five seconds ahead, to the bound."""
    behind_s, ahead_s = PROOF_WINDOW_S
    verified(proof(), now_s=NOW + behind_s)
    verified(proof(), now_s=NOW - ahead_s)
    assert "too old" in refused(proof(), now_s=NOW + behind_s + 0.001)
    assert "future" in refused(proof(), now_s=NOW - ahead_s - 0.001)


@pytest.mark.parametrize(
    "htu",
    [
        URL + "?x=1",
        URL + "#x",
        "HTTPS://GATEWAY.example/v1/devices/token",
        "https://gateway.example:443/v1/devices/token",
        "https://gateway.example/v1/devices/t%6Fken",
    ],
)
def test_spellings_of_one_url(htu: str) -> None:
    """Query, fragment, case of scheme and host, the default port, letters in percent-encoding."""
    verified(proof(htu=htu))


@pytest.mark.parametrize(
    "htu",
    [
        "http://gateway.example/v1/devices/token",
        "https://gateway.example:8443/v1/devices/token",
        "https://other.example/v1/devices/token",
        "https://gateway.example/v1/devices/Token",
        "https://gateway.example/v1/devices/token/",
        "https://gateway.example/v1/devices/t%256Fken",
        "https://gateway.example",
        "https://a@gateway.example/v1/devices/token",
        "https://gateway.example:x/v1/devices/token",
        "https://[gateway.example/v1/devices/token",
        "https:///v1/devices/token",
        "/v1/devices/token",
        "ftp://gateway.example/v1/devices/token",
        URL + "\n",
        "https://gateway.example/v1/devices/to\tken",
        "https://gatew\u0430y.example/v1/devices/token",
        " " + URL,
        "",
    ],
)
def test_other_urls(htu: str) -> None:
    """Another scheme, host, port or path; what is no URL; one that only looks like ours."""
    assert "URL" in refused(proof(htu=htu))


def test_urls_of_sockets_and_roots() -> None:
    """A WebSocket has default ports too, and no path is the root."""
    verified(proof(htu="wss://gateway.example/v1/ws"), url="wss://gateway.example:443/v1/ws")
    verified(proof(htu="ws://[::1]/v1/ws"), url="ws://[::1]:80/v1/ws")
    verified(proof(htu="http://gateway.example"), url="http://gateway.example/")
    with pytest.raises(ValueError, match="no URL"):
        refused(proof(), url="/v1/ws")


@pytest.mark.parametrize("text", [None, 7, b"x", [], "", "a.b", "a.b.c", "é.é.é", "x" * 3_000_000])
def test_what_is_no_jwt(text: object) -> None:
    """Of any type and size."""
    assert refused(text) in ("the proof is not a JWT", "the proof is too long")


def test_the_longest_proof() -> None:
    """4,096 characters."""
    lengths = {}
    for length in range(2_700, 2_900):
        text = proof(pad="x" * length)
        lengths[len(text)] = verify_proof(text, method="POST", url=URL, token=TOKEN, now_s=NOW)
    assert isinstance(lengths[PROOF_CHARS_MAX], Proof)
    assert lengths[PROOF_CHARS_MAX + 1] == TokenError("the proof is too long")


def test_one_signature_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """None for a proof of another request, one for one of ours."""
    checks: list[bytes] = []
    monkeypatch.setattr(PublicKey, "verify", lambda _, signed, signature: checks.append(signature) or False)
    for change in ({"jti": 1}, {"htm": "GET"}, {"htu": "x"}, {"iat": 0}, {"ath": ""}):
        refused(proof(**change))
    assert checks == []
    assert "bad signature" in refused(proof())
    assert len(checks) == 1


@given(
    st.sampled_from([*CLAIMS]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
)
def test_any_claims_are_answered(name: str, value: object) -> None:
    """No claims raise."""
    try:
        text = proof(**{name: value})
    except TypeError:  # beyond what JSON can hold
        return
    assert isinstance(verify_proof(text, method="POST", url=URL, token=TOKEN, now_s=NOW), Proof | TokenError)


# Each is used once


def one(n: int, jkt: str = "k") -> Proof:
    return Proof(jkt, f"p-{n}", b"")


def test_a_proof_is_used_once() -> None:
    """By key and id: another key's proof may have the same id."""
    seen = Seen(10)
    assert seen.first(one(1), NOW)
    assert not seen.first(one(1), NOW)
    assert seen.first(one(1, "other"), NOW)
    assert (len(seen), seen.replayed, seen.crowded_out) == (2, 1, 0)


def test_a_proof_is_remembered_while_it_is_good() -> None:
    """One from five seconds ahead is good for 65 s; that long it is known, and not longer."""
    seen, good_s = Seen(10), sum(PROOF_WINDOW_S)
    assert seen.first(one(1), NOW)
    ahead = proof(iat=NOW + PROOF_WINDOW_S[1])
    verified(ahead, now_s=NOW)
    verified(ahead, now_s=NOW + good_s)
    assert not seen.first(one(1), NOW + good_s)
    assert "too old" in refused(ahead, now_s=NOW + good_s + 0.1)
    assert seen.first(one(1), NOW + good_s + 0.1)
    assert len(seen) == 1


def test_full_is_full() -> None:
    """Nothing is forgotten for a newcomer; once the oldest are over there is room again."""
    seen = Seen(3)
    assert [seen.first(one(n), NOW + n) for n in range(5)] == [True, True, True, False, False]
    assert not seen.first(one(0), NOW + 5)
    assert (len(seen), seen.crowded_out, seen.replayed) == (3, 2, 1)
    later = NOW + sum(PROOF_WINDOW_S) + 0.5
    assert seen.first(one(9), later)
    assert not seen.first(one(10), later)
    assert len(seen) == 3


def test_one_who_fills_it_is_in_nobody_elses_way() -> None:
    """The last quarter is for those who hold less than that; who has used up its share gets it back with time.

    A device that refreshed all the time, 5,000 times a second, had all proofs of all tenants refused.
    """
    seen = Seen(100)
    assert sum(seen.first(one(n), NOW, "acme") for n in range(200)) == 75
    assert sum(seen.first(one(n), NOW, "zen") for n in range(200)) == 25
    assert not seen.first(one(0), NOW, "third"), "full is full"
    assert seen.crowded_out == 125 + 175 + 1
    later = NOW + sum(PROOF_WINDOW_S) + 1
    assert sum(seen.first(one(n), later, "acme") for n in range(200, 300)) == 75
    assert sum(seen.first(one(n), later, "third") for n in range(20)) == 20
    assert seen._held.keys() <= {key[:6] for key in seen._until_s}
    assert sum(seen._held.values()) == len(seen)


def test_what_is_over_leaves_a_few_at_a_time() -> None:
    """Two leave for one that comes, so that no request pays for a crowd; an id that is over but not gone may come again."""
    seen = Seen(1_000)
    for n in range(100):
        assert seen.first(one(n), NOW)
    later = NOW + 1_000
    assert seen.first(one(99), later)
    assert len(seen) == 98
    assert not seen.first(one(99), later)
    for n in range(100, 160):
        assert seen.first(one(n), later)
    assert len(seen) == 61


def test_of_several_urls_any_will_do_and_no_other() -> None:
    """Behind a proxy the scheme that the client used is not known."""
    both = (URL, URL.replace("https:", "http:"))
    for htu in both:
        found = verify_proof(proof(htu=htu), method="POST", url=both, token=TOKEN, now_s=NOW)
        assert isinstance(found, Proof)
    other = verify_proof(proof(htu="ftp://gateway.example/"), method="POST", url=both, token=TOKEN, now_s=NOW)
    assert isinstance(other, TokenError)
    with pytest.raises(ValueError, match="no URL"):
        verify_proof(proof(), method="POST", url=(), token=TOKEN, now_s=NOW)
