"""core.jws: what is read has one spelling and one meaning, and nothing that is not read so raises."""

from __future__ import annotations

import string

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.jws import TOKEN_BYTES_MAX, Jws, TokenError, b64url, number, read, unb64url, write


def parts(header: bytes = b'{"alg":"x"}', claims: bytes = b'{"sub":"y"}', signature: bytes = b"z") -> str:
    return ".".join(map(b64url, (header, claims, signature)))


def reason(token: object) -> str:
    result = read(token)
    assert isinstance(result, TokenError), result
    return result.reason


def test_what_was_written_is_read() -> None:
    """Header, claims, signature, and exactly the bytes that were signed."""
    given_to_sign: list[bytes] = []
    token = write({"alg": "x"}, {"sub": "y"}, lambda data: given_to_sign.append(data) or b"sig")  # type: ignore[func-returns-value]
    assert read(token) == Jws({"alg": "x"}, {"sub": "y"}, given_to_sign[0], b"sig")


@pytest.mark.parametrize("token", [None, 1, True, [], {}, b"a.b.c"])
def test_other_types(token: object) -> None:
    """Only strings are looked at."""
    assert reason(token) == "a token is a string"


def test_the_longest() -> None:
    """8,192 bytes are read, one more is not looked at."""
    room = TOKEN_BYTES_MAX - len(parts()) - 1
    for length in range(room * 3 // 4 - 8, room * 3 // 4 + 8):
        token = parts(signature=b"z" * length)
        assert isinstance(read(token), Jws) == (len(token) <= TOKEN_BYTES_MAX)
    assert reason("a" * 1_000_000) == "the token is too long"


@pytest.mark.parametrize(
    "token",
    [
        *(
            "",
            ".",
            "..",
            "a.b",
            "AA.AA.AA.AA",
            "AA..AA",
            ".AA.AA",
            "AA.AA.",
            "AA.AA.AA\n",
            " AA.AA.AA",
            "AA.AA.é",
            "AA=.AA.AA",
        ),
        *("A.AA.AA", "AB.AA.AA", "AA.A.AA", "AA.AB.AA", "AA.AA.A", "AA.AA.AB", "AA.AA.AAB"),
    ],
)
def test_what_is_no_three_parts_of_canonical_base64url(token: str) -> None:
    """Too few or many, empty ones, padding, white space, a length that no bytes have, bits that mean nothing."""
    assert reason(token) == "not a JWT"


@pytest.mark.parametrize(
    "data",
    [b"[]", b"null", b'"x"', b"{", b"\xff\xfe", b'{"a":NaN}', b'{"a":"\\ud800"}', b"[" * 2_000, b"\xef\xbb\xbf{}"],
)
def test_parts_that_are_no_object(data: bytes) -> None:
    """Whatever is not a JSON object in strict JSON."""
    assert reason(parts(data)) == "the token's header is not understood"
    assert reason(parts(claims=data)) == "the token's claims are not understood"


def test_names_that_stand_twice() -> None:
    """At any depth: of two values readers take different ones."""
    assert "twice" in reason(parts(b'{"alg":"x","alg":"none"}'))
    assert "twice" in reason(parts(claims=b'{"sub":"x","cnf":{"jkt":1,"jkt":2}}'))
    assert "twice" in reason(parts(claims=b'{"sub":"x","\\u0073ub":"y"}'))
    assert isinstance(read(parts(claims=b'{"a":{"x":1},"b":[{"x":1},{"x":2}]}')), Jws)


def test_claims_as_deep_as_can_be() -> None:
    """Nesting is answered, however deep: taken or not understood, never an error of ours."""
    for depth in (10, 500, 990, 1_020, 1_030, 3_000):
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        assert isinstance(read(parts(claims=nested)), Jws | TokenError)


@given(st.binary(max_size=60))
def test_base64url_comes_back(data: bytes) -> None:
    """Any bytes, in letters that need no quoting anywhere."""
    text = b64url(data)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")
    assert unb64url(text) == data


@given(st.text(max_size=20))
def test_base64url_has_one_spelling(text: str) -> None:
    """What is taken is what would be written."""
    data = unb64url(text)
    assert data is None or b64url(data) == text


@given(st.text(max_size=200) | st.text("ab.e-_", max_size=60))
def test_any_text_is_answered(text: str) -> None:
    """No string raises."""
    assert isinstance(read(text), Jws | TokenError)


def test_numbers() -> None:
    """JSON's numbers, and not its true."""
    assert [number(value) for value in orjson.loads(b'[1,1.5,true,"1",null,[1]]')] == [1, 1.5, None, None, None, None]
