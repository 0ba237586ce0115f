"""The opening handshake: one plain HTTP/1.1 upgrade passes, everything else is told what to change."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from core.handshake import (
    HEADERS_MAX,
    PATH,
    SUBPROTOCOL,
    Handshake,
    Refusal,
    Upgrade,
    proxy_wanted,
    tls_wanted,
    too_many,
    unavailable,
)

HEAD_MAX = 16_384
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

BASE = {
    "Host": "gateway.example:8400",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(
    line: str = f"GET {PATH} HTTP/1.1", changes: dict[str, str | None] | None = None, extra: Iterable[str] = ()
) -> bytes:
    """The least upgrade request, with headers changed, left out (``None``) or added as whole lines."""
    fields = {**BASE, **(changes or {})}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None), *extra, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def ask(data: bytes, **options: frozenset[str] | None) -> Upgrade | Refusal | None:
    return Handshake(HEAD_MAX, **options).feed(data)


def upgraded(data: bytes, **options: frozenset[str] | None) -> Upgrade:
    answer = ask(data, **options)
    assert isinstance(answer, Upgrade), answer
    return answer


def refused(data: bytes, **options: frozenset[str] | None) -> Refusal:
    answer = ask(data, **options)
    assert isinstance(answer, Refusal), answer
    head, _, body = answer.response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % answer.status)
    assert b"Content-Length: %d" % len(body) in head.split(b"\r\n")
    assert b"close" in head
    assert body.endswith(b"\n")
    return answer


# What passes.


def test_the_least_request_is_upgraded() -> None:
    """The RFC's own example key gives the RFC's own answer; nothing optional is invented."""
    answer = upgraded(request())
    assert answer.response == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
    )
    assert answer == Upgrade(PATH, "gateway.example:8400", None, None, (), None, KEY, None, answer.response, b"")


def test_bytes_after_the_head_are_handed_on() -> None:
    """A client that pipelines its first frames loses none of them."""
    assert upgraded(request() + b"\x81\x80abcd\r\n\r\n").rest == b"\x81\x80abcd\r\n\r\n"
    handshake = Handshake(HEAD_MAX)
    assert handshake.feed(request()[:-1]) is None
    answer = handshake.feed(b"\n\x81")
    assert isinstance(answer, Upgrade)
    assert answer.rest == b"\x81"


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "KEEP-ALIVE ,\tuPGRADE , "},
        {"Content-Length": "0"},
        {"X-Latin": "caf\xe9"},
        {"X-Empty": ""},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
    ],
)
def test_harmless_variations_pass(changes: dict[str, str | None]) -> None:
    """Case, lists, white space and headers we do not use change nothing; extensions are not accepted."""
    assert upgraded(request(changes=changes)).response == upgraded(request()).response


def test_header_names_are_read_in_any_case_and_without_space() -> None:
    """Names are case-insensitive, and the space after the colon is optional (RFC 9110 section 5)."""
    lines = [f"{name.lower()}:{value}\t " for name, value in BASE.items()]
    data = "\r\n".join([f"GET {PATH} HTTP/1.1", *lines, "", ""]).encode()
    assert upgraded(data).key == KEY


@pytest.mark.parametrize(
    "target", [f"{PATH}?", f"{PATH}?v=1&trace=2", f"http://gateway.example{PATH}", f"HTTPS://g{PATH}?v=1"]
)
def test_target_may_have_a_query_or_be_absolute(target: str) -> None:
    """A query without a token is let be, and absolute-form is accepted (RFC 9112 section 3.2.2)."""
    assert upgraded(request(f"GET {target} HTTP/1.1")).path == PATH


def test_headers_for_the_session_are_handed_on() -> None:
    """Authorization and Origin come out as they came in, without the white space around them."""
    answer = upgraded(request(changes={"Authorization": "  Bearer a.b.c ", "Origin": "https://App.example"}))
    assert answer.authorization == "Bearer a.b.c"
    assert answer.origin == "https://App.example"


def test_forwarded_is_handed_on() -> None:
    """As one list in the order of its lines (RFC 7239, section 4); who may be believed, the caller decides."""
    assert upgraded(request()).forwarded is None
    twice = request().replace(
        b"Upgrade: w", b"forwarded:  for=192.0.2.1\r\nFORWARDED: for=10.0.0.1;by=_x \r\nUpgrade: w"
    )
    assert upgraded(twice).forwarded == "for=192.0.2.1,for=10.0.0.1;by=_x"


@pytest.mark.parametrize(
    ("lines", "offered", "chosen"),
    [
        ([], (), None),
        ([SUBPROTOCOL], (SUBPROTOCOL,), SUBPROTOCOL),
        (["graphql-ws, readback.v1"], ("graphql-ws", SUBPROTOCOL), SUBPROTOCOL),
        (["graphql-ws", "readback.v1"], ("graphql-ws", SUBPROTOCOL), SUBPROTOCOL),
        (["graphql-ws"], ("graphql-ws",), None),
        (["READBACK.V1"], ("READBACK.V1",), None),
        (["readback.v2,,readback.v10"], ("readback.v2", "readback.v10"), None),
        ([""], (), None),
    ],
)
def test_subprotocol_is_chosen_if_offered(lines: list[str], offered: tuple[str, ...], chosen: str | None) -> None:
    """``readback.v1`` is answered where it was offered, in whichever line; otherwise none is (section 4.2.2)."""
    answer = upgraded(request(extra=[f"Sec-WebSocket-Protocol: {line}" for line in lines]))
    assert (answer.offered, answer.subprotocol) == (offered, chosen)
    assert (b"Sec-WebSocket-Protocol: readback.v1\r\n" in answer.response) is (chosen is not None)


def test_origin_is_held_to_the_list() -> None:
    """A browser's origin must be on the list where there is one; a client that sends none is no browser."""
    allowed = frozenset({"https://app.example"})
    assert upgraded(request(), allowed_origins=allowed).origin is None
    assert upgraded(request(changes={"Origin": "https://APP.example"}), allowed_origins=allowed)
    assert upgraded(request(changes={"Origin": "https://evil.example"})).origin == "https://evil.example"
    for origin in ("https://evil.example", "null", "https://app.example.evil.example", "http://app.example", ""):
        assert refused(request(changes={"Origin": origin}), allowed_origins=allowed).status == 403


