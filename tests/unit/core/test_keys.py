"""core.keys: a key has one algorithm, by its type; what could not be trusted to verify is left out with a reason."""

from __future__ import annotations

from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from jwt.api_jwk import PyJWK

from core.jws import b64url
from core.keys import JWKS_BYTES_MAX, JWKS_KEYS_MAX, KID_CHARS_MAX, BadKey, PublicKey, SigningKey, parse_jwk, parse_jwks
from core.tenants import ALGORITHMS
from tests.issuers import octets, own, signer


def good(algorithm: str, **changed: object) -> dict[str, Any]:
    whole = {**signer(algorithm).jwk, **changed}
    return {name: value for name, value in whole.items() if value is not ...}


def refused(jwk: object) -> str:
    key = parse_jwk(jwk)
    assert isinstance(key, BadKey), key
    return key.reason


def taken(jwk: object) -> PublicKey:
    key = parse_jwk(jwk)
    assert isinstance(key, PublicKey), key
    return key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_verifies_with_its_algorithm(algorithm: str) -> None:
    """What its private half signed and nothing else, of any form."""
    one = signer(algorithm)
    key = taken(one.jwk)
    assert (key.kid, key.algorithm) == (one.kid, algorithm)
    signature = one.sign(b"data")
    assert key.verify(b"data", signature)
    assert not key.verify(b"datA", signature)
    for other in (b"", b"\0" * len(signature), signature[:-1], signature + b"\0", signature[::-1], b"x" * 5_000):
        assert not key.verify(b"data", other)
    for stranger in ALGORITHMS:
        assert stranger == algorithm or not key.verify(b"data", signer(stranger).sign(b"data"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_as_another_library_reads_it(algorithm: str) -> None:
    """PyJWT finds the same key in the document, and signs what ours verifies."""
    one = signer(algorithm)
    theirs = PyJWK.from_dict(one.jwk)
    token = jwt.encode({"a": 1}, one.private, algorithm=algorithm)
    assert jwt.decode(token, theirs, algorithms=[algorithm]) == {"a": 1}
    signed, _, signature = token.rpartition(".")
    assert taken(one.jwk).verify(signed.encode(), jwt.utils.base64url_decode(signature))


def test_thumbprints_are_those_of_the_rfcs() -> None:
    """RFC 7638, section 3.1 (RSA), and RFC 8037, appendix A.3 (Ed25519); further members do not count."""
    rsa = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj"
        "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5"
        "hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert taken(rsa).thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    key = taken(okp)
    assert key.thumbprint == key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert taken({**okp, "kid": "a", "use": "sig", "x5t": "junk"}).thumbprint == key.thumbprint


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_thumbprints_count_the_key_alone(algorithm: str) -> None:
    """Two keys of a type differ, one key under two names does not."""
    assert taken(good(algorithm, kid="a")).thumbprint == taken(good(algorithm, kid="b", alg=...)).thumbprint
    assert taken(good(algorithm)).thumbprint != taken(signer(algorithm, "another").jwk).thumbprint


@pytest.mark.parametrize(
    ("jwk", "said"),
    [
        (None, "not a JSON object"),
        (["kty"], "not a JSON object"),
        ({}, "unknown type"),
        ({"kty": ["RSA"]}, "unknown type"),
        ({"kty": "AKP"}, "unknown type"),
        ({"kty": "oct", "k": "AAAA", "alg": "HS256"}, "symmetric"),
        (good("EdDSA", d="AAAA"), "private"),
        (good("RS256", p="AAAA"), "private"),
        (good("ES256", d=None), "private"),
        (good("RS256", k="AAAA"), "private"),
        (good("EdDSA", use="enc"), "use"),
        (good("EdDSA", use=None), "use"),
        (good("EdDSA", key_ops=["encrypt"]), "key_ops"),
        (good("EdDSA", key_ops="verify"), "key_ops"),
        (good("EdDSA", key_ops=[]), "key_ops"),
        (good("EdDSA", kid=""), "kid"),
        (good("EdDSA", kid=7), "kid"),
        (good("EdDSA", kid="a\nb"), "kid"),
        (good("EdDSA", kid="k" * (KID_CHARS_MAX + 1)), "kid"),
        (good("EdDSA", alg="HS256"), "alg is not EdDSA"),
        (good("EdDSA", alg="none"), "alg is not EdDSA"),
        (good("ES256", alg="ES384"), "alg is not ES256"),
        (good("RS256", alg="PS256"), "alg is not RS256"),
        (good("RS256", alg="HS256"), "alg is not RS256"),
        (good("RS256", alg=["RS256"]), "alg is not RS256"),
        (good("EdDSA", crv="Ed448"), "only Ed25519"),
        (good("EdDSA", crv="X25519"), "only Ed25519"),
        (good("EdDSA", crv=...), "only Ed25519"),
        (good("EdDSA", x=...), "32 bytes"),
        (good("EdDSA", x=5), "32 bytes"),
        (good("EdDSA", x=""), "32 bytes"),
        (good("EdDSA", x=b64url(b"x" * 31)), "32 bytes"),
        (good("EdDSA", x=b64url(b"x" * 32) + "="), "32 bytes"),
        (good("ES256", crv="P-384"), "only P-256"),
        (good("ES256", crv="secp256k1"), "only P-256"),
        (good("ES256", y=...), "32 bytes each"),
        (good("ES256", x=b64url(b"\0" * 33)), "32 bytes each"),
        (good("ES256", x=b64url(b"\1" * 32)), "no point"),
        (good("ES256", x=b64url(b"\xff" * 32)), "no point"),
        (good("ES256", x=b64url(b"\0" * 32), y=b64url(b"\0" * 32)), "no point"),
        (good("RS256", n=...), "positive numbers"),
        (good("RS256", e=""), "positive numbers"),
        (good("RS256", n=b64url(b"\0" + b"\xff" * 256)), "positive numbers"),
        (good("RS256", e=b64url(b"\0\1\0\1")), "positive numbers"),
        (good("RS256", n=b64url(b"\xff" * 255)), "2040 bits"),
        (good("RS256", n=b64url(b"\xff" * 1_025)), "8200 bits"),
        (good("RS256", n=b64url(b"\xff" * 255 + b"\xfe")), "even"),
        (good("RS256", e=octets(3)), "e is not from 65537"),
        (good("RS256", e=octets(65_538)), "even"),
        (good("RS256", e=octets(2**32 + 1)), "e is not from"),
        (good("RS256", e=octets(2**2_047 + 1)), "e is not from"),
    ],
)
def test_keys_that_are_not_taken(jwk: object, said: str) -> None:
    """Each with its reason."""
    assert said in refused(jwk)


def test_what_else_a_key_may_say() -> None:
    """The bounds themselves, members nobody asked for, another name of an algorithm."""
    assert taken(good("EdDSA", kid="k" * KID_CHARS_MAX)).kid == "k" * KID_CHARS_MAX
    assert taken(good("EdDSA", alg="Ed25519")).algorithm == "EdDSA"
    assert taken(good("EdDSA", alg=..., use=..., key_ops=["sign", "verify"])).algorithm == "EdDSA"
    assert "alg is not ES256" in refused(good("ES256", alg="Ed25519"))
    for n, e in ((2**2_047 + 1, 65_537), (2**8_192 - 1, 2**32 - 1)):
        assert taken(good("RS256", n=octets(n), e=octets(e))).algorithm == "RS256"


def test_points_of_small_order() -> None:
    """All eight, and every spelling of them: under the neutral point a signature of zeros and ones holds for any data."""
    p = 2**255 - 19
    order_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
    for y in (0, 1, p - 1, p, p + 1, order_8, p - order_8, 2**255 - 1):
        for sign in (0, 2**255):
            x = (y + sign).to_bytes(32, "little")
            assert "prove nothing" in refused(good("EdDSA", x=b64url(x)))
    assert taken(good("EdDSA", x=b64url((p - 2).to_bytes(32, "little"))))


# Sets


def test_a_set_of_keys() -> None:
    """By kid, in order, from bytes or from what they say; what is left out is told, what is not asked for too."""
    jwks = {"keys": [*(signer(one).jwk for one in ALGORITHMS), {"kty": "oct", "k": "AA", "kid": "shared"}, 7], "x": 1}
    for document in (jwks, orjson.dumps(jwks)):
        keys, reasons = parse_jwks(document, ALGORITHMS)
        assert list(keys) == ["eddsa", "es256", "rs256"]
        assert reasons == [
            "key 4 (shared): a symmetric key, which must never be published",
            "key 5: not a JSON object",
        ]
        keys, reasons = parse_jwks(document, ("ES256",))
        assert list(keys) == ["es256"]
        assert "key 1 (eddsa): EdDSA is not among this issuer's algorithms" in reasons
    assert parse_jwks({"keys": []}, ALGORITHMS) == ({}, [])


def test_a_key_without_a_name() -> None:
    """Its thumbprint is its kid."""
    keys, _ = parse_jwks({"keys": [good("EdDSA", kid=...)]}, ALGORITHMS)
    assert list(keys) == [signer("EdDSA").jwk["kid"] and taken(good("EdDSA")).thumbprint]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 3_000, "not JSON"),
        (b"[]", "no object"),
        (None, "no object"),
        ({}, "no object"),
        ({"keys": {}}, "no object"),
        (b" " * (JWKS_BYTES_MAX + 1), "larger"),
        ({"keys": [{}] * (JWKS_KEYS_MAX + 1)}, "65 keys"),
        ({"keys": [good("EdDSA"), good("ES256", kid="eddsa")]}, "key 2 (eddsa): another key"),
        ({"keys": [good("EdDSA"), good("EdDSA")]}, "another key"),
    ],
)
def test_sets_that_are_refused_whole(document: object, said: str) -> None:
    """No key of them is used."""
    keys, reasons = parse_jwks(document, ALGORITHMS)
    assert keys == {}
    assert len(reasons) == 1
    assert said in reasons[0]


