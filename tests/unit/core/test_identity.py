"""core.identity: verified claims become an identity or a reason, each claim checked by itself; ours are well made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.identity import (
    OWN_ISSUER,
    ROLES_MAX,
    TOKEN_ID_CHARS_MAX,
    Identity,
    Rules,
    check_bearer,
    identity_of,
    issue,
)
from core.jws import Jws, TokenError, read
from core.model import AUDITOR
from tests.issuers import NOW, own

RULES = Rules("readback", 30.0)
JKT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
CLAIMS: dict[str, Any] = {"sub": "user:amy", "tenant": "demo", "aud": "readback", "exp": NOW + 60}


def who(rules: Rules = RULES, now_s: float = NOW, /, **changed: object) -> Identity:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not ...}
    result = identity_of(claims, rules, now_s)
    assert isinstance(result, Identity), result
    return result


def refused(rules: Rules = RULES, now_s: float = NOW, /, **changed: object) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not ...}
    result = identity_of(claims, rules, now_s)
    assert isinstance(result, TokenError), result
    return result.reason


def test_all_that_a_token_may_say() -> None:
    """Each claim has its place; the leeway is in the end."""
    whole = who(roles=["admin"], iat=NOW - 5, nbf=NOW, jti="t-1", cnf={"jkt": JKT}, scope="x")
    assert whole == Identity("demo", "user:amy", frozenset({"admin"}), NOW + 90, NOW - 5, "t-1", JKT)
    assert whole.privileged
    assert who() == Identity("demo", "user:amy", frozenset(), NOW + 90)
    assert not who(roles=["auditor"]).privileged


def test_times_and_their_leeway() -> None:
    """exp, nbf and iat hold by the time handed in, forgiving the leeway and no more."""
    assert refused(RULES, NOW + 90) == "expired"
    who(RULES, NOW + 89.9, nbf=NOW, iat=NOW)
    who(RULES, NOW - 30, nbf=NOW, iat=NOW)
    assert refused(RULES, NOW - 31, nbf=NOW) == "not valid yet"
    assert refused(RULES, NOW - 31, iat=NOW) == "issued in the future"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exp": ...}, "exp is missing"),
        ({"exp": "tomorrow"}, "exp is missing"),
        ({"exp": float("inf")}, "exp is missing"),
        ({"exp": True}, "exp is missing"),
        ({"nbf": None}, "nbf is not a number"),
        ({"iat": None}, "iat is not a number"),
        ({"iat": "0"}, "iat is not a number"),
        ({"iat": NOW + 31}, "future"),
        ({"aud": ...}, "audience"),
        ({"aud": "Readback"}, "audience"),
        ({"aud": [["readback"]]}, "audience"),
        ({"aud": {"readback": 1}}, "audience"),
        ({"sub": ...}, "sub is not"),
        ({"sub": "amy"}, "sub is not"),
        ({"sub": 7}, "sub is not"),
        ({"sub": AUDITOR}, "the gateway itself"),
        ({"tenant": ...}, "tenant"),
        ({"tenant": "Demo"}, "tenant"),
        ({"tenant": ["demo"]}, "tenant"),
        ({"roles": None}, "roles is not a list"),
        ({"roles": {"admin": 1}}, "roles is not a list"),
        ({"roles": ["a"] * (ROLES_MAX + 1)}, "roles is not a list"),
        ({"roles": ["Admin"]}, "role's name"),
        ({"roles": [["admin"]]}, "role's name"),
        ({"jti": ""}, "jti"),
        ({"jti": None}, "jti"),
        ({"jti": 7}, "jti"),
        ({"jti": "a\0"}, "jti"),
        ({"jti": "j" * (TOKEN_ID_CHARS_MAX + 1)}, "jti"),
        ({"cnf": None}, "cnf"),
        ({"cnf": {}}, "cnf"),
        ({"cnf": JKT}, "cnf"),
        ({"cnf": {"jkt": JKT[:-1]}}, "cnf"),
        ({"cnf": {"jkt": JKT + "A"}}, "cnf"),
        ({"cnf": {"jkt": [JKT]}}, "cnf"),
        ({"cnf": {"x5t#S256": JKT}}, "cnf"),
        ({"cnf": {"jkt": JKT, "x5t#S256": JKT}}, "cnf"),
    ],
)
def test_claims_are_checked(change: dict[str, Any], said: str) -> None:
    """Of the wrong type or shape: refused by name."""
    assert said in refused(**change)


def test_the_bounds_themselves() -> None:
    """The most that is taken."""
    assert who(jti="j" * TOKEN_ID_CHARS_MAX).token_id == "j" * TOKEN_ID_CHARS_MAX
    assert len(who(roles=[f"r{n}" for n in range(ROLES_MAX)]).roles) == ROLES_MAX
    assert who(aud=["billing", "readback"]).tenant == "demo"


def test_an_issuer_speaks_for_its_tenant() -> None:
    """With or without the claim, and for no other."""
    rules = replace(RULES, tenant="acme")
    assert who(rules, tenant=...).tenant == "acme"
    assert who(rules, tenant="acme").tenant == "acme"
    assert refused(rules, tenant="demo") == "its issuer does not speak for this tenant"
    assert "tenant" in refused(rules, tenant=None)


def test_a_prefix_makes_principals_of_names() -> None:
    """Only of what is none by itself; what is none with it either is refused, and so is the gateway's own."""
    rules = replace(RULES, subject_prefix="user:")
    assert who(rules, sub="amy").principal == "user:amy"
    assert who(rules, sub="service:ops").principal == "service:ops"
    assert who(rules, sub="amy@acme.example").principal == "user:amy@acme.example"
    assert "sub is not" in refused(rules, sub="auth0|amy")
    assert "sub is not" in refused(rules, sub=["amy"])
    assert "itself" in refused(replace(RULES, subject_prefix="service:read"), sub="back")