def test_another_path_may_be_served() -> None:
    """The path is a parameter, for test endpoints."""
    assert isinstance(Handshake(HEAD_MAX, path="/echo").feed(request("GET /echo HTTP/1.1")), Upgrade)
    assert isinstance(Handshake(HEAD_MAX, path="/echo").feed(request()), Refusal)


@given(st.lists(st.integers(0, 400), max_size=6), st.binary(max_size=20))
@settings(deadline=None, max_examples=100)
def test_chunks_change_nothing(cuts: list[int], rest: bytes) -> None:
    """However the network cuts the request, the answer and the bytes after it are the same."""
    data = request(changes={"Authorization": "Bearer x", "Origin": "https://app.example"}) + rest
    head = len(data) - len(rest)
    edges = sorted({0, *(min(cut, head - 1) for cut in cuts), len(data)})
    handshake = Handshake(HEAD_MAX)
    answers = [handshake.feed(data[start:end]) for start, end in pairwise(edges)]
    assert answers[:-1] == [None] * (len(answers) - 1)
    assert answers[-1] == ask(data)


def test_every_byte_alone() -> None:
    """A request that dribbles in byte by byte is upgraded at its last byte."""
    data = request()
    handshake = Handshake(HEAD_MAX)
    assert [handshake.feed(data[at : at + 1]) for at in range(len(data) - 1)] == [None] * (len(data) - 1)
    assert isinstance(handshake.feed(data[-1:]), Upgrade)