def test_the_largest_set() -> None:
    """64 keys, and bytes up to the bound."""
    jwks = {"keys": [own(f"k{n}").jwk for n in range(JWKS_KEYS_MAX)]}
    keys, reasons = parse_jwks(orjson.dumps(jwks).ljust(JWKS_BYTES_MAX), ALGORITHMS)
    assert (len(keys), reasons) == (JWKS_KEYS_MAX, [])


def test_a_name_that_is_not_printable_is_not_printed() -> None:
    """A reason goes into logs."""
    _, reasons = parse_jwks({"keys": [{"kty": "x", "kid": "a\x1b[2J"}, {"kty": "x", "kid": "k" * 300}]}, ALGORITHMS)
    assert reasons == ["key 1: an unknown type of key", "key 2: an unknown type of key"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("kty", "n", "x", "kid")), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(ALGORITHMS),
    st.sampled_from(("kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops")),
    _JSON,
)
def test_any_member_may_say_anything(algorithm: str, name: str, value: object) -> None:
    """A key or a reason, never an exception."""
    assert isinstance(parse_jwk(good(algorithm, **{name: value})), PublicKey | BadKey)


# Signing keys


def test_a_signing_key() -> None:
    """Its public half, as a document and as a key, verifies what it signs; the seed is nowhere to be seen."""
    key = SigningKey("s1", b"s" * 32)
    parsed = taken(orjson.loads(orjson.dumps(key.jwk)))
    assert (parsed.kid, parsed.thumbprint, parsed.public_bytes) == ("s1", key.thumbprint, key.public_bytes)
    assert key.public.thumbprint == key.thumbprint
    for public in (parsed, key.public):
        assert public.verify(b"data", key.sign(b"data"))
    assert repr(key) == "SigningKey('s1')"
    assert "d" not in key.jwk
    assert SigningKey("s2", b"s" * 32).thumbprint == key.thumbprint


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(length: int) -> None:
    """Any other is an error at start."""
    with pytest.raises(ValueError, match="32"):
        SigningKey("s1", b"s" * length)


def test_keys_on_other_curves_are_none_of_ours() -> None:
    """An ES256 key verifies in P-256 only; cryptography would read others."""
    numbers = ec.derive_private_key(7, ec.SECP384R1()).public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-384", "x": octets(numbers.x, 48), "y": octets(numbers.y, 48)}
    assert "only P-256" in refused(jwk)
    assert "32 bytes each" in refused({**jwk, "crv": "P-256"})
