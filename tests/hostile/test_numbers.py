"""Numbers where numbers belong: too large, too small, not whole, not numbers. Every field that takes one, every kind of wrong
one, and the largest right one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.hostile.peer import Frame, text
from tests.hostile.scene import ROOM, scene
from tests.hostile.test_http_port import http_scene, said
from tests.nodes import token

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
MAX = 2**53 - 1

FIELDS: dict[str, tuple[Callable[[Any], Frame], str]] = {
    "after": (lambda n: {"op": "sub", "stream": ROOM, "after": n}, "after, last: "),
    "last": (lambda n: {"op": "sub", "stream": ROOM, "last": n}, "after, last: "),
    "before": (lambda n: {"op": "history", "stream": ROOM, "before": n}, "before: "),
    "limit": (lambda n: {"op": "history", "stream": ROOM, "limit": n}, "limit: "),
    "expect": (lambda n: {"op": "send", "stream": ROOM, "key": KEY, "body": {}, "expect": n}, "expect: "),
    "delivered": (lambda n: {"op": "mark", "stream": ROOM, "delivered": n}, "delivered, read: "),
    "read": (lambda n: {"op": "mark", "stream": ROOM, "read": n}, "delivered, read: "),
    "ref": (lambda n: {"op": "send", "stream": ROOM, "key": KEY, "type": "delete", "body": {"ref": n}}, "body.ref: "),
}
WRONG: dict[str, bytes] = {
    "2^53": b"9007199254740992",
    "2^63 - 1": b"9223372036854775807",
    "2^63": b"9223372036854775808",
    "2^64 - 1": b"18446744073709551615",
    "2^64": b"18446744073709551616",
    "10^300": b"1" + b"0" * 300,
    "-1": b"-1",
    "-2^63": b"-9223372036854775808",
    "1.5": b"1.5",
    "1.0": b"1.0",
    "1e3": b"1e3",
    "1e18": b"1e18",
    "-0.0": b"-0.0",
    "5e-324": b"5e-324",
    "true": b"true",
    "text": b'"1"',
    "a list": b"[1]",
    "an object": b'{"$gt":0}',
}


def spelled(frame: Frame, number: bytes) -> bytes:
    """The frame as JSON, with exactly these digits in the place of its mark."""
    return orjson.dumps(frame).replace(b'"NUMBER"', number)


@pytest.mark.parametrize("field", FIELDS)
async def test_a_number_that_is_wrong_is_named(field: str) -> None:
    """Eighteen wrong numbers a field, each answered with the field's name, and nothing comes of any of them."""
    make, words = FIELDS[field]
    async with scene() as stage:
        peer = await stage.welcomed()
        for id, (name, digits) in enumerate(WRONG.items(), 1):
            await peer.put(text(spelled({"id": id, **make("NUMBER")}, digits)))
            answer = await peer.next(id=id)
            assert (answer["op"], answer["code"]) == ("error", "bad_request"), (name, answer)
            assert answer["message"].startswith(words), (name, answer)
        await stage.still_serves(peer)
        assert (await peer.ask("sub", stream=ROOM))["head"] == 0


NO_JSON: dict[str, bytes] = {
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "10,000 digits": b"7" * 10_000,
    "a fraction of 10,000 digits and an exponent beyond": b"0." + b"0" * 10_000 + b"1e99999",
    "01": b"01",
    "+1": b"+1",
    ".5": b".5",
    "5.": b"5.",
    "1e": b"1e",
    "--1": b"--1",
    "0x10": b"0x10",
    "1_000": b"1_000",
    "Arabic digits": "\u0661".encode(),
    "fullwidth digits": "\uff11".encode(),
}


@pytest.mark.parametrize("name", NO_JSON)
async def test_what_is_no_number_of_json_is_no_message(name: str) -> None:
    """In whatever field it stands: ``bad_frame``, once for each field, and the digits are not repeated."""
    digits = NO_JSON[name]
    async with scene() as stage:
        for n, (make, _) in enumerate(itertools.islice(FIELDS.values(), 3)):
            peer = await stage.welcomed(f"user:mallory-{n}")
            await peer.put(text(spelled({"id": 1, **make("NUMBER")}, digits)))
            code, bye = await peer.bye()
            assert (code, bye["code"]) == (4500, "bad_frame")
            assert bye["reason"].startswith("malformed JSON: ")
            assert digits[:20] not in bye["reason"].encode() or len(digits) < 5


