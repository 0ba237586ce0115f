"""core.tokens: a token proves exactly what its signer wrote, and whatever else a client brings is a TokenError."""

from __future__ import annotations

import hmac
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from hashlib import sha256
from typing import Any

import jwt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.keys import PublicKey, parse_jwk
from core.tenants import ALGORITHMS, Issuer, Tenant, Tenants
from core.tokens import (
    ROLES_MAX,
    TOKEN_BYTES_MAX,
    Identity,
    NeedKeys,
    ResumeClaims,
    ResumeKeys,
    TokenError,
    TokenVerifier,
    issue,
    mint,
)
from tests.issuers import IDP, compact, hmac_with, own, signer

NOW = 1_800_000_000.0
SECRET = b"s" * 32
OTHER = b"o" * 32
CLAIMS: dict[str, Any] = {
    "sub": "user:amy",
    "tenant": "demo",
    "roles": ["admin"],
    "aud": "readback",
    "exp": NOW + 60,
}


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(claims: object, header: dict[str, Any] | bytes | None = None, secret: bytes = SECRET) -> str:
    """A JWT of any content, signed correctly: what a holder of the key could make."""
    head = header if isinstance(header, bytes) else orjson.dumps(header or {"alg": "HS256", "typ": "JWT", "kid": "k1"})
    body = claims if isinstance(claims, bytes) else orjson.dumps(claims)
    signed = f"{b64(head)}.{b64(body)}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), sha256))}"


def reason(token: object, now_s: float = NOW, verifier: TokenVerifier | None = None) -> str:
    result = (verifier or TokenVerifier({"k1": SECRET})).verify(token, now_s)
    assert isinstance(result, TokenError), result
    assert "k1" not in result.reason
    return result.reason


# Access tokens


def test_mint_and_verify() -> None:
    """What was minted is what is verified."""
    token = mint(SECRET, kid="k1", tenant="demo", principal="user:amy", roles=["admin"], now_s=NOW, ttl_s=60)
    who = TokenVerifier({"k1": SECRET}, leeway_s=0).verify(token, NOW)
    assert who == Identity("demo", "user:amy", frozenset({"admin"}), NOW + 60, issued_at_s=NOW)
    assert who.privileged


@pytest.mark.parametrize(("roles", "privileged"), [([], False), (["auditor"], False), (["service"], True)])
def test_privileged(roles: list[str], privileged: bool) -> None:
    """Admin and service stand in for membership; other roles do not."""
    who = TokenVerifier({"k1": SECRET}).verify(sign({**CLAIMS, "roles": roles}), NOW)
    assert isinstance(who, Identity)
    assert who.privileged is privileged


def test_a_jwt_of_another_library_holds() -> None:
    """An ordinary issuer's token is taken: no kid with one key, aud in a list, fractions and extra claims allowed."""
    token = jwt.encode({**CLAIMS, "aud": ["other", "readback"], "exp": NOW + 0.5, "iss": "idp", "jti": "1"}, SECRET)
    assert isinstance(TokenVerifier({"k1": SECRET}).verify(token, NOW), Identity)


def test_roles_may_be_missing() -> None:
    """A principal without roles is an ordinary one."""
    claims = {name: value for name, value in CLAIMS.items() if name != "roles"}
    who = TokenVerifier({"k1": SECRET}).verify(sign(claims), NOW)
    assert isinstance(who, Identity)
    assert who.roles == frozenset()


def test_times_and_their_leeway() -> None:
    """exp and nbf hold by the time handed in, forgiving the leeway and no more."""
    verifier = TokenVerifier({"k1": SECRET}, leeway_s=30)
    token = sign({**CLAIMS, "nbf": NOW})
    assert isinstance(verifier.verify(token, NOW + 89), Identity)
    assert reason(token, NOW + 90, verifier) == "expired"
    assert isinstance(verifier.verify(token, NOW - 30), Identity)
    assert reason(token, NOW - 31, verifier) == "not valid yet"