def test_an_independent_client_accepts_the_answer() -> None:
    """The websockets library's client opens on our response, with the subprotocol."""
    client = ClientProtocol(parse_uri(f"ws://gateway.example{PATH}"), subprotocols=["readback.v1"])
    client.send_request(client.connect())
    answer = upgraded(b"".join(client.data_to_send()))
    client.receive_data(answer.response)
    assert client.state is OPEN
    assert client.subprotocol == SUBPROTOCOL


# What is refused, and with which words.


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (request("GET / HTTP/1.1"), 404, "HTTP API"),
        (request("GET /v1/ws/ HTTP/1.1"), 404, PATH),
        (request("GET /v1/WS HTTP/1.1"), 404, PATH),
        (request("GET /v1/streams HTTP/1.1"), 404, "8401"),
        (request("GET /v1/%77s HTTP/1.1"), 404, PATH),
        (request("GET http://host HTTP/1.1"), 404, PATH),
        (request("OPTIONS * HTTP/1.1"), 404, PATH),
        (request(f"POST {PATH} HTTP/1.1"), 405, "GET"),
        (request(f"get {PATH} HTTP/1.1"), 400, "HTTP/1.1"),
        (request(f"GET {PATH} HTTP/1.0"), 505, "HTTP/1.1"),
        (request(f"GET {PATH} HTTP/2.0"), 505, "HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
        (request(f"GET {PATH}"), 400, "request line"),
        (request(f"GET  {PATH} HTTP/1.1"), 400, "request line"),
        (request(f"GET {PATH} HTTP/1.1 "), 400, "request line"),
        (request(f"GET {PATH} HTTP/11"), 400, "request line"),
        (request(f"GET {PATH}\xe9 HTTP/1.1"), 400, "request line"),
        (request(f"GET {PATH}?token=eyJ HTTP/1.1"), 400, "Authorization"),
        (request(f"GET {PATH}?v=1&Access_Token=eyJ HTTP/1.1"), 400, "hello"),
        (request(f"GET {PATH}?%74oken=eyJ HTTP/1.1"), 400, "hello"),
        (request(f"GET {PATH}?token HTTP/1.1"), 400, "hello"),
        (request(f"GET http://g{PATH}?token=x HTTP/1.1"), 400, "hello"),
        (request(changes={"Host": None}), 400, "Host is missing"),
        (request(changes={"Host": ""}), 400, "Host is missing"),
        (request(changes={"Upgrade": None}), 426, "Upgrade: websocket"),
        (request(changes={"Upgrade": "websocket2"}), 426, "Upgrade: websocket"),
        (request(changes={"Connection": None}), 400, "proxy"),
        (request(changes={"Connection": "keep-alive"}), 400, "proxy"),
        (request(changes={"Sec-WebSocket-Version": None}), 426, "13"),
        (request(changes={"Sec-WebSocket-Version": "8"}), 426, "13"),
        (request(changes={"Sec-WebSocket-Version": "13, 8"}), 426, "13"),
        (request(changes={"Sec-WebSocket-Key": None}), 400, "16 bytes"),
        (request(changes={"Sec-WebSocket-Key": ""}), 400, "16 bytes"),
        (request(changes={"Sec-WebSocket-Key": KEY[:-1]}), 400, "16 bytes"),
        (request(changes={"Sec-WebSocket-Key": base64.b64encode(bytes(15)).decode()}), 400, "16 bytes"),
        (request(changes={"Sec-WebSocket-Key": base64.b64encode(bytes(17)).decode()}), 400, "16 bytes"),
        (request(changes={"Sec-WebSocket-Key": "!" * 22 + "=="}), 400, "16 bytes"),
        (request(changes={"Transfer-Encoding": "chunked"}), 400, "no body"),
        (request(changes={"Content-Length": "5"}) + b"hello", 400, "no body"),
        (request(changes={"Content-Length": "-0"}), 400, "no body"),
        (request(changes={"Content-Length": ""}), 400, "no body"),
        (request(changes={"Sec-WebSocket-Protocol": "read back"}), 400, "tokens"),
        (request(extra=["Host: other"]), 400, "Host may be given once"),
        (request(extra=["HOST: other"]), 400, "Host may be given once"),
        (request(extra=[f"Sec-WebSocket-Key: {KEY}"]), 400, "Sec-WebSocket-Key may be given once"),
        (request(extra=["Sec-WebSocket-Version: 13"]), 400, "Sec-WebSocket-Version may be given once"),
        (request(extra=["Origin: a", "Origin: b"]), 400, "Origin may be given once"),
        (request(extra=["Authorization: a", "Authorization: b"]), 400, "Authorization may be given once"),
        (request(extra=["Content-Length: 0", "Content-Length: 0"]), 400, "Content-Length may be given once"),
        (request(extra=["X-A: b", " folded"]), 400, "obs-fold"),
        (request(extra=["X-A: b", "\tfolded"]), 400, "obs-fold"),
        (b"GET " + PATH.encode() + b" HTTP/1.1\r\n Host: x\r\n\r\n", 400, "obs-fold"),
        (request(extra=["X-A : b"]), 400, "white space"),
        (request(extra=["no colon"]), 400, "Name: value"),
        (request(extra=[": b"]), 400, "Name: value"),
        (request(extra=["X-\xe9: b"]), 400, "Name: value"),
        (request(extra=["X-A: b\x00c"]), 400, "control character"),
        (request(extra=["X-A: b\x7fc"]), 400, "control character"),
        (request(extra=["X-A: b\nX-B: c"]), 400, "CR LF"),
        (request(extra=["X-A: b\rX-B: c"]), 400, "CR LF"),
        (request(f"GET {PATH} HTTP/1.1\nX: y"), 400, "CR LF"),
        (request().replace(b"\r\n", b"\n"), 400, "CR LF"),
        (b"\r\n" + request(), 400, "HTTP/1.1"),
        (request(extra=[f"X-{n}: y" for n in range(HEADERS_MAX - len(BASE) + 1)]), 431, str(HEADERS_MAX)),
        (request(extra=["X-Big: " + "x" * HEAD_MAX]), 431, str(HEAD_MAX)),
    ],
)
def test_refusal_says_what_to_change(data: bytes, status: int, says: str) -> None:
    """Each way of not being an upgrade has its status and a sentence that helps."""
    answer = refused(data)
    assert answer.status == status
    assert says in answer.response.partition(b"\r\n\r\n")[2].decode()