CURSORS = [2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63), 1.0, 1e18, True, "0", [0]]


@pytest.mark.parametrize("cursor", CURSORS, ids=str)
async def test_a_cursor_that_is_no_seq_is_refused_alone(cursor: Any) -> None:
    """In a hello, both ways of saying it, and in a resume: the stream is answered bad_request, the rest opens."""
    async with scene() as stage:
        for how in ("after", "last"):
            peer = await stage.upgraded()
            wanted: dict[str, Any] = {ROOM: {how: cursor}, "chat:bystanders": {"last": 0}}
            answer = await peer.ask("hello", token=token("user:mallory"), streams=wanted)
            assert answer["op"] == "welcome"
            assert answer["streams"][ROOM] == {"error": "bad_request"}
            assert "head" in answer["streams"]["chat:bystanders"]
        peer = await stage.upgraded()
        back = await peer.ask("resume", resume=answer["resume"], log=answer["log"], streams={ROOM: cursor})
        assert back["resumed"] is True
        assert back["streams"][ROOM] == {"error": "bad_request"}


@pytest.mark.parametrize("field", FIELDS)
async def test_the_largest_right_number_is_taken(field: str) -> None:
    """2^53 - 1, which every reader of JSON holds, means what it says: past the head, before everything, an event that is not
    there; a limit has a bound of its own."""
    make, _ = FIELDS[field]
    async with scene() as stage:
        peer = await stage.welcomed()
        answer = await peer.ask(**make(MAX))
        if field in ("expect", "ref", "limit"):
            assert answer["code"] == {"expect": "conflict", "ref": "not_found", "limit": "bad_request"}[field]
        else:
            assert answer["op"] == "ok"
        if field == "after":
            assert (answer["after"], (await peer.next("reset", stream=ROOM))["reason"]) == (0, "ahead")
        if field in ("delivered", "read"):
            assert answer[field] == 0  # nobody has read what is not there
        await stage.still_serves(peer)


@pytest.mark.parametrize("id", [MAX, -MAX, 0])
async def test_the_largest_ids_come_back(id: int) -> None:
    """Exactly as they were."""
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(text(b'{"op":"ping","id":%d}' % id))
        assert (await peer.next("pong"))["id"] == id
        await peer.put(text(b'{"op":"ping","id":-0}'))
        assert (await peer.next("pong"))["id"] == 0


HTTP_WRONG = {
    "-1": "-1",
    "2^53": str(2**53),
    "2^63": str(2**63),
    "2^64": str(2**64),
    "300 digits": "9" * 300,
    "1,900 digits": "9" * 1_900,
    "1.5": "1.5",
    "1e3": "1e3",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "0x10": "0x10",
    "nothing": "",
    "a space": "%201%20x",
    "NUL": "1%00",
    "CR LF": "1%0d%0aX-Forged:%201",
    "Arabic digits": "%D9%A1",
}


@pytest.mark.parametrize("name", HTTP_WRONG)
async def test_a_number_in_a_query_that_is_wrong(name: str) -> None:
    """``after`` and ``limit`` of the HTTP port: a problem document, nothing of it in a header. A limit may be as large as it
    likes: the node has its own."""
    async with http_scene() as (_, port):
        for field in ("after", "limit"):
            line = f"GET /v1/streams/{ROOM}/events?{field}={HTTP_WRONG[name]} HTTP/1.1\r\n".encode()
            bearer = b"Authorization: Bearer " + token("user:mallory").encode()
            answer = await said(port, line + b"Host: a\r\n" + bearer + b"\r\nConnection: close\r\n\r\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"forged" not in head.lower()
            if field == "limit" and HTTP_WRONG[name].isdigit():
                assert head.startswith(b"HTTP/1.1 200 "), answer[:300]
                continue
            assert head.split(b" ")[1] in (b"400", b"422"), (field, answer[:300])
            assert b"application/problem+json" in head
            assert orjson.loads(body)["code"] == "bad_request"