def test_who_is_let_in_by_the_leeway_stays_as_long_as_the_leeway_has_it() -> None:
    """Such a one was welcomed, then sent away at the next look, with a resume token that had expired when it was made."""
    who = TokenVerifier({"k1": SECRET}, leeway_s=30).verify(sign(CLAIMS), NOW + 75)
    assert isinstance(who, Identity)
    assert who.expires_at_s == NOW + 90


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"aud": "other"}, "audience"),
        ({"aud": ["other"]}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": {"readback": 1}}, "audience"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": NOW - 31}, "expired"),
        ({"nbf": "now"}, "nbf"),
        ({"nbf": None}, "nbf"),
        ({"sub": None}, "sub"),
        ({"sub": "amy"}, "sub"),
        ({"sub": "user:amy\n"}, "sub"),
        ({"sub": ["user:amy"]}, "sub"),
        ({"sub": "user:" + "a" * 129}, "sub"),
        ({"tenant": None}, "tenant"),
        ({"tenant": "Demo"}, "tenant"),
        ({"tenant": "demo\n"}, "tenant"),
        ({"tenant": 7}, "tenant"),
        ({"roles": "admin"}, "roles"),
        ({"roles": [1]}, "roles"),
        ({"roles": [["admin"]]}, "roles"),
        ({"roles": ["Admin"]}, "roles"),
        ({"roles": ["a"] * (ROLES_MAX + 1)}, "roles"),
        ({"roles": None}, "roles"),
    ],
)
def test_claims_are_checked(change: dict[str, Any], said: str) -> None:
    """Each claim of the wrong type or shape is refused by name, though the signature is good."""
    assert said in reason(sign({**CLAIMS, **change}))


@pytest.mark.parametrize("payload", [b"[]", b"null", b'"x"', b"{", b"\xff", b'{"exp":NaN}', b"[" * 3000 + b"]" * 3000])
def test_payloads_that_are_no_claims(payload: bytes) -> None:
    """A signed payload that is no JSON object is refused."""
    assert "claims" in reason(sign(payload))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "k1"},
        {"alg": "None", "kid": "k1"},
        {"alg": "HS512", "kid": "k1"},
        {"alg": "RS256", "kid": "k1"},
        {"alg": ["HS256"], "kid": "k1"},
        {"kid": "k1"},
    ],
)
def test_the_algorithm_is_the_keys(header: dict[str, Any]) -> None:
    """Whatever the header claims, the key's algorithm is the only one."""
    assert "algorithm" in reason(sign(CLAIMS, header))


def test_alg_none_without_signature() -> None:
    """The oldest forgery: no algorithm, no signature."""
    head, body, _ = sign(CLAIMS, {"alg": "none", "kid": "k1"}).split(".")
    assert reason(f"{head}.{body}.") == "not a JWT"
    assert "algorithm" in reason(f"{head}.{body}.AA")


@pytest.mark.parametrize("kid", ["k2", "../../dev/null", "k1' or '1'='1", "", 1, ["k1"], {"k": 1}])
def test_kid_only_selects(kid: object) -> None:
    """A kid that is none of ours selects nothing, whatever it says."""
    assert reason(sign(CLAIMS, {"alg": "HS256", "kid": kid})) == "signed with an unknown key"


@pytest.mark.parametrize(
    "extra",
    [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"jwk": {"k": "AA"}}, {"jku": "https://x"}, {"zip": "DEF"}],
)
def test_headers_that_ask_for_more(extra: dict[str, Any]) -> None:
    """Header parameters that would change how the token is read are refused."""
    assert "unsupported" in reason(sign(CLAIMS, {"alg": "HS256", "kid": "k1", **extra}))


@pytest.mark.parametrize("header", [b"[]", b"{", b"\xff\xfe", b"null", b"[" * 2000 + b"]" * 2000])
def test_headers_that_are_no_object(header: bytes) -> None:
    """A header that is no JSON object is refused before any key is looked for."""
    assert "header" in reason(sign(CLAIMS, header))


