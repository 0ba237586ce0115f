"""Words that would like to be log lines: whatever an attacker may name, and wherever it is written, none of it gets there.

Every case says the same evil things in another place. The scene already looks for control characters in every record; here
the records are also written as the process writes them, and each line must be the start of a record or part of its
traceback. The last cases are about those who *are* quoted: servers, and exceptions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import orjson
import pytest
import trio

from core.frames import CLOSE, PING, masked_frame
from gateway.log_lines import BAR, LineFormatter
from store.embedded_redis import EmbeddedRedis
from tests.buses import RedisStage, module_redis, redis_server  # noqa: F401
from tests.faults.pieces import pieces_of_port
from tests.hostile.peer import MASK, Peer, request, text
from tests.hostile.scene import ROOM, Scene, scene, watched_log
from tests.hostile.test_http_port import KEY, http_scene, said, send
from tests.hostile.test_identities import HEAD, claims, signed
from tests.nodes import TestNode, memory_log, token, until

FORGED = "2026-01-01T00:00:00.000Z ERROR readback.node: forged-line"
EVILS = {
    "CR LF and a line": f"x\r\n{FORGED}",
    "escape codes": f"\x1b[2J\x1b]0;{FORGED}\x07\x9b31m",
    "NUL and other controls": f"a\0b\x08\x7f\x85{FORGED}",
    "format strings": f"%s%n%(levelname)s{{0.__class__}}${{jndi:x}}{FORGED}",
    "line separators and overrides": f"a\u2028{FORGED}\u2029\u202e\u2066",
}
KEY_TEXT = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [\w.-]+: ")


def written(records: list[logging.LogRecord]) -> list[str]:
    """The process's log, line by line, as a terminal or a reader of files would split it."""
    formatter = LineFormatter()
    return "\n".join(map(formatter.format, records)).splitlines()


def assert_unforged(records: list[logging.LogRecord]) -> list[str]:
    """Every line is a record's or a traceback's, and shows nothing but what can be seen."""
    lines = written(records)
    assert sum(not line.startswith(BAR) for line in lines) == len(records)
    for line in lines:
        assert line.startswith(BAR) or LINE.match(line), repr(line)
        assert line.isprintable(), repr(line)
    return lines


Place = Callable[[Scene, str], Awaitable[object]]


def in_request(make: Callable[[str], bytes]) -> Place:
    """Somewhere in the upgrade request: it is refused or accepted, and ends either way."""

    async def place(stage: Scene, evil: str) -> None:
        peer = await stage.connect()
        await peer.put(make(evil))
        await peer.stream.send_eof()
        await peer.ended()

    return place


def raw(evil: str) -> str:
    """As bytes of a head: what latin-1 has not is left out."""
    return evil.encode("latin-1", "ignore").decode("latin-1")


def in_field(name: str) -> Place:
    return in_request(lambda evil: request().replace(b"\r\n\r\n", f"\r\n{name}: {raw(evil)}\r\n\r\n".encode("latin-1")))


def in_message(make: Callable[[str], dict[str, object]], *, opened: bool = True) -> Place:
    """Somewhere in a message: it is answered."""

    async def place(stage: Scene, evil: str) -> None:
        peer = await (stage.welcomed() if opened else stage.upgraded())
        await peer.put(text({"id": 7, **make(evil)}) + text({"op": "ping", "id": 8}))
        await _answered(peer)

    return place


async def _answered(peer: Peer) -> None:
    await peer.until(lambda: any(m.get("id") == 8 or m["op"] == "bye" for m in peer.messages))


def in_token(header: Callable[[str], dict[str, object]], **of_claims: Callable[[str], object]) -> Place:
    """In a token with a good signature: an issuer that was talked into it."""

    def make(evil: str) -> dict[str, object]:
        changed = {name: value(evil) for name, value in of_claims.items()}
        return {"op": "hello", "token": signed({**HEAD, **header(evil)}, claims(**changed))}

    return in_message(make, opened=False)


def in_frame(make: Callable[[str], bytes]) -> Place:
    async def place(stage: Scene, evil: str) -> None:
        peer = await stage.welcomed()
        await peer.put(make(evil) + text({"op": "ping", "id": 8}))
        await peer.stream.send_eof()
        await peer.ended()

    return place


def nothing(evil: str) -> dict[str, object]:
    return {}