def test_headers_up_to_their_number_pass() -> None:
    """Exactly the largest number of header fields is accepted."""
    assert upgraded(request(extra=[f"X-{n}: y" for n in range(HEADERS_MAX - len(BASE))]))


def test_head_up_to_its_size_passes() -> None:
    """Exactly the largest head is accepted, whole or in pieces; one byte more is refused without waiting for its end."""
    room = HEAD_MAX - len(request(extra=["X-Big: "]))
    data = request(extra=["X-Big: " + "x" * room])
    assert len(data) == HEAD_MAX
    assert upgraded(data + b"rest").rest == b"rest"
    handshake = Handshake(HEAD_MAX)
    assert handshake.feed(data[:-1]) is None
    assert isinstance(handshake.feed(data[-1:]), Upgrade)
    over = Handshake(HEAD_MAX)
    assert over.feed(b"GET /" + b"x" * (HEAD_MAX - 6)) is None
    answer = over.feed(b"x")
    assert isinstance(answer, Refusal)
    assert answer.status == 431


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS ClientHello
        b"\x81\x85abcd",  # a frame before the handshake
        b"\x00",
        b"\n",
        b" GET",
        b"SSH-2.0-OpenSSH_9.6\r\n",  # waits for our banner, so it would wait until the time-out
        b"GET /v1/ws HTTP/1.1\nHost",
        b"GET /v1/ws HTTP/1.1\r\nHost: x\x00",
        b"GET /v1/ws HTTP/1.1\r\nHost: x\rY",
    ],
)
def test_what_cannot_become_a_request_is_refused_at_once(data: bytes) -> None:
    """Noise is answered with a plain 400 that closes, not kept until a time-out; byte by byte too."""
    assert refused(data).status == 400
    handshake = Handshake(HEAD_MAX)
    answers = [handshake.feed(data[at : at + 1]) for at in range(len(data))]
    first = next(at for at, answer in enumerate(answers) if answer is not None)
    assert isinstance(answers[first], Refusal)