def test_bad_signature() -> None:
    """One changed byte anywhere, or another secret, and it does not hold."""
    assert reason(sign(CLAIMS, secret=OTHER)) == "bad signature"
    head, _body, signature = sign(CLAIMS).split(".")
    admin = b64(orjson.dumps({**CLAIMS, "sub": "user:eve"}))
    assert reason(f"{head}.{admin}.{signature}") == "bad signature"


def test_a_signature_has_one_spelling() -> None:
    """Padding, other alphabets and spare bits are not another spelling of the same token."""
    token = sign(CLAIMS)
    last = token[-1]
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    sibling = alphabet[alphabet.index(last) ^ 1]
    for other in (token + "=", token[:-1] + sibling, token.replace(".", "..", 1), token + "\n", " " + token):
        assert isinstance(TokenVerifier({"k1": SECRET}).verify(other, NOW), TokenError)


def test_rotation() -> None:
    """With several keys each token names its own; one without kid is refused rather than tried against all."""
    verifier = TokenVerifier({"k2": OTHER, "k1": SECRET})
    assert isinstance(verifier.verify(sign(CLAIMS), NOW), Identity)
    assert isinstance(verifier.verify(sign(CLAIMS, {"alg": "HS256", "kid": "k2"}, OTHER), NOW), Identity)
    assert reason(sign(CLAIMS, {"alg": "HS256"}), NOW, verifier) == "signed with an unknown key"
    assert reason(sign(CLAIMS, {"alg": "HS256", "kid": "k2"}), NOW, verifier) == "bad signature"


@pytest.mark.parametrize("token", [None, 1, 1.5, True, [], {}, b"a.b.c", object()])
def test_tokens_of_other_types(token: object) -> None:
    """A hello may carry anything under `token`; only strings are looked at."""
    assert reason(token) == "a token is a string"


def test_huge_tokens_are_not_decoded() -> None:
    """Over 8 KB nothing is decoded, not even a good signature."""
    assert reason(sign({**CLAIMS, "x": "y" * TOKEN_BYTES_MAX})) == "the token is too long"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c", "\x00.\x00.\x00", "é.é.é", "a.a.\ud800"])
def test_strings_that_are_no_jwt(token: str) -> None:
    """Other strings are refused with a reason."""
    assert reason(token)


@given(st.text(max_size=200))
def test_any_string_is_answered(text: str) -> None:
    """No string raises."""
    assert isinstance(TokenVerifier({"k1": SECRET}).verify(text, NOW), TokenError)
    assert isinstance(ResumeKeys({"r1": SECRET}).verify(text, NOW), TokenError)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=10,
    )
)
def test_any_signed_claims_are_answered(value: object) -> None:
    """No claims raise, not even from a holder of the key, in any claim's place."""
    verifier = TokenVerifier({"k1": SECRET})
    for name in CLAIMS:
        try:
            token = sign({**CLAIMS, name: value})
        except (TypeError, orjson.JSONEncodeError):  # beyond what JSON can hold
            return
        assert isinstance(verifier.verify(token, NOW), TokenError | Identity)


@pytest.mark.parametrize("ring", [{}, {"k1": b"short"}, {"k1": b"s" * 31}, {"k 1": SECRET}, {"": SECRET}])
def test_rings_that_protect_nothing(ring: dict[str, bytes]) -> None:
    """An empty ring, a short secret or an odd id is an error at start, without the secret in it."""
    for make in (TokenVerifier, ResumeKeys):
        with pytest.raises(ValueError, match=r"needed|only") as caught:
            make(ring)
        assert "ssss" not in str(caught.value)