PLACES: dict[str, Place] = {
    "request line, raw": in_request(
        lambda evil: f"GET /v1/ws?{raw(evil)} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1")
    ),
    "request line, percent-encoded": in_request(lambda evil: request(f"GET /v1/{quote(evil)} HTTP/1.1")),
    "query, percent-encoded": in_request(lambda evil: request(f"GET /v1/ws?name={quote(evil)} HTTP/1.1")),
    "method": in_request(lambda evil: request(f"GET{raw(evil)} /v1/ws HTTP/1.1".encode("latin-1").decode("latin-1"))),
    "field name": in_request(lambda evil: request().replace(b"Host:", f"X{raw(evil)}: a\r\nHost:".encode("latin-1"))),
    "User-Agent": in_field("User-Agent"),
    "Origin": in_field("Origin"),
    "Cookie": in_field("Cookie"),
    "X-Forwarded-For": in_field("X-Forwarded-For"),
    "Authorization": in_field("Authorization: Bearer"),
    "a second Host": in_field("Host"),
    "instead of a request": in_request(lambda evil: raw(evil).encode("latin-1") + b"\r\n\r\n"),
    "instead of a frame": in_request(lambda evil: request() + evil.encode()),
    "op": in_message(lambda evil: {"op": evil}),
    "op before hello": in_message(lambda evil: {"op": evil}, opened=False),
    "stream of sub": in_message(lambda evil: {"op": "sub", "stream": f"chat:{evil}"}),
    "stream of send": in_message(lambda evil: {"op": "send", "stream": f"chat:{evil}", "key": evil, "body": evil}),
    "stream of history": in_message(lambda evil: {"op": "history", "stream": evil}),
    "key": in_message(lambda evil: {"op": "send", "stream": ROOM, "key": evil, "body": {}}),
    "type": in_message(lambda evil: {"op": "send", "stream": ROOM, "key": KEY_TEXT, "type": evil, "body": {}}),
    "body": in_message(lambda evil: {"op": "send", "stream": ROOM, "key": KEY_TEXT, "body": {evil: evil}}),
    "kind and value of a signal": in_message(
        lambda evil: {"op": "signal", "stream": ROOM, "kind": evil, "value": evil}
    ),
    "principals asked about": in_message(lambda evil: {"op": "presence", "stream": ROOM, "of": [f"user:{evil}"]}),
    "id": in_message(lambda evil: {"op": "ping", "id": evil}),
    "a field nobody knows": in_message(lambda evil: {"op": "ping", evil: evil}),
    "token": in_message(lambda evil: {"op": "hello", "token": evil}, opened=False),
    "resume token": in_message(lambda evil: {"op": "resume", "resume": evil, "log": evil}, opened=False),
    "streams of a hello": in_message(
        lambda evil: {"op": "hello", "token": token("user:mallory"), "log": evil, "streams": {evil: {evil: evil}}},
        opened=False,
    ),
    "kid of a token": in_token(lambda evil: {"kid": evil}),
    "header of a token": in_token(lambda evil: {evil: evil}),
    "principal of a token": in_token(nothing, sub=lambda evil: f"user:{evil}"),
    "tenant of a token": in_token(nothing, tenant=lambda evil: evil),
    "roles of a token": in_token(nothing, roles=lambda evil: [evil]),
    "audience of a token": in_token(nothing, aud=lambda evil: [evil]),
    "close reason": in_frame(lambda evil: masked_frame(CLOSE, b"\x0f\xa0" + evil.encode()[:120], MASK)),
    "close reason, not UTF-8": in_frame(lambda evil: masked_frame(CLOSE, b"\x0f\xa0\xff" + evil.encode()[:110], MASK)),
    "ping": in_frame(lambda evil: masked_frame(PING, evil.encode()[:125], MASK)),
    "instead of JSON": in_frame(lambda evil: text(evil)),
    "JSON with an end of its own": in_frame(lambda evil: text(b'{"op":"ping"}' + evil.encode())),
}


@pytest.mark.parametrize("name", PLACES)
async def test_nothing_an_attacker_names_reaches_the_log(name: str) -> None:
    """Neither as it is nor spelled out: five kinds of evil in that place, and not a word of them in any line."""
    async with scene(origins=frozenset(("https://app.example",)) if name == "Origin" else None) as stage:
        for evil in EVILS.values():
            await PLACES[name](stage, evil)
        lines = assert_unforged(stage.lines)
        assert not [line for line in lines if "forged-line" in line]