def test_where_the_roles_are() -> None:
    """A claim of that name first, then a path; nothing there is no roles, something else there is refused."""
    deep = {"realm_access": {"roles": ["admin"]}}
    rules = replace(RULES, roles_claim="realm_access.roles")
    assert who(rules, **deep).roles == {"admin"}
    assert who(rules, **deep, **{"realm_access.roles": []}).roles == frozenset()
    assert who(rules, roles=["admin"]).roles == frozenset()
    assert who(rules, realm_access={}).roles == frozenset()
    assert "where it should be" in refused(rules, realm_access=["roles"])
    assert "list" in refused(rules, realm_access={"roles": "admin"})
    assert who(replace(RULES, roles_claim="https://acme.example/roles"), **{"https://acme.example/roles": ["x"]}).roles


@given(
    st.sampled_from([*CLAIMS, "iat", "nbf", "jti", "cnf", "roles"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=10,
    ),
)
def test_any_claims_are_answered(name: str, value: object) -> None:
    """Whatever stands in a claim's place."""
    assert isinstance(identity_of({**CLAIMS, name: value}, RULES, NOW), Identity | TokenError)


# Tokens of our own


def ours(**changed: Any) -> str:
    whole: dict[str, Any] = {
        "tenant": "demo",
        "principal": "device:truck-7",
        "roles": ["b", "a"],
        "now_s": NOW + 0.0129,
        "ttl_s": 60.0,
        "token_id": "t-1",
    }
    return issue(own(), **{**whole, **changed})


def test_what_is_issued() -> None:
    """Everything that is checked is in it, to the millisecond; who reads it finds the bearer."""
    jws = read(ours(bound_to=JKT, extra={"family": "f-1"}))
    assert isinstance(jws, Jws)
    assert jws.header == {"alg": "EdDSA", "typ": "at+jwt", "kid": "s1"}
    assert jws.claims == {
        "iss": OWN_ISSUER,
        "sub": "device:truck-7",
        "tenant": "demo",
        "roles": ["a", "b"],
        "aud": "readback",
        "iat": NOW + 0.012,
        "nbf": NOW + 0.012,
        "exp": NOW + 60.012,
        "jti": "t-1",
        "cnf": {"jkt": JKT},
        "family": "f-1",
    }
    assert own().public.verify(jws.signed, jws.signature)
    identity = identity_of(jws.claims, replace(RULES, leeway_s=0.0), NOW + 0.0129)
    assert identity == Identity("demo", "device:truck-7", frozenset("ab"), NOW + 60.012, NOW + 0.012, "t-1", JKT)
    plain = read(ours(audience="other"))
    assert isinstance(plain, Jws)
    assert (plain.claims["aud"], "cnf" in plain.claims) == ("other", False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tenant": "Demo"}, "tenant"),
        ({"principal": "truck-7"}, "principal"),
        ({"principal": AUDITOR}, "the gateway itself"),
        ({"roles": ["Admin"]}, "role"),
        ({"roles": [f"r{n}" for n in range(ROLES_MAX + 1)]}, "at most"),
        ({"token_id": ""}, "token id"),
        ({"token_id": "a\n"}, "token id"),
        ({"bound_to": "short"}, "bound to"),
        ({"extra": {"sub": "user:eve"}}, "further claims"),
        ({"extra": {"cnf": {"jkt": JKT}}}, "further claims"),
    ],
)
def test_what_is_not_issued(change: dict[str, Any], said: str) -> None:
    """A token that would never be taken, or that says of itself what it is not."""
    with pytest.raises(ValueError, match=said):
        ours(**change)


def test_who_may_be_in_a_token() -> None:
    """The same for tokens of all kinds."""
    check_bearer("demo", "user:amy", ["admin"] * ROLES_MAX)