def test_a_ring_that_protects_nothing_is_named() -> None:
    """Which of the two rings it is, and what is wrong with it."""
    for make, name in ((TokenVerifier, "token secret"), (ResumeKeys, "resume key")):
        for ring, message in (
            ({}, f"at least one {name} is needed"),
            ({"k 1": SECRET}, f"{name} id 'k 1': letters, digits, - and _ only"),
            ({"k1": b"s" * 31}, f"{name} 'k1' has 31 bytes; at least 32 are needed"),
            ({"k2": SECRET, "k1": b""}, f"{name} 'k1' has 0 bytes; at least 32 are needed"),
        ):
            with pytest.raises(ValueError, match=r"needed|only") as caught:
                make(ring)
            assert str(caught.value) == message
        make({"k1": b"s" * 32})


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "Demo"},
        {"principal": "amy"},
        {"roles": ["Admin"]},
        {"roles": [f"r{n}" for n in range(ROLES_MAX + 1)]},
        {"kid": "k 1"},
    ],
)
def test_mint_refuses_what_verify_would(change: dict[str, Any]) -> None:
    """A token that could never be verified is not handed out."""
    good = {"kid": "k1", "tenant": "demo", "principal": "user:amy", "roles": [], "now_s": NOW, "ttl_s": 60.0}
    with pytest.raises(ValueError, match=r"tenant|principal|role|only"):
        mint(SECRET, **{**good, **change})


# Tokens of issuers, and of our own

ACME = Issuer(IDP, jwks_url="https://id.acme.example/keys")


class Issuers:
    """Tenants with one issuer each, and what is known of its keys."""

    def __init__(self, *tenants: Tenant, only_named: bool = False, secrets: bool = True, **rest: Any) -> None:
        self.known: dict[str, dict[str, PublicKey] | None] = {}
        self.asked = 0
        named = {tenant.name: tenant for tenant in tenants or (Tenant("acme", (ACME,)),)}
        self.verifier = TokenVerifier(
            {"k1": SECRET} if secrets else {},
            tenants=Tenants(named, only_named=only_named),
            own={"s1": own().public},
            keys=self._keys,
            **rest,
        )
        self.know(ACME, *ALGORITHMS)

    def know(self, issuer: Issuer, *algorithms: str) -> None:
        self.known[issuer.jwks_url] = {(one := signer(name)).kid: public(one.jwk) for name in algorithms}

    def _keys(self, issuer: Issuer) -> dict[str, PublicKey] | None:
        self.asked += 1
        return self.known.get(issuer.jwks_url)

    def who(self, token: str) -> Identity:
        result = self.verifier.verify(token, NOW)
        assert isinstance(result, Identity), result
        return result

    def refused(self, token: str) -> str:
        result = self.verifier.verify(token, NOW)
        assert isinstance(result, TokenError), result
        return result.reason


def public(jwk: dict[str, Any]) -> PublicKey:
    key = parse_jwk(jwk)
    assert isinstance(key, PublicKey)
    return key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_an_issuer(algorithm: str) -> None:
    """Its tenant is the issuer's, with or without the claim."""
    issuers = Issuers()
    token = signer(algorithm).token(jti="t-1", iat=NOW)
    assert issuers.who(token) == Identity("acme", "user:amy", frozenset(), NOW + 90, NOW, "t-1")
    assert issuers.who(signer(algorithm).token(tenant="acme")).tenant == "acme"
    assert issuers.refused(signer(algorithm).token(tenant="rival")) == "its issuer does not speak for this tenant"
    assert issuers.refused(signer(algorithm).token(tenant=["acme"])) == "its issuer does not speak for this tenant"
    assert issuers.refused(signer(algorithm).token(aud="rival")) == "not for this audience"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_librarys_token_of_an_issuer(algorithm: str) -> None:
    """As PyJWT makes it from the same private key."""
    claims = {"iss": IDP, "sub": "user:amy", "aud": "readback", "exp": int(NOW + 60)}
    one = signer(algorithm)
    token = jwt.encode(claims, one.private, algorithm=algorithm, headers={"kid": one.kid})
    assert Issuers().who(token).principal == "user:amy"


def test_an_issuers_settings_hold_for_its_tokens() -> None:
    """Audience, prefix, where the roles are, which algorithms."""
    issuer = replace(
        ACME, algorithms=("ES256",), audience="acme-rt", subject_prefix="user:", roles_claim="realm_access.roles"
    )
    issuers = Issuers(Tenant("acme", (issuer,)))
    good = signer("ES256").token(aud="acme-rt", sub="amy", realm_access={"roles": ["admin"]})
    assert issuers.who(good) == Identity("acme", "user:amy", frozenset({"admin"}), NOW + 90)
    assert issuers.refused(signer("ES256").token()) == "not for this audience"
    assert "algorithm" in issuers.refused(signer("EdDSA").token(aud="acme-rt"))