HTTP_PLACES: dict[str, Callable[[str], bytes]] = {
    "path, raw": lambda evil: f"GET /v1/{raw(evil)} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"),
    "path, percent-encoded": lambda evil: _get(f"/v1/{quote(evil)}"),
    "stream in the path": lambda evil: _get(f"/v1/streams/{quote('chat:' + evil, safe='')}/events"),
    "query": lambda evil: _get(f"/v1/streams/{ROOM}/events?after={quote(evil)}&{quote(evil)}=1"),
    "member in the path": lambda evil: _get(f"/v1/streams/{ROOM}/members/{quote('user:' + evil, safe='')}", "DELETE"),
    "Idempotency-Key": lambda evil: send(b'{"body":1}', extra=f"Idempotency-Key: {raw(evil)}\r\n".encode("latin-1")),
    "Authorization": lambda evil: (
        f"GET /v1/me/streams HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {raw(evil)}\r\n\r\n".encode("latin-1")
    ),
    "Host": lambda evil: f"GET /v1/me/streams HTTP/1.1\r\nHost: {raw(evil)}\r\n\r\n".encode("latin-1"),
    "body": lambda evil: send(orjson.dumps({"body": {evil: evil}, "type": evil}), extra=KEY),
    "no JSON": lambda evil: send(evil.encode(), extra=KEY),
    "after an upgrade": lambda evil: request("GET /v1/ws HTTP/1.1") + evil.encode(),
}


def _get(target: str, method: str = "GET") -> bytes:
    bearer = token("user:mallory", roles=("admin",))
    return (
        f"{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n\r\n".encode()
    )


@pytest.mark.parametrize("name", HTTP_PLACES)
async def test_nothing_said_to_the_http_port_reaches_the_log(name: str) -> None:
    """The same there, where other people's code reads the requests."""
    async with http_scene() as (stage, port):
        for evil in EVILS.values():
            await said(port, HTTP_PLACES[name](evil))
        stage.pardon_all("Error in ASGI Framework")
        lines = assert_unforged(stage.lines)
        assert not [line for line in lines if "forged-line" in line]


async def test_a_mistake_of_ours_met_by_evil_words_is_one_record() -> None:
    """An exception that quotes them, on a path that holds them: the record begins once, and the traceback stays behind
    its bar."""
    async with http_scene() as (stage, port):
        evil = "".join(EVILS.values())

        async def broken(*args: object, **kwargs: object) -> None:
            raise ValueError(evil)

        stage.node.node.log.my_streams = broken  # type: ignore[method-assign]
        answer = await said(port, _get(f"/v1/me/streams?x={quote(evil)}"))
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"forged" not in answer
        (record,) = [record for record in stage.lines if record.exc_info]
        lines = assert_unforged([record])
        assert [line for line in lines if line.startswith(BAR) and "forged-line" in line]
        stage.lines.remove(record)


async def test_a_redis_that_forges_lines_writes_none(redis_server: EmbeddedRedis) -> None:  # noqa: F811
    """Its errors are quoted for the operator. They went into the log as they came: hiredis lets no line feed through, and
    everything else that moves a cursor."""
    records: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    keeper = Keeper()
    logging.getLogger("readback").addHandler(keeper)
    try:
        port = redis_server.url.rpartition(":")[2].partition("/")[0]
        async with pieces_of_port(int(port)) as pieces, trio.open_nursery() as nursery:
            url = redis_server.url.replace(port, str(pieces.port))
            stage = RedisStage(redis_server)
            node = TestNode(memory_log(), None, nursery, name="a", make_bus=lambda id: stage.bus(id, url=url))
            await node.start()
            await until(lambda: node.hears)
            await pieces.slip_in(f"-ERR no\x1b[1E\u2028{FORGED}\r\n".encode())
            await until(lambda: [record for record in records if "forged-line" in record.getMessage()])
            nursery.cancel_scope.cancel()
    finally:
        logging.getLogger("readback").removeHandler(keeper)
    lines = assert_unforged(records)
    assert [line for line in lines if r"no\x1b[1E\u20282026-01-01" in line]


def test_a_forged_line_would_be_seen() -> None:
    """The judge of these cases knows one when it sees it."""
    with pytest.raises(AssertionError), watched_log():
        logging.getLogger("readback.node").warning("a stream called %s", EVILS["CR LF and a line"])