def test_tls_is_told_apart() -> None:
    """Who speaks TLS to the plain port reads so, if anything."""
    assert b"TLS" in refused(b"\x16\x03\x01").response


def test_half_a_request_waits_within_its_bound() -> None:
    """A head that never ends is kept in its own bytes only: nothing grows with the number of pieces."""
    handshake = Handshake(HEAD_MAX)
    handshake.feed(b"GET /v1/ws HTTP/1.1\r\nX: ")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            assert handshake.feed(b"x") is None
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 2 * 10_000


@given(st.binary(max_size=400), st.integers(0, 200))
@settings(deadline=None, max_examples=300)
def test_damage_never_raises(noise: bytes, at: int) -> None:
    """Any bytes anywhere are answered or waited for; an upgrade is answered only with a whole answer."""
    data = request()
    answer = ask(data[:at] + noise + data[at:])
    if isinstance(answer, Upgrade):
        assert answer.response.endswith(ACCEPT + b"\r\n\r\n") or answer.subprotocol == SUBPROTOCOL
    else:
        assert answer is None or answer.status >= 400


def test_nothing_of_the_request_is_in_a_refusal() -> None:
    """A refusal repeats none of the peer's bytes: nothing to inject, nothing to leak."""
    secret = "s3cr3t-marker"
    for data in (
        request(f"GET /{secret} HTTP/1.1"),
        request(f"GET {PATH}?token={secret} HTTP/1.1"),
        request(extra=[f"{secret} : x"]),
        request(changes={"Sec-WebSocket-Key": secret}),
        request(changes={"Upgrade": secret}),
    ):
        assert secret.encode() not in refused(data).response


def test_version_refusal_names_the_version() -> None:
    """426 carries Sec-WebSocket-Version and Upgrade (RFC 6455 section 4.4, RFC 9110 section 15.5.22)."""
    head = refused(request(changes={"Sec-WebSocket-Version": "8"})).response.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert b"Sec-WebSocket-Version: 13" in head
    assert b"Upgrade: websocket" in head
    assert b"Connection: upgrade, close" in head


def test_method_refusal_names_the_method() -> None:
    """405 carries Allow (RFC 9110 section 15.5.6)."""
    assert b"\r\nAllow: GET\r\n" in refused(request(f"POST {PATH} HTTP/1.1")).response


@pytest.mark.parametrize(
    ("retry_after_s", "value"),
    [(0.0, 1), (0.2, 1), (1.0, 1), (1.5, 2), (30, 30), (-4, 1), (float("inf"), 1), (float("nan"), 1)],
)
def test_unavailable_says_when_to_come_back(retry_after_s: float, value: int) -> None:
    """503 carries Retry-After in whole seconds, rounded up, at least one."""
    response = unavailable(retry_after_s)
    assert response.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: %d\r\n" % value in response
    assert b"\r\nConnection: close\r\n" in response


def test_too_many_says_when_to_come_back() -> None:
    """429 with Retry-After, for an address that comes too often."""
    response = too_many(2.5)
    assert response.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 3\r\n" in response


def test_tls_wanted_says_so() -> None:
    """In plain text, to one who speaks that."""
    response = tls_wanted()
    assert response.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"wss://" in response


def test_proxy_wanted_says_so() -> None:
    """To a trusted proxy that forgets for whom it speaks, or to its health check."""
    assert b"PROXY protocol v2" in proxy_wanted()