def test_an_issuer_is_held_to_its_own_keys() -> None:
    """Neither the shared secret nor the gateway's key signs for it, nor does its key for anybody else."""
    issuers = Issuers()
    body = {"iss": IDP, "sub": "user:amy", "aud": "readback", "exp": NOW + 60, "tenant": "acme"}
    assert "algorithm" in issuers.refused(compact({"alg": "HS256", "kid": "k1"}, body, hmac_with(SECRET)))
    issuers.asked = 0
    assert "unknown key" in issuers.refused(compact({"alg": "EdDSA", "kid": "s1"}, body, own().sign))
    assert issuers.asked == 1
    eddsa = signer("EdDSA")
    head = {"alg": "EdDSA", "kid": "eddsa"}
    for iss in ("readback", "https://id.rival.example", ...):
        assert issuers.refused(eddsa.token(head, iss=iss, tenant="acme")) == "signed with an unknown key"
    assert issuers.refused(eddsa.token(head, iss=["readback"])) == "iss is not a text"
    assert issuers.asked == 1


def test_keys_that_are_not_at_hand() -> None:
    """It is said whose and which, so that somebody may fetch them; to everyone else the token was not taken."""
    issuers = Issuers()
    token = signer("EdDSA").token()
    for known, absent, reason in (({}, False, "unknown key"), (None, True, "cannot be had")):
        issuers.known[ACME.jwks_url] = known
        result = issuers.verifier.verify(token, NOW)
        assert isinstance(result, NeedKeys)
        assert (result.issuer, result.kid, result.absent) == (ACME, "eddsa", absent)
        assert reason in result.reason
    nameless = issuers.verifier.verify(signer("EdDSA").token({"alg": "EdDSA"}), NOW)
    assert isinstance(nameless, NeedKeys)
    assert nameless.kid == ""
    issuers.know(ACME, "EdDSA")
    assert issuers.who(token).principal == "user:amy"


def test_what_no_fetch_would_bring_asks_for_none() -> None:
    """An algorithm that the issuer does not have, a kid that is none, no kid among several keys."""
    issuers = Issuers()
    issuers.known[ACME.jwks_url] = None
    one = signer("EdDSA")
    for header, said in (
        ({"alg": "HS256", "kid": "new"}, "algorithm"),
        ({"alg": "none", "kid": "new"}, "algorithm"),
        ({"kid": "new"}, "algorithm"),
        ({"alg": ["EdDSA"], "kid": "new"}, "algorithm"),
        ({"alg": "EdDSA", "kid": ""}, "unknown key"),
        ({"alg": "EdDSA", "kid": ["new"]}, "unknown key"),
        ({"alg": "EdDSA", "kid": "k" * 257}, "unknown key"),
    ):
        result = issuers.verifier.verify(one.token(header), NOW)
        assert type(result) is TokenError
        assert said in result.reason
    assert issuers.asked == 0
    issuers.know(ACME, *ALGORITHMS)
    assert type(issuers.verifier.verify(one.token({"alg": "EdDSA"}), NOW)) is TokenError


def test_a_token_without_kid_is_of_the_only_key() -> None:
    """The only one with an algorithm of the issuer's."""
    issuers = Issuers(Tenant("acme", (replace(ACME, algorithms=("EdDSA",)),)))
    assert issuers.who(signer("EdDSA").token({"alg": "EdDSA"})).tenant == "acme"
    issuers = Issuers()
    issuers.know(ACME, "ES256")
    assert issuers.who(signer("ES256").token({"alg": "ES256"})).tenant == "acme"


def test_the_algorithm_is_the_keys_for_issuers_too() -> None:
    """Each algorithm with each other's key: the header never decides."""
    issuers = Issuers()
    for mine in ALGORITHMS:
        for other in ALGORITHMS:
            if mine != other:
                token = signer(mine).token({"alg": mine, "kid": signer(other).kid})
                assert "algorithm" in issuers.refused(token)
                token = signer(mine).token({"alg": other, "kid": signer(mine).kid})
                assert "algorithm" in issuers.refused(token)
                token = signer(mine).token({"alg": other, "kid": signer(other).kid})
                assert issuers.refused(token) == "bad signature"


def test_one_issuer_of_several_tenants() -> None:
    """The token says for which; each tenant's settings and keys hold for its own."""
    rival = replace(ACME, jwks_url="https://id.acme.example/rival", audience="rival")
    issuers = Issuers(Tenant("acme", (ACME,)), Tenant("rival", (rival,)))
    issuers.know(ACME, "EdDSA")
    issuers.know(rival, "ES256")
    assert "for which" in issuers.refused(signer("EdDSA").token())
    assert issuers.who(signer("EdDSA").token(tenant="acme")).tenant == "acme"
    assert issuers.who(signer("ES256").token(tenant="rival", aud="rival")).tenant == "rival"
    assert issuers.refused(signer("EdDSA").token(tenant="rival", aud="rival")) == "signed with an unknown key"
    assert issuers.refused(signer("EdDSA").token(tenant="third")) == "its issuer does not speak for this tenant"


def test_several_issuers_of_one_tenant() -> None:
    """Each by its name."""
    second = replace(ACME, issuer="https://second.example", jwks_url="https://second.example/keys")
    issuers = Issuers(Tenant("acme", (ACME, second)))
    issuers.know(ACME, "EdDSA")
    issuers.know(second, "ES256")
    assert issuers.who(signer("ES256").token(iss="https://second.example")).tenant == "acme"
    assert "unknown key" in issuers.refused(signer("ES256").token())


def our_token(**changed: Any) -> str:
    whole: dict[str, Any] = {"tenant": "demo", "principal": "device:truck-7", "roles": [], "now_s": NOW, "ttl_s": 60.0}
    return issue(own(), **{**whole, "token_id": "t-1", **changed})


def test_our_own_tokens() -> None:
    """Of any tenant; the key of another, another algorithm or a missing tenant is refused."""
    issuers = Issuers()
    assert issuers.who(our_token()) == Identity("demo", "device:truck-7", frozenset(), NOW + 90, NOW, "t-1")
    assert issuers.who(our_token(tenant="acme")).tenant == "acme"
    assert issuers.refused(our_token(audience="other")) == "not for this audience"
    body = {"iss": "readback", "sub": "user:amy", "tenant": "demo", "aud": "readback", "exp": NOW + 60}
    assert issuers.refused(compact({"alg": "EdDSA", "kid": "s1"}, body, own("s2").sign)) == "bad signature"
    assert "unknown key" in issuers.refused(compact({"alg": "EdDSA", "kid": "s2"}, body, own("s2").sign))
    assert "unknown key" in issuers.refused(compact({"alg": "HS256", "kid": "k1"}, body, hmac_with(SECRET)))
    assert "algorithm" in issuers.refused(compact({"alg": "HS256", "kid": "s1"}, body, hmac_with(own().public_bytes)))
    body["tenant"] = None  # type: ignore[assignment]
    assert "tenant" in issuers.refused(compact({"alg": "EdDSA", "kid": "s1"}, body, own().sign))


def test_without_shared_secrets() -> None:
    """Only issuers that are known get in; with nothing to verify with there is no verifier."""
    issuers = Issuers(secrets=False)
    issuers.who(our_token())
    issuers.who(signer("EdDSA").token())
    for token in (sign(CLAIMS), signer("EdDSA").token(iss="https://other.example"), sign(CLAIMS, {"alg": "none"})):
        assert issuers.refused(token) == "not from an issuer that is known here"
    for empty in ({"own": {}}, {"tenants": Tenants({"acme": Tenant("acme")})}):
        with pytest.raises(ValueError, match="needed"):
            TokenVerifier({}, **empty)
    TokenVerifier({}, own={"s1": own().public})
    TokenVerifier({}, tenants=Tenants({"acme": Tenant("acme", (ACME,))}))


def test_nobody_else_is_called_readback() -> None:
    """Not even by the tenants file."""
    with pytest.raises(ValueError, match="the gateway itself"):
        TokenVerifier({"k1": SECRET}, tenants=Tenants({"acme": Tenant("acme", (replace(ACME, issuer="readback"),))}))


def test_only_tenants_that_are_named() -> None:
    """Where that is asked for, whoever signed."""
    issuers = Issuers(only_named=True)
    assert issuers.refused(sign(CLAIMS)) == "this tenant is not served here"
    assert issuers.refused(our_token()) == "this tenant is not served here"
    assert issuers.who(sign({**CLAIMS, "tenant": "acme"})).tenant == "acme"
    assert issuers.who(our_token(tenant="acme")).tenant == "acme"
    assert issuers.who(signer("EdDSA").token()).tenant == "acme"


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_types_of_access_tokens(kind: str) -> None:
    """RFC 7519 and RFC 9068, in any case."""
    verifier = TokenVerifier({"k1": SECRET})
    assert isinstance(verifier.verify(sign(CLAIMS, {"alg": "HS256", "kid": "k1", "typ": kind}), NOW), Identity)


@pytest.mark.parametrize("kind", ["dpop+jwt", "logout+jwt", "", None, 7, ["JWT"], "JWT "])
def test_other_types_are_no_access_tokens(kind: object) -> None:
    """Whatever else was signed with the same key was signed for something else."""
    assert "typ" in reason(sign(CLAIMS, {"alg": "HS256", "kid": "k1", "typ": kind}))


def test_names_of_certificates_are_not_looked_at() -> None:
    """Microsoft's provider says ``x5t`` beside ``kid``; it is the kid that selects."""
    header = {"alg": "RS256", "typ": "JWT", "kid": "rs256", "x5t": "rs256", "x5t#S256": ["any"]}
    assert Issuers().who(signer("RS256").token(header)).principal == "user:amy"
    assert Issuers().refused(signer("RS256").token({**header, "kid": "other"})) == "signed with an unknown key"


def test_secrets_are_in_no_repr() -> None:
    """A verifier in a traceback says nothing."""
    verifier = TokenVerifier({"k1": SECRET})
    assert "ssss" not in repr(verifier) + repr(verifier._secrets)


# Resume tokens

RESUME = ResumeClaims("demo", "user:amy", "s-1", 7, frozenset({"admin", "auditor"}), NOW + 3600, NOW + 300)


def resume_reason(token: object, now_s: float = NOW, keys: ResumeKeys | None = None) -> str:
    result = (keys or ResumeKeys({"r1": SECRET})).verify(token, now_s)
    assert isinstance(result, TokenError), result
    return result.reason


def test_issue_and_verify() -> None:
    """What was issued comes back, every field of it."""
    keys = ResumeKeys({"r1": SECRET})
    assert keys.verify(keys.issue(RESUME), NOW) == RESUME


def test_a_resume_token_is_spelt_in_one_way() -> None:
    """``r1.<kid>.<claims>.<mac>`` in base64url without padding, whatever the length of the claims."""
    keys = ResumeKeys({"r1": SECRET})
    for length in range(1, 9):
        token = keys.issue(replace(RESUME, session="s" * length))
        version, kid, claims, mac = token.split(".")
        assert (version, kid, len(mac)) == ("r1", "r1", 43)
        assert set(claims + mac) <= set(string.ascii_letters + string.digits + "-_")
        signed = f"r1.r1.{claims}".encode()
        assert mac == b64(hmac.digest(SECRET, signed, sha256))


def test_a_resume_token_may_be_as_long_as_any() -> None:
    """8,192 bytes are looked at, one more is not."""
    keys = ResumeKeys({"r1": SECRET})
    lengths = {}
    for length in range(6_020, 6_060):
        token = keys.issue(replace(RESUME, session="s" * length))
        lengths[len(token)] = keys.verify(token, NOW)
    assert isinstance(lengths[TOKEN_BYTES_MAX], ResumeClaims)
    assert lengths[TOKEN_BYTES_MAX + 1] == TokenError("not a resume token")


def test_resume_tokens_end() -> None:
    """By their own time and by the end of the identity behind them, whichever is first; no leeway, as both are ours."""
    keys = ResumeKeys({"r1": SECRET})
    token = keys.issue(RESUME)
    assert resume_reason(token, NOW + 300, keys) == "expired"
    early = ResumeClaims("demo", "user:amy", "s-1", 7, frozenset(), NOW + 10, NOW + 300)
    assert resume_reason(keys.issue(early), NOW + 10, keys) == "expired"
    assert isinstance(keys.verify(keys.issue(early), NOW + 9.9), ResumeClaims)


def test_resume_rotation() -> None:
    """The first key signs; tokens of the older ones hold until their key is taken away."""
    old, both, new = ResumeKeys({"r1": SECRET}), ResumeKeys({"r2": OTHER, "r1": SECRET}), ResumeKeys({"r2": OTHER})
    token = old.issue(RESUME)
    assert both.verify(token, NOW) == RESUME
    assert new.verify(both.issue(RESUME), NOW) == RESUME
    assert resume_reason(token, NOW, new) == "signed with a key that is no longer known"


def test_resume_forgeries() -> None:
    """Another key, changed claims, a changed kid, a cut or spelt-otherwise MAC: none of them holds."""
    keys = ResumeKeys({"r1": SECRET, "r0": OTHER})
    token = keys.issue(RESUME)
    version, kid, claims, mac = token.split(".")
    changed = orjson.loads(urlsafe_b64decode(claims + "=="))
    changed[1] = "user:eve"
    eve = b64(orjson.dumps(changed))
    for forged in (
        ResumeKeys({"r1": OTHER}).issue(RESUME),
        f"{version}.{kid}.{eve}.{mac}",
        f"{version}.r0.{claims}.{mac}",
        f"{version}.{kid}.{claims}.{mac[:-1]}",
        f"{version}.{kid}.{claims}.{mac}=",
        f"{version}.{kid}.{claims}=.{mac}",
        f"{version}.{kid}.{claims}.",
    ):
        assert resume_reason(forged, NOW, keys) == "bad signature"
    for garbage in (f"r2.{kid}.{claims}.{mac}", f"{kid}.{claims}.{mac}", "", "r1", "....", "é" * 9, None, 7, [token]):
        assert resume_reason(garbage, NOW, keys) == "not a resume token"
    assert resume_reason(token + "x" * TOKEN_BYTES_MAX, NOW, keys) == "not a resume token"


@pytest.mark.parametrize("claims", [b"[]", b"{}", b"[1,2,3,4,5,6,7]", b'["a","b","c",1,[["x"]],1,1]', b"\xff", b"7"])
def test_resume_claims_of_another_version(claims: bytes) -> None:
    """Claims that our own key signed in another shape are refused, not half understood."""
    signed = b"r1.r1." + b64(claims).encode()
    token = (signed + b"." + b64(hmac.digest(SECRET, signed, sha256)).encode()).decode()
    assert resume_reason(token) == "a resume token of another version"


def test_the_two_kinds_are_not_exchangeable() -> None:
    """With one key for both, neither token passes for the other."""
    keys = ResumeKeys({"k1": SECRET})
    assert isinstance(TokenVerifier({"k1": SECRET}).verify(keys.issue(RESUME), NOW), TokenError)
    assert isinstance(keys.verify(sign(CLAIMS), NOW), TokenError)


@given(
    st.builds(
        ResumeClaims,
        st.just("demo"),
        st.just("user:amy"),
        st.text(string.ascii_letters + "-", min_size=1, max_size=36),
        st.integers(0, 2**53),
        st.frozensets(st.sampled_from(["admin", "service", "auditor"])),
        st.floats(NOW + 1, NOW + 1e6),
        st.floats(NOW + 1, NOW + 1e6),
    )
)
def test_any_resume_claims_come_back(claims: ResumeClaims) -> None:
    """Round trip for every value a session can have."""
    keys = ResumeKeys({"r1": SECRET})
    assert keys.verify(keys.issue(claims), NOW) == claims
